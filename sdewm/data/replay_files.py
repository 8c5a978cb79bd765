"""The rows of a replay memory on disk, in files shared between checkpoints by hard links."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sdewm.data.chunks import read_chunk, write_chunk

FILE_BYTES = 64 << 20  # of one file; also the extra memory that a save or load needs
Identity = tuple[int, int, int, int]


class RowFiles:
    """Time steps first … last−1 of all environments, `steps` of them to a file.

    File k holds the steps k·steps … (k+1)·steps−1, counted from the first row ever added. The last
    file is rewritten as it grows, a full file never. A file is linked only if this object wrote or
    verified it and it has not changed since.

    Args:
        prefix: prefix of the file names.
        step_bytes: bytes of one time step of all environments.
        gather: (first, last) -> the fields of these steps, (envs, last − first, …) each.
    """

    def __init__(
        self, prefix: str, step_bytes: int, gather: Callable[[int, int], dict[str, Tensor]]
    ) -> None:
        self.prefix = prefix
        self.steps = max(1, FILE_BYTES // step_bytes)
        self._gather = gather
        self._known: dict[str, tuple[dict[str, Any], Identity]] = {}

    def save(
        self, directory: Path, previous: Path | None, oldest: int, newest: int
    ) -> list[dict[str, Any]]:
        """Write or link the files of the steps oldest … newest−1.

        Args:
            directory: folder of the files.
            previous: present folder of the previous save; None: nothing is linked.
            oldest: the first step in memory. A linked file may hold older steps.
            newest: the step after the last in memory.

        Returns:
            For each file its first step, its last step + 1 and the facts of `write_chunk`.

        Raises:
            OSError: the disk is full or fails.
        """
        saved = {}
        for number in range(oldest // self.steps, -(-newest // self.steps)):
            name = f"{self.prefix}-{number:09d}.safetensors"
            last = min((number + 1) * self.steps, newest)
            facts = None if previous is None else self._link(name, last, directory, previous)
            if facts is None:
                first = max(number * self.steps, oldest)
                written = write_chunk(directory / name, self._gather(first, last))
                facts = {"first": first, "last": last, **written}
            saved[name] = (facts, _identity(directory / name))
        self._known = saved
        return [facts for facts, _ in saved.values()]

    def load(
        self, directory: Path, files: Sequence[Mapping[str, Any]], oldest: int, newest: int
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """The steps oldest … newest−1 in order: (first step, fields), file by file.

        Raises:
            ValueError: a file is missing or damaged, or no file holds some of the steps.
        """
        known, reached = {}, oldest
        for facts in files:
            if not facts["first"] <= reached < facts["last"]:
                break
            tensors = read_chunk(directory, facts)
            known[facts["name"]] = (dict(facts), _identity(directory / facts["name"]))
            yield reached, {name: x[:, reached - facts["first"] :] for name, x in tensors.items()}
            reached = facts["last"]
        if reached != newest:
            raise ValueError(f"{directory}: no file {self.prefix}-* holds time step {reached}.")
        self._known = known

    def forget(self) -> None:
        """Link no file of earlier saves."""
        self._known = {}

    def _link(self, name: str, last: int, directory: Path, previous: Path) -> dict[str, Any] | None:
        """Link the file and return its facts; None if it must be written."""
        facts, identity = self._known.get(name, (None, None))
        if facts is None or facts["last"] != last:
            return None
        try:
            if _identity(previous / name) != identity:
                return None
            os.link(previous / name, directory / name)
        except OSError:  # gone, or a file system without hard links
            return None
        return facts


def _identity(path: Path) -> Identity:
    """Properties of a file that survive moving and linking but change when it is written."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
