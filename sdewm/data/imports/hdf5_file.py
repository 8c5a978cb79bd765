"""HDF5 files as D4RL writes them: all episodes of a dataset in one table.

The file holds observations, actions, rewards, terminals and timeouts with N rows each. Row t holds
the action taken after observation t. An episode ends where terminals or timeouts is set; the last
one may be cut off. Only next_observations, where it is there, holds the last observation of an
episode: without it, the last action and reward lead to an observation that is not recorded.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sdewm.data.imports.recording import Recording, StoredEpisode, files_digest

AFTER = "next_observations"
NEEDED = ("observations", "actions", "rewards", "terminals", "timeouts")


def open_hdf5(source: Path) -> Recording:
    """The recording in an HDF5 file.

    Raises:
        ValueError: h5py is not installed, or the file has another layout.
    """
    ends = _ends(source)

    def read() -> Iterator[StoredEpisode]:
        with _opened(source) as file:
            for number, (first, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                yield _episode(file, number, first, end)

    return Recording("hdf5", source.name, "next", files_digest([source]), len(ends), read)


def _opened(source: Path) -> Any:
    try:
        h5py: Any = importlib.import_module("h5py")
    except ModuleNotFoundError as problem:
        raise ValueError(
            f"{source.name} needs h5py: pip install 'sdewm[hdf5]', or pip install h5py."
        ) from problem
    try:
        return h5py.File(source, "r")
    except OSError as problem:
        raise ValueError(f"{source} cannot be read as an HDF5 file: {problem}") from problem


def _ends(source: Path) -> list[int]:
    """One past the last row of each episode, after a check of the layout."""
    with _opened(source) as file:
        if missing := [name for name in NEEDED if name not in file]:
            raise ValueError(
                f"{source.name} has no {', '.join(missing)}, only {', '.join(file) or 'nothing'}; "
                f"expected the layout of D4RL: {', '.join(NEEDED)}."
            )
        lengths = {name: len(file[name]) for name in NEEDED[1:]}
        seen, after = (_arrays(file, name) for name in ("observations", AFTER))
        lengths |= {name: len(rows) for name, rows in seen.items()}
        lengths |= {
            name if name == AFTER else f"{AFTER}/{name}": len(rows) for name, rows in after.items()
        }
        if after and len(seen) + len(after) > 2 and {*seen} != {*after}:
            raise ValueError(
                f"{source.name} has observations {', '.join(seen)}, but {AFTER} "
                f"{', '.join(after)}: expected the same names."
            )
        if len({*lengths.values()}) > 1 or not lengths["actions"]:
            raise ValueError(
                f"{source.name} has the numbers of rows {lengths}: expected the same, at least 1."
            )
        rows = lengths["actions"]
        over = _flags(file, "terminals", rows) | _flags(file, "timeouts", rows)
    ends = (np.flatnonzero(over) + 1).tolist()
    return ends if ends and ends[-1] == rows else [*ends, rows]


def _flags(file: Any, name: str, rows: int) -> np.ndarray:
    """Truth values (rows,) of truth values or numbers 0 and 1, (rows,) or (rows, 1)."""
    given = np.asarray(file[name][()])  # h5py converts no numbers to truth values
    if given.size != rows or not np.isin(given, (0, 1)).all():
        raise ValueError(
            f"{Path(file.filename).name} has {name} of shape {given.shape} with the values "
            f"{np.unique(given)[:4].tolist()}: expected {rows} numbers, each 0 or 1."
        )
    return given.reshape(rows).astype(bool)


def _arrays(file: Any, name: str) -> dict[str, Any]:
    """The arrays of a group by name, or the only array under its own name; {} without it."""
    if name not in file:
        return {}
    part = file[name]
    return {key: part[key] for key in part} if hasattr(part, "keys") else {name: part}


def _episode(file: Any, number: int, first: int, end: int) -> StoredEpisode:
    seen = {name: rows[first:end] for name, rows in _arrays(file, "observations").items()}
    terminated = bool(file["terminals"][end - 1])
    if after := _arrays(file, AFTER):
        if len(after) == 1:  # an array may have another name than the one in a group
            after = dict(zip(seen, after.values(), strict=True))
        seen = {
            name: np.concatenate([rows, after[name][end - 1 : end]]) for name, rows in seen.items()
        }
    actions, rewards = file["actions"][first:end], file["rewards"][first:end]
    return StoredEpisode(f"episode {number}", seen, actions, rewards, terminated)
