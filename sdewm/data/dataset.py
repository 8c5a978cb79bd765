"""Recorded episodes on disk, for training a world model without an environment.

    manifest.json                     provenance, fields of a row, checksums of the files below
    episodes-000000000.safetensors    complete episodes, concatenated: (rows, …) per field

The manifest is rewritten after each file and marked "complete" only at the end. An interrupted
recording can therefore be resumed and is never mistaken for a complete one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sdewm.base.fields import NonNegativeInt, PositiveInt, read_facts
from sdewm.base.records import dump_json
from sdewm.data.chunks import DTYPES, ChunkFacts, check_chunk, read_chunk, write_chunk
from sdewm.data.replay import Field, Replay

MANIFEST = "manifest.json"
FILE_BYTES, FILE_EPISODES = 64 << 20, 32  # a file is written when either limit is reached
RECIPE = ("env", "obs", "action_repeat", "policy", "seed")  # facts that determine the rows
LATER_RECIPE = ("env_kwargs", "time_limit")  # the same; older datasets lack them, and had none
SOURCE = "source"  # the fact that does so in an imported dataset
UNKNOWN = "unknown"  # a fact that an imported dataset does not have
NOTES = ("command", "commit")
Episode = Mapping[str, np.ndarray | Tensor]
DTYPE_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


@dataclass(frozen=True)
class _Chunk(ChunkFacts):
    """One file: episodes of these lengths, concatenated."""

    lengths: list[PositiveInt]


@dataclass(frozen=True)
class _Manifest:
    """The entries that every manifest has."""

    env: str
    obs: str
    action_repeat: PositiveInt | Literal["unknown"]
    policy: str
    seed: NonNegativeInt | Literal["unknown"]
    complete: bool
    rows: NonNegativeInt
    episodes: NonNegativeInt
    fields: dict[str, tuple[list[NonNegativeInt], Literal[tuple(DTYPE_NAMES)]]]  # type: ignore[valid-type]
    chunks: list[_Chunk]


@dataclass(frozen=True)
class Dataset:
    """A recorded dataset; iterating it reads its episodes in order, (T, …) tensors per field.

    Attributes:
        directory: folder of the dataset.
        facts: its manifest: env, obs, action_repeat, policy, seed, command, commit and more.
        fields: shape and dtype of each field of a row.
        rows: total number of rows.
        episodes: number of episodes.
    """

    directory: Path
    facts: dict[str, Any]
    fields: dict[str, Field]
    rows: int
    episodes: int

    @property
    def digest(self) -> str:
        """SHA-256 of the checksums of all files: it identifies the episodes."""
        sums = [chunk["sha256"] for chunk in self.facts["chunks"]]
        return hashlib.sha256(" ".join(sums).encode()).hexdigest()

    @property
    def lengths(self) -> list[int]:
        """Number of rows of each episode."""
        return [length for chunk in self.facts["chunks"] for length in chunk["lengths"]]

    @property
    def action_groups(self) -> tuple[int, ...]:
        """Classes of each group of one-hot actions; empty for continuous actions.

        Datasets without the entry were recorded before there were discrete actions.
        """
        return tuple(self.facts.get("action_groups", ()))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Iterate over the episodes; a damaged file raises a ValueError that names it."""
        for chunk in self.facts["chunks"]:
            tensors = read_chunk(self.directory, chunk)
            rows = sum(chunk["lengths"])
            found = {name: Field(tuple(x.shape[1:]), x.dtype) for name, x in tensors.items()}
            if found != self.fields or any(x.shape[:1] != (rows,) for x in tensors.values()):
                raise ValueError(
                    f"{self.directory / chunk['name']} does not hold what {MANIFEST} says: {rows} "
                    f"rows of {', '.join(map(repr, self.fields))}."
                )
            parts = {name: value.split(chunk["lengths"]) for name, value in tensors.items()}
            for n, length in enumerate(chunk["lengths"]):
                episode = {name: part[n] for name, part in parts.items()}
                if not _is_whole(episode):
                    raise ValueError(
                        f"{self.directory / chunk['name']} does not hold what {MANIFEST} says: an "
                        f"episode of {length} rows, the one with number {n} in this file."
                    )
                yield episode


