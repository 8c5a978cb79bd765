"""Replay memory: the latest rows of each environment, from which windows are drawn uniformly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_count, check_device
from sdewm.data.replay_files import RowFiles
from sdewm.data.rings import Field, Rings, Values

__all__ = ["Field", "Replay", "Windows"]


@dataclass(frozen=True, eq=False)
class Windows:
    """Positions of sampled windows, for `Replay.write`.

    Attributes:
        places: (B, T), index of each row in the memory viewed as one list of rows; on its device.
        starts: (B,), time step of each window's first row, counted from the first row ever added.
        oldest: the oldest time step in memory when the windows were drawn.
    """

    places: Tensor
    starts: Tensor
    oldest: int


class LayoutError(ValueError):
    """A save whose fields, capacity or number of environments are not those of the memory."""


class Replay:
    """A ring buffer of rows, with one ring for each of `envs` environments stepped together.

    Each field is one array (envs, time, …), so that a window is contiguous and a sample is one
    gather per field. On the CPU the arrays are reserved at once as virtual memory: the memory of
    the process grows with the rows written, up to `bytes`. On a GPU all `bytes` are allocated at
    once.

    Args:
        fields: the fields of a row by name.
        capacity: maximum number of rows over all environments; each environment stores its last
            capacity // envs rows.
        envs: number of environments.
        device: device of the stored rows and of the samples; None: the CPU.
        seed: seed of the generator that draws the windows.

    Raises:
        ValueError: an argument out of range.
        MemoryError: the machine or the device cannot reserve `bytes`.

    >>> replay = Replay({"reward": Field((), torch.float32)}, capacity=8, envs=2, seed=0)
    >>> for step in range(6):
    ...     replay.add({"reward": torch.tensor([step, 10.0 + step])})
    >>> len(replay), replay.bytes  # each environment's last 4
    (8, 32)
    >>> replay.sample(2, 3)[0]["reward"]
    tensor([[ 3.,  4.,  5.],
            [13., 14., 15.]])
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        *,
        capacity: int,
        envs: int,
        device: str | torch.device | None = None,
        seed: int,
    ) -> None:
        self.fields = dict(fields)
        self.envs = check_count("envs", envs)
        self.capacity = check_count("capacity", capacity, minimum=self.envs)
        self.device = check_device(device)
        self._time = self.capacity // self.envs  # time steps that fit
        self._added = 0  # time steps ever added
        self._generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
        self._rings = Rings(self.fields, self.envs, self._time, self.device)
        kinds: dict[str, list[str]] = {"rows": [], "refreshed": []}
        for name, field in self.fields.items():
            kinds["refreshed" if field.mutable else "rows"].append(name)
        self._files = {
            kind: RowFiles(kind, self._rings.step_bytes(names), partial(self._rings.gather, names))
            for kind, names in kinds.items()
            if names
        }

    @property
    def bytes(self) -> int:
        """Size of the full arrays in bytes."""
        return self._rings.bytes

    def __len__(self) -> int:
        """Rows in memory, of all environments together."""
        return self.envs * (self._added - self._oldest)

    def can_sample(self, length: int) -> bool:
        """Whether the memory already holds a window of `length` rows.

        Raises:
            ValueError: the capacity is too small for any such window.
        """
        if check_count("length", length) > self._time:
            raise ValueError(
                f"length={length}: capacity={self.capacity} stores only {self._time} rows of each "
                f"of {self.envs} environments; use a capacity of at least {length * self.envs}."
            )
        return self._added - self._oldest >= length

    def add(self, rows: Values) -> None:
        """Add one row of each environment, (envs, …) per field, overwriting the oldest rows.

        Raises:
            ValueError: other fields, shapes or dtypes than `fields`; nothing is added.
        """
        checked = self._rings.check_rows(rows, (self.envs,))
        self._rings.put(self._added, {name: value[:, None] for name, value in checked.items()})
        self._added += 1

    def extend(self, rows: Values) -> None:
        """Add T consecutive rows of each environment, (envs, T, …) per field, T ≤ capacity // envs.

        Raises:
            ValueError: other fields, shapes or dtypes than `fields`, or too many rows; nothing is
                added.
        """
        steps = {x.shape[1] if x.ndim > 1 else 0 for x in rows.values()} or {0}
        count = check_count("rows per environment", max(steps), 1, self._time)
        self._rings.put(self._added, self._rings.check_rows(rows, (self.envs, count)))
        self._added += count

    def sample(
        self, batch: int, length: int, context: int = 0
    ) -> tuple[dict[str, Tensor], Windows]:
        """Draw windows of context + length rows, uniformly over all windows in memory.

        A window consists of consecutive rows of one environment. It may contain the end of an
        episode and the start of the next, which `is_first` marks. All windows are equally likely,
        so the oldest and the newest rows are drawn less often than the others.

        Returns:
            The fields, (batch, context + length, …) each, and their positions, for `write`.

        Raises:
            ValueError: the memory does not hold a window of that many rows; `length` is below 1, or
                `context` below 0.
        """
        window = check_count("length", length) + check_count("context", context, minimum=0)
        if not self.can_sample(window):
            raise ValueError(
                f"length={length}, context={context}: only {self._added - self._oldest} rows of "
                "each environment are in memory so far."
            )
        choices = self._added - self._oldest - window + 1
        drawn = torch.randint(
            choices * self.envs, (check_count("batch", batch),), generator=self._generator
        )
        starts = self._oldest + drawn % choices  # (B,)
        steps = (starts[:, None] + torch.arange(window)) % self._time
        places = (drawn // choices * self._time)[:, None] + steps  # (B, T)
        places = places.to(self.device, non_blocking=True)
        flat = places.flatten()
        sampled = {
            name: self._rings.flat(name).index_select(0, flat).view(batch, window, *field.shape)
            for name, field in self.fields.items()
        }
        return sampled, Windows(places, starts, self._oldest)

    def write(self, windows: Windows, values: Mapping[str, Tensor]) -> None:
        """Overwrite mutable fields of sampled windows, for example with refreshed latent states.

        Rows that have left the memory since the windows were drawn are skipped. A row that lies in
        several windows takes all its fields from the last of them.

        Args:
            windows: the positions returned by `sample`.
            values: (B, T, …) by name, for the last T rows of each window.

        Raises:
            ValueError: a field that is not mutable, or another shape or dtype; nothing is written.
        """
        if not values:
            return
        batch, window = windows.places.shape
        count = min(window, max(x.shape[1] if x.ndim > 1 else 0 for x in values.values()))
        for name, value in values.items():
            if name not in self.fields or not self.fields[name].mutable:
                allowed = [name for name, field in self.fields.items() if field.mutable]
                raise ValueError(f"{name!r} is not a mutable field; expected some of {allowed}.")
            self._rings.check_value(name, value, (batch, count))
        places = windows.places[:, window - count :].flatten()
        # Of equal places the last: its values go to all of them, so their order does not matter.
        ordered, order = places.sort(stable=True)
        chosen = order[torch.searchsorted(ordered, places, right=True) - 1]
        if self._oldest > windows.oldest:
            steps = windows.starts[:, None] + torch.arange(window - count, window)
            kept = (steps >= self._oldest).flatten().to(self.device)
            places, chosen = places[kept], chosen[kept]
        for name, value in values.items():
            flat = value.detach().to(self.device).reshape(batch * count, -1)
            self._rings.flat(name).index_copy_(0, places, flat.index_select(0, chosen))

    def save(self, directory: Path, previous: Path | None = None) -> dict[str, Any]:
        """Save the rows and the state of the generator in a folder that holds no save yet.

        Rows are written in files of 64 MiB. Files that are complete in the previous save are
        hard-linked, the others are written. Mutable fields are always written in full.

        Args:
            directory: the folder; created if missing.
            previous: present folder of the last save of this object, or of the save it loaded;
                None: every file is written.

        Returns:
            The facts that `load` needs, as JSON-compatible values.

        Raises:
            FileExistsError: the folder already holds a save.
            OSError: the disk is full or fails; no file of this save remains.
        """
        directory.mkdir(parents=True, exist_ok=True)
        if found := self._saved_in(directory):
            raise FileExistsError(f"{directory} already holds a save of a replay: {found[0].name}.")
        files = {}
        try:
            for kind, some in self._files.items():
                base = previous if kind == "rows" else None
                files[kind] = some.save(directory, base, self._oldest, self._added)
        except OSError:
            for path in self._saved_in(directory):
                path.unlink(missing_ok=True)
            raise
        generator = self._generator.get_state().numpy().tobytes().hex()
        return {**self._layout(), "steps": self._added, "generator": generator, "files": files}

    def load(self, directory: Path, facts: Mapping[str, Any]) -> None:
        """Restore the rows and the generator of a save; later samples continue its sequence.

        Raises:
            LayoutError: the save has other fields, capacity or envs.
            ValueError: one of its files is missing or damaged; the memory is then empty.
        """
        for name, value in self._layout().items():
            if facts[name] != value:
                raise LayoutError(f"{directory}: saved with {name}={facts[name]}; this is {value}.")
        self._added = 0
        newest = facts["steps"]
        oldest = max(0, newest - self._time)
        try:
            for kind, some in self._files.items():
                for first, values in some.load(directory, facts["files"][kind], oldest, newest):
                    self._rings.put(first, values)
        except (ValueError, OSError):  # no file may be linked to rows that are not in memory
            for some in self._files.values():
                some.forget()
            raise
        self._added = newest
        state = np.frombuffer(bytes.fromhex(facts["generator"]), np.uint8)
        self._generator.set_state(torch.from_numpy(state.copy()))

    @property
    def _oldest(self) -> int:
        """The oldest time step in memory."""
        return max(0, self._added - self._time)

    def _layout(self) -> dict[str, Any]:
        fields = {
            name: [list(field.shape), str(field.dtype).removeprefix("torch."), field.mutable]
            for name, field in self.fields.items()
        }
        return {"capacity": self.capacity, "envs": self.envs, "fields": fields}

    def _saved_in(self, directory: Path) -> list[Path]:
        return sorted(p for kind in self._files for p in directory.glob(f"{kind}-*.safetensors"))
