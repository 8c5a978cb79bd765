"""Folders of npz files with one episode each, as dreamerv3-torch writes them.

A file holds the arrays action, reward and one for each observation, with T rows each, and any of
is_first, is_last, is_terminal and discount. Row t holds the action that led to observation t, so
that the first one is 0. (Files of danijar/dreamerv3 hold the action taken after observation t.)
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sdewm.data.imports.recording import Recording, StoredEpisode, files_digest

NOT_OBSERVED = ("action", "reward", "discount", "logprob", "is_first", "is_last", "is_terminal")


def open_npz(source: Path) -> Recording:
    """The recording in a folder of npz files, or in one of them.

    Raises:
        ValueError: there is no npz file.
    """
    paths = sorted(source.glob("*.npz")) if source.is_dir() else [source]
    if not paths:
        below = sorted(
            {path.parent.relative_to(source).as_posix() for path in source.rglob("*.npz")}
        )
        hint = f"; there are some in {', '.join(below[:3])}" if below else ""
        raise ValueError(f"{source} holds no npz files{hint}.")

    def read() -> Iterator[StoredEpisode]:
        yield from map(_read_file, paths)

    return Recording("npz", source.name, "previous", files_digest(paths), len(paths), read)


def _read_file(path: Path) -> StoredEpisode:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as problem:
        raise ValueError(f"{path} cannot be read as an npz file: {problem}") from problem
    if missing := [name for name in ("action", "reward") if name not in arrays]:
        raise ValueError(
            f"{path} has no {' and no '.join(missing)}, only {', '.join(arrays) or 'nothing'}; "
            "expected an episode as dreamerv3-torch writes it."
        )
    seen = {
        name: rows
        for name, rows in arrays.items()
        if name not in NOT_OBSERVED and not name.startswith("log_")
    }
    if not seen:
        raise ValueError(f"{path} has no observations, only {', '.join(arrays)}.")
    if "is_first" in arrays and (starts := np.flatnonzero(arrays["is_first"]).tolist()) != [0]:
        raise ValueError(
            f"{path} has is_first in rows {starts}: expected one episode, from its first row on."
        )
    last = arrays["reward"].size - 1
    for name in ("is_last", "is_terminal"):
        if (ends := np.flatnonzero(arrays.get(name, ())).tolist()) not in ([], [last]):
            raise ValueError(
                f"{path} has {name} in rows {ends}: expected one episode, which ends in its last "
                f"row, {last}."
            )
    terminated = None
    if "is_terminal" in arrays:
        terminated = bool(arrays["is_terminal"][-1])
    elif "discount" in arrays:
        if (ends := np.flatnonzero(arrays["discount"] == 0).tolist()) not in ([], [last]):
            raise ValueError(
                f"{path} has discount 0 in rows {ends}: expected one episode, which ends in its "
                f"last row, {last}."
            )
        terminated = bool(ends)
    return StoredEpisode(path.name, seen, arrays["action"], arrays["reward"], terminated)
