"""Checkpoints of a run: written atomically, verified when read.

    checkpoints/000001200/state.safetensors   every tensor and array of the state
                          facts.json          its numbers, strings, structure; facts of the replay
                          replay/             the files of the replay memory
                          checksums.json      SHA-256 of the files above (the replay has its own)
                          COMPLETE            SHA-256 of checksums.json
    checkpoints/latest                        the name of the newest checkpoint

A checkpoint is written to a folder `*.part`, flushed to disk and renamed, so that a crash leaves
the previous checkpoint intact. Nothing is unpickled: reading a checkpoint cannot execute code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from sdewm.data.replay import LayoutError

KEPT = 2  # number of checkpoints on disk: the newest, and one to fall back to
POINTER, MARKER, CHECKSUMS = "latest", "COMPLETE", "checksums.json"
STATE, FACTS, REPLAY = "state.safetensors", "facts.json", "replay"


class CheckpointError(OSError):
    """A checkpoint cannot be written, or no valid checkpoint exists."""


class Memory(Protocol):
    """An object that saves itself to files beside the state: the replay memory."""

    def save(self, directory: Path, previous: Path | None) -> dict[str, Any]:
        """Write to `directory`; files may be shared with `previous` by hard links."""
        ...

    def load(self, directory: Path, facts: Mapping[str, Any]) -> None:
        """Read a save.

        A damaged file raises a ValueError, a save of another layout a LayoutError.
        """
        ...


class Checkpoints:
    """The checkpoints of one run; the last two remain on disk.

    Args:
        directory: the folder `checkpoints` of the run; created by the first `save`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(Path(folder))
    ...     place = checkpoints.save(12, {"weights": {"bias": torch.ones(2)}, "updates": 12})
    ...     place.name, Checkpoints(Path(folder)).load()
    ('000000012', {'weights': {'bias': tensor([1., 1.])}, 'updates': 12})
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.last: Path | None = None  # what this object saved or loaded last
        self.lost_rows = False  # whether the last load found no valid replay memory

    def exist(self) -> bool:
        """Whether there is any checkpoint, valid or damaged."""
        return bool(self._folders())

    def save(self, updates: int, state: Mapping[str, object], memory: Memory | None = None) -> Path:
        """Write a checkpoint and remove all but the last two.

        Args:
            updates: number of gradient updates made, which names the folder.
            state: nested dicts, lists and tuples of tensors, arrays, numbers, strings and None.
            memory: the replay memory; None: it is not saved.

        Returns:
            The folder of the checkpoint.

        Raises:
            CheckpointError: the disk is full or fails; earlier checkpoints are unchanged.
            TypeError: a value of another type.
        """
        folder = self._free_name(updates)
        aside = folder.with_name(folder.name + ".part")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for leftover in self.directory.glob("*.part"):  # of a killed save
                shutil.rmtree(leftover)
            aside.mkdir()
            self._fill(aside, state, memory)
            os.rename(aside, folder)
            _flush(self.directory)
            self._point_to(folder)
        except (OSError, SafetensorError) as problem:
            shutil.rmtree(aside, ignore_errors=True)
            raise CheckpointError(self._loss(folder, problem)) from problem
        kept, self.last = self.last, folder
        for other in self._folders():
            if other not in (folder, kept):
                shutil.rmtree(other, ignore_errors=True)
        return folder

    def load(
        self,
        memory: Memory | None = None,
        compare: Callable[[Mapping[str, Any]], None] = lambda state: None,
    ) -> dict[str, Any]:
        """The newest valid state; damaged checkpoints are reported on stderr and skipped.

        Checkpoints share files of the replay memory, so that one damaged byte may concern them
        all. The newest valid state is then returned without the memory, which stays empty, and
        `lost_rows` is true.

        Args:
            memory: the replay memory to fill; None: it is not read.
            compare: called with a valid state before the memory is filled.

        Raises:
            CheckpointError: there is no checkpoint, or no valid one.
            LayoutError: the memory has another layout than the saved one.
        """
        folders = self._folders()
        without_rows: tuple[Path, dict[str, Any]] | None = None
        self.lost_rows = False
        for folder in folders:
            state: dict[str, Any] | None = None
            try:
                state, facts = _read(folder)
                compare(state)
                if memory is not None:
                    memory.load(folder / REPLAY, facts)
            except LayoutError:
                raise
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as problem:
                sys.stderr.write(f"checkpoint {folder} is damaged: {problem}\n")
                if state is not None and without_rows is None:
                    without_rows = folder, state
                continue
            if folder != folders[0]:
                sys.stderr.write(f"using the previous checkpoint: {folder}\n")
            self.last = folder
            return state
        if without_rows is not None:
            self.last, state = without_rows
            self.lost_rows = True
            sys.stderr.write(f"using {self.last} without its replay memory, which is lost.\n")
            compare(state)
            return state
        raise CheckpointError(
            f"{self.directory}: none of its {len(folders)} checkpoints is valid; restore the "
            "folder from a backup, undo any change to config.json, or start a new run."
            if folders
            else f"{self.directory}: there is no checkpoint yet."
        )

    def _fill(self, aside: Path, state: Mapping[str, object], memory: Memory | None) -> None:
        tensors: dict[str, torch.Tensor] = {}
        facts: dict[str, object] = {"state": _encode(state, "", tensors), "replay": None}
        if memory is not None:
            (aside / REPLAY).mkdir()
            previous = None if self.last is None else self.last / REPLAY
            facts["replay"] = memory.save(aside / REPLAY, previous)
        contents = {
            STATE: safetensors.torch.save(tensors),  # bytes: a full disk is then an OSError
            FACTS: json.dumps(facts, ensure_ascii=False, indent=1).encode(),
        }
        for name, content in contents.items():
            _write(aside / name, content)
        sums = {name: _digest(content) for name, content in contents.items()}
        listing = json.dumps(sums, indent=1).encode()
        _write(aside / CHECKSUMS, listing)
        _flush(*(path for path in aside.rglob("*")), aside)
        _write(aside / MARKER, _digest(listing).encode())
        _flush(aside)

    def _point_to(self, folder: Path) -> None:
        aside = self.directory / (POINTER + ".new")
        _write(aside, folder.name.encode())
        os.replace(aside, self.directory / POINTER)
        _flush(self.directory)

    def _free_name(self, updates: int) -> Path:
        """`<updates>`, or `<updates>-2` … if no update was made since the last checkpoint."""
        name, number = f"{updates:09d}", 1
        while (folder := self.directory / (name if number == 1 else f"{name}-{number}")).exists():
            number += 1
        return folder

    def _folders(self) -> list[Path]:
        """Every checkpoint: the one named in `latest`, then the others, newest first."""
        if not self.directory.is_dir():
            return []
        found = {}
        for path in self.directory.iterdir():
            if match := re.fullmatch(r"(\d{9,})(?:-(\d+))?", path.name):
                found[path.name] = (int(match[1]), int(match[2] or 1))
        try:
            pointed = (self.directory / POINTER).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            pointed = ""
        names = sorted(found, key=lambda name: (name == pointed, found[name]), reverse=True)
        return [self.directory / name for name in names]

    def _loss(self, folder: Path, problem: Exception) -> str:
        before = "there is no earlier checkpoint"
        if self.last is not None:
            before = f"the previous checkpoint, {self.last}, is unchanged"
        return f"checkpoint {folder} could not be written ({problem}); {before}."


