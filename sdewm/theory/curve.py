"""Curves over time with standard errors, and the four norms of a divergence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from sdewm.base.checks import check_key
from sdewm.base.stats import Estimate
from sdewm.theory.origin import Origin

# Of a process D with running supremum D*: E|D|, E|D|², E D*, E (D*)².
NORMS = ("mean", "mean_square", "sup", "sup_square")
_COLUMNS = ("times", "values", "standard_errors", "kurtoses")


@dataclass(frozen=True)
class Curve:
    """Values over the points of a time grid.

    Attributes:
        times: `(T,)`, increasing.
        values: `(T,)`.
        standard_errors: `(T,)`; 0 if a value has no sampling error.
        kurtoses: `(T,)`, see `Estimate.kurtosis`; default: unknown, nan.

    Raises:
        ValueError: the arrays do not have the same shape `(T,)`.

    >>> curve = Curve([0.0, 0.5], [1.0, 1.5], [0.0, 0.1])
    >>> str(curve.at(0.5)), str(curve.last)
    ('1.5 ± 0.1', '1.5 ± 0.1')
    """

    times: np.ndarray
    values: np.ndarray
    standard_errors: np.ndarray
    kurtoses: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kurtoses is None:
            object.__setattr__(self, "kurtoses", np.full(np.shape(self.values), np.nan))
        for name in _COLUMNS:
            array = np.array(getattr(self, name), dtype=float)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        shapes = [getattr(self, name).shape for name in _COLUMNS]
        if len(set(shapes)) > 1 or self.times.ndim != 1:
            raise ValueError(f"{', '.join(_COLUMNS)} have shapes {shapes}: expected (T,).")

    def at(self, time: float) -> Estimate:
        """The value at a point of the grid.

        Raises:
            ValueError: the time is not on the grid.
        """
        index = int(np.abs(self.times - time).argmin())
        spacing = np.diff(self.times).min() if len(self.times) > 1 else 1.0
        if not abs(self.times[index] - time) <= 1e-6 * spacing:  # nan is nowhere
            raise ValueError(
                f"time={time!r} is not on the grid; the nearest point is {self.times[index]!r}."
            )
        value, error, tails = (float(getattr(self, name)[index]) for name in _COLUMNS[1:])
        return Estimate(value, error, tails)

    @property
    def last(self) -> Estimate:
        """The value at the end."""
        return self.at(float(self.times[-1]))

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, eq=False)
class NormCurves(Mapping[str, Curve]):
    """The four norms of a process D over one grid: `curves["mean"]` or `.mean`, and so on.

    Attributes:
        curves: name in NORMS -> Curve.
        origin: the system, start and error measured, for `GradeBound.tightness`; None if unknown.
    """

    curves: dict[str, Curve]
    origin: Origin | None = field(default=None, kw_only=True, repr=False)

    @property
    def times(self) -> np.ndarray:
        """The grid times t_0 … t_N."""
        return self.mean.times

    @property
    def mean(self) -> Curve:
        """E|D_t|."""
        return self.curves["mean"]

    @property
    def mean_square(self) -> Curve:
        """E|D_t|²."""
        return self.curves["mean_square"]

    @property
    def sup(self) -> Curve:
        """E sup_{s ≤ t}|D_s| over the grid."""
        return self.curves["sup"]

    @property
    def sup_square(self) -> Curve:
        """E sup_{s ≤ t}|D_s|² over the grid."""
        return self.curves["sup_square"]

    def __getitem__(self, name: str) -> Curve:
        return self.curves[check_key("name", name, NORMS)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.curves)

    def __len__(self) -> int:
        return len(self.curves)