def write_dataset(
    directory: Path, episodes: Iterable[Episode], facts: Mapping[str, Any]
) -> Dataset:
    """Record episodes, resuming an interrupted recording with the same facts.

    Files of up to 64 MiB or 32 episodes are written as the episodes arrive. If the iteration over
    `episodes` stops early, for example on an interrupt, all complete episodes are saved.

    Args:
        directory: folder of the dataset; created if missing.
        episodes: stacked rows of each episode, (T, …) per field, with `is_first` true in the first
            row only and `is_last` in the last row only. To resume a recording, pass the episodes
            that follow the first `recorded_episodes(directory, facts)`.
        facts: env, obs, action_repeat, policy, seed and, if it is there, source, which must equal
            those of a recording to be resumed; command and commit; and any further entries that
            JSON can hold. What is not known of imported episodes is UNKNOWN.

    Raises:
        ValueError: a fact is missing, the directory holds another recording or a complete one, or
            an episode is incomplete or has other fields than the first.
        OSError: the disk is full or fails. Episodes already written remain.

    >>> import tempfile
    >>> episode = {"reward": torch.ones(3), "is_first": torch.tensor([True, False, False]),
    ...            "is_last": torch.tensor([False, False, True])}
    >>> facts = {"env": "gym:X", "obs": "proprio", "action_repeat": 2, "policy": "random",
    ...          "seed": 0, "command": "sdewm record", "commit": "0123456"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dataset = write_dataset(Path(folder), [episode, episode], facts)
    ...     dataset.rows, dataset.episodes, [len(each["reward"]) for each in dataset]
    (6, 2, [3, 3])
    """
    recorded_episodes(directory, facts)  # refuses what cannot be resumed
    directory.mkdir(parents=True, exist_ok=True)
    recording = _Recording(directory, facts)
    try:
        for episode in episodes:
            recording.add(episode)
    finally:
        recording.flush()
    if not recording.chunks:
        raise ValueError("episodes: expected at least one.")
    recording.write_manifest(complete=True)
    return read_dataset(directory)


def recorded_episodes(directory: Path, facts: Mapping[str, Any]) -> int:
    """Number of episodes in an interrupted recording; 0 if the directory holds none.

    Raises:
        ValueError: a fact is missing, or the directory holds another recording or a complete one.
    """
    if missing := [name for name in (*RECIPE, *NOTES) if name not in facts]:
        raise ValueError(f"facts lack {', '.join(missing)}.")
    if not (directory / MANIFEST).exists():
        return 0
    found = _read_manifest(directory)
    for name in (*RECIPE, *LATER_RECIPE, SOURCE):
        before, now = found.get(name), facts.get(name)
        if before != now and (before or now):
            hint = "use another folder" if found["complete"] else "delete it, or use another folder"
            raise ValueError(
                f"{directory} holds a recording with {name}={before!r}; this one has "
                f"{name}={now!r}: {hint}."
            )
    if found["complete"]:
        raise ValueError(f"{directory} holds a complete recording: use another folder.")
    return found["episodes"]


def read_dataset(directory: Path) -> Dataset:
    """Open a dataset: read its manifest, and check the existence and sizes of its files.

    Checksums are verified when the episodes are read.

    Raises:
        ValueError: there is no dataset, it is incomplete, or a file is missing or damaged.
    """
    if not (directory / MANIFEST).is_file():
        raise ValueError(f"{directory} holds no dataset: {MANIFEST} is missing.")
    facts = _read_manifest(directory)
    if not facts["complete"]:
        raise ValueError(
            f"{directory}: the recording was stopped after {facts['episodes']} episodes; "
            "repeat its command to resume it."
        )
    for chunk in facts["chunks"]:
        check_chunk(directory, chunk)
    fields = {
        name: Field(tuple(shape), DTYPE_NAMES[dtype])
        for name, (shape, dtype) in facts["fields"].items()
    }
    return Dataset(directory, facts, fields, facts["rows"], facts["episodes"])


def is_complete(directory: Path) -> bool:
    """Whether a directory holds a complete recording with all its files."""
    try:
        read_dataset(directory)
    except ValueError:
        return False
    return True