def kept_weights(run: Path, updates: int) -> Checkpoints:
    """Where the weights after a number of updates are kept for good."""
    return Checkpoints(run / "kept" / f"{updates:09d}")


def tensors_of(state: object, name: str = "") -> Iterable[tuple[str, torch.Tensor]]:
    """Every tensor of a nested state with its '/'-joined name.

    >>> [name for name, _ in tensors_of({"critic": {"bias": torch.zeros(1)}, "updates": 3})]
    ['critic/bias']
    """
    if isinstance(state, torch.Tensor):
        yield name, state
    pairs: Iterable[tuple[object, object]] = ()
    if isinstance(state, Mapping):
        pairs = state.items()
    elif isinstance(state, (list, tuple)):
        pairs = enumerate(state)
    for key, value in pairs:
        yield from tensors_of(value, f"{name}/{key}" if name else str(key))


def _encode(value: object, name: str, tensors: dict[str, torch.Tensor]) -> object:
    """JSON for a nested value; its tensors and arrays go to `tensors` under '/'-joined names."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        if name in tensors:
            raise ValueError(f"two tensors of the state have the name {name!r}.")
        kind = "tensor" if isinstance(value, torch.Tensor) else "array"
        # A copy: safetensors refuses tensors that share memory.
        copied = value if isinstance(value, torch.Tensor) else torch.tensor(np.asarray(value))
        tensors[name] = copied.detach().to("cpu", copy=True).contiguous()
        return {kind: name}
    start = f"{name}/" if name else ""
    if isinstance(value, Mapping):
        return {
            "dict": [[key, _encode(item, f"{start}{key}", tensors)] for key, item in value.items()]
        }
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{start}{place}", tensors) for place, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    raise TypeError(
        f"state[{name!r}] is {type(value).__name__}: expected tensors, arrays, numbers, strings, "
        "None, or nested dicts, lists and tuples of them."
    )


def _decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)


def _read(folder: Path) -> tuple[dict[str, Any], Any]:
    """State and facts of the replay, after verification of every checksum."""
    marker = folder / MARKER
    if not marker.is_file():
        raise ValueError(f"{MARKER} is missing")
    listing = (folder / CHECKSUMS).read_bytes()
    if _digest(listing) != marker.read_text("ascii"):
        raise ValueError(f"the SHA-256 of {CHECKSUMS} differs from that in {MARKER}")
    contents = {}
    for name, digest in json.loads(listing).items():
        contents[name] = (folder / name).read_bytes()
        if _digest(contents[name]) != digest:
            raise ValueError(f"the SHA-256 of {name} differs from that in {CHECKSUMS}")
    facts = json.loads(contents[FACTS])
    return _decode(facts["state"], safetensors.torch.load(contents[STATE])), facts["replay"]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(*paths: Path) -> None:
    """Flush files and folders to disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
