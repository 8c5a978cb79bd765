"""Ring buffers: the last time steps of several environments, one array per field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.data.chunks import DTYPES

Values = Mapping[str, np.ndarray | Tensor]


@dataclass(frozen=True)
class Field:
    """A field of a row: shape, dtype, and whether `Replay.write` may change it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    mutable: bool = False

    @property
    def bytes(self) -> int:
        """Size of the field in one row, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Rings:
    """Arrays (envs, time, elements of the field); step t, counted from the first, is at t % time.

    On the CPU the arrays are reserved at once as virtual memory: the memory of the process grows
    with the rows written. On a GPU they are allocated at once.

    Args:
        fields: the fields of a row by name.
        envs: number of environments.
        time: number of time steps stored.
        device: device of the arrays.

    Raises:
        ValueError: a field with a size or a dtype that is not allowed.
        MemoryError: the machine or the device cannot reserve `bytes`.
    """

    def __init__(
        self, fields: Mapping[str, Field], envs: int, time: int, device: torch.device
    ) -> None:
        for name, field in fields.items():
            _check_field(name, field)
        if not fields:
            raise ValueError("fields={}: expected at least one field.")
        self.fields, self.envs, self.time, self.device = dict(fields), envs, time, device
        try:
            self.arrays = {name: self._reserve(field) for name, field in fields.items()}
        except (MemoryError, torch.OutOfMemoryError) as problem:
            raise MemoryError(
                f"{envs * time} rows need {self.bytes / 2**30:.1f} GiB on {device}, more than is "
                "available; use a smaller capacity or another device."
            ) from problem

    @property
    def bytes(self) -> int:
        """Size of the full arrays in bytes."""
        return self.time * self.step_bytes([*self.fields])

    def step_bytes(self, names: Sequence[str]) -> int:
        """Size of the named fields for one time step of all environments, in bytes."""
        return self.envs * sum(self.fields[name].bytes for name in names)

    def flat(self, name: str) -> Tensor:
        """One field as a list of rows: step t of environment i is at i·time + t % time."""
        return self.arrays[name].view(self.envs * self.time, -1)

    def put(self, first: int, values: Mapping[str, Tensor]) -> None:
        """Write values (envs, T, …) at the steps first … first + T − 1, T ≤ time."""
        for name, value in values.items():
            rows = value.reshape(self.envs, value.shape[1], -1)
            for place, part in self._spans(first, first + value.shape[1]):
                self.arrays[name][:, place].copy_(rows[:, part])

    def gather(self, names: Sequence[str], first: int, last: int) -> dict[str, Tensor]:
        """Steps first … last−1, (envs, last − first, …) per field."""
        places = [place for place, _ in self._spans(first, last)]
        return {
            name: torch.cat([self.arrays[name][:, place] for place in places], dim=1).view(
                self.envs, last - first, *self.fields[name].shape
            )
            for name in names
        }

    def _spans(self, first: int, last: int) -> list[tuple[slice, slice]]:
        """Slices of the arrays and of the steps first … last−1; two pairs where the ring wraps."""
        start, count = first % self.time, last - first
        before = min(count, self.time - start)
        spans = [(slice(start, start + before), slice(0, before))]
        if before < count:
            spans.append((slice(0, count - before), slice(before, count)))
        return spans

    def check_rows(self, rows: Values, leading: tuple[int, ...]) -> dict[str, Tensor]:
        """Rows as tensors, (*leading, …) per field.

        Raises:
            ValueError: other fields, shapes or dtypes.
        """
        if rows.keys() != self.fields.keys():
            raise ValueError(f"rows have the fields {[*rows]}; expected {[*self.fields]}.")
        tensors = {}
        for name, value in rows.items():
            if isinstance(value, np.ndarray):
                value = torch.from_numpy(np.require(value, requirements=("C", "W")))
            self.check_value(name, value, leading)
            tensors[name] = value.detach()
        return tensors

    def check_value(self, name: str, value: Tensor, leading: tuple[int, ...]) -> None:
        """Check that a value has the shape (*leading, *field.shape) and the field's dtype.

        Raises:
            ValueError: another shape or dtype.
        """
        field = self.fields[name]
        if value.shape != (*leading, *field.shape) or value.dtype != field.dtype:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)} and {value.dtype}; expected "
                f"{(*leading, *field.shape)} and {field.dtype}."
            )

    def _reserve(self, field: Field) -> Tensor:
        """(envs, time, elements), not touched."""
        shape = (self.envs, self.time, math.prod(field.shape))
        if self.device.type != "cpu":
            return torch.empty(shape, dtype=field.dtype, device=self.device)
        # Not torch.empty, which fills the array if deterministic algorithms are enabled.
        untouched = np.empty(math.prod(shape) * field.dtype.itemsize, np.uint8)
        return torch.from_numpy(untouched).view(field.dtype).view(shape)


def _check_field(name: str, field: Field) -> None:
    for size in field.shape:
        check_count(f"{name}: a size of its shape", size)
    if field.dtype not in DTYPES:
        raise ValueError(f"{name}: dtype={field.dtype}; expected one of {[*map(str, DTYPES)]}.")