def fill(replay: Replay, dataset: Dataset) -> None:
    """Add all episodes of a dataset, in order, to a replay memory of one environment.

    Fields that only the dataset has are omitted. Mutable fields that only the replay has are zero.

    Raises:
        ValueError: the replay has several environments, which would need episodes of equal
            lengths; its capacity is too small; the dataset lacks one of its fields or stores it in
            another shape or dtype; or a file of the dataset is damaged.
    """
    if replay.envs != 1:
        raise ValueError(f"envs={replay.envs}: expected a replay of one environment.")
    if replay.capacity - len(replay) < dataset.rows:
        raise ValueError(
            f"capacity={replay.capacity}: {dataset.directory} has {dataset.rows} rows and "
            f"{len(replay)} are in memory; use a capacity of at least {len(replay) + dataset.rows}."
        )
    for name, field in replay.fields.items():
        given = dataset.fields.get(name)
        if given is None and field.mutable:
            continue
        if given is None or (given.shape, given.dtype) != (field.shape, field.dtype):
            what = "nothing" if given is None else f"{given.shape} {_name(given.dtype)}"
            raise ValueError(
                f"{name}: {dataset.directory} has {what}; expected {field.shape} "
                f"{_name(field.dtype)}."
            )
    for episode in dataset:
        length = len(next(iter(episode.values())))
        replay.extend(
            {
                name: episode[name][None]
                if name in dataset.fields
                else torch.zeros(1, length, *field.shape, dtype=field.dtype)
                for name, field in replay.fields.items()
            }
        )


class _Recording:
    """A dataset that is being written."""

    def __init__(self, directory: Path, facts: Mapping[str, Any]) -> None:
        found = _read_manifest(directory) if (directory / MANIFEST).exists() else {}
        self.directory, self.facts = directory, dict(facts)
        self.fields: dict[str, list[Any]] = found.get("fields", {})
        self.chunks: list[dict[str, Any]] = found.get("chunks", [])
        self._waiting: list[dict[str, Tensor]] = []

    def add(self, episode: Episode) -> None:
        """Add one complete episode."""
        tensors = {name: torch.as_tensor(value).clone() for name, value in episode.items()}
        layout = {name: [list(x.shape[1:]), _name(x.dtype)] for name, x in tensors.items()}
        self.fields = self.fields or layout
        number = sum(len(chunk["lengths"]) for chunk in self.chunks) + len(self._waiting)
        if layout != self.fields:
            raise ValueError(f"episode {number} has fields {layout}; expected {self.fields}.")
        if len({len(x) for x in tensors.values()}) != 1 or not _is_whole(tensors):
            raise ValueError(
                f"episode {number}: expected fields of one length, is_first true in the first row "
                "only and is_last in the last row only."
            )
        self._waiting.append(tensors)
        size = sum(x.numel() * x.element_size() for one in self._waiting for x in one.values())
        if size >= FILE_BYTES or len(self._waiting) >= FILE_EPISODES:
            self.flush()

    def flush(self) -> None:
        """Write the pending episodes and the manifest."""
        if not self._waiting:
            return
        tensors = {name: torch.cat([one[name] for one in self._waiting]) for name in self.fields}
        lengths = [len(one["is_first"]) for one in self._waiting]
        path = self.directory / f"episodes-{len(self.chunks):09d}.safetensors"
        self.chunks.append({**write_chunk(path, tensors), "lengths": lengths})
        self._waiting = []
        self.write_manifest(complete=False)

    def write_manifest(self, *, complete: bool) -> None:
        lengths = [length for chunk in self.chunks for length in chunk["lengths"]]
        text = dump_json(
            {
                **self.facts,
                "complete": complete,
                "rows": sum(lengths),
                "episodes": len(lengths),
                "fields": self.fields,
                "chunks": self.chunks,
            },
            indent=1,
        )
        aside = self.directory / f"{MANIFEST}.part"
        with aside.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self.directory / MANIFEST)


def _is_whole(episode: Mapping[str, Tensor]) -> bool:
    if not {"is_first", "is_last"} <= episode.keys():
        return False
    first, last = episode["is_first"].nonzero(), episode["is_last"].nonzero()
    return first.tolist() == [[0]] and last.tolist() == [[len(episode["is_last"]) - 1]]


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        facts = read_facts(_Manifest, path.read_text(encoding="utf-8"))
        lengths = [length for chunk in facts["chunks"] for length in chunk["lengths"]]
        for name, counted in (("rows", sum(lengths)), ("episodes", len(lengths))):
            if facts[name] != counted:
                raise ValueError(f"{name}={facts[name]}, but its files have {counted}.")
    except ValueError as problem:
        raise ValueError(f"{path} is not the manifest of a dataset: {problem}") from problem
    return facts


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
