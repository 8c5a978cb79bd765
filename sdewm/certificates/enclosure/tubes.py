"""Bounds of the divergence of rollouts by step: of rows of a computation, and of a path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

VACUOUS = 10.0  # times the error to first order, from which on a bound is not given


@dataclass(frozen=True)
class PathEnclosure:
    """Bounds of |X_k(e) − X_k(0)| on one path, k = 0 … N.

    Attributes:
        bounds: (N + 1,); ∞ from the step on at which the enclosure abstains.
        linear: (N + 1,), the error to first order; nan from that step on.
        readout: (N + 1,), bounds of |φ(X_k(e)) − φ(X_k(0))| for the function φ given; ∞ from that
            step on, where the set of φ is unbounded, and without a function.
        abstains: that step, or None.
        reason: why it abstains; "".
    """

    bounds: Tensor
    linear: Tensor
    readout: Tensor
    abstains: int | None = field(kw_only=True)
    reason: str = field(kw_only=True)

    def after_zero(self) -> PathEnclosure:
        """One step later, and 0 at step 0."""
        later = None if self.abstains is None else self.abstains + 1
        curves = (self.bounds, self.linear, self.readout)
        parts = (torch.cat([one.new_zeros(1), one]) for one in curves)
        return PathEnclosure(*parts, abstains=later, reason=self.reason)

    def improved(self, other: PathEnclosure) -> PathEnclosure:
        """The smaller bound of two at each step; it abstains where both do."""
        ends = [math.inf if one.abstains is None else one.abstains for one in (self, other)]
        longer = other if ends[1] > ends[0] else self
        return PathEnclosure(
            torch.minimum(self.bounds, other.bounds),
            torch.where(self.linear.isnan(), other.linear, self.linear),
            torch.minimum(self.readout, other.readout),
            abstains=longer.abstains,
            reason=longer.reason,
        )


@dataclass(frozen=True)
class Tubes:
    """Bounds of |X_k(e) − X_k(0)| for each of R rows, k = 0 … N.

    Attributes:
        bounds: (R, N + 1); ∞ from the step on at which a set is unbounded, or where the computation
            stopped because every row's is.
        first: (R, N + 1), bounds of |d + M e|, the error to first order; nan from that step on.
        readout: (R, N + 1), bounds of |φ(X_k(e)) − φ(X_k(0))| for the function φ given; ∞ from that
            step on, where the set of φ is unbounded, and without a function.
        reasons: why each row became unbounded; "" for those that did not.
    """

    bounds: Tensor
    first: Tensor
    readout: Tensor
    reasons: list[str] = field(kw_only=True)

    @staticmethod
    def joined(tubes: Sequence[Tubes]) -> Tubes:
        """The rows of several results."""
        curves = (torch.cat(some) for some in zip(*(one.curves for one in tubes), strict=True))
        reasons = [text for one in tubes for text in one.reasons]
        return Tubes(*curves, reasons=reasons)

    def row(self, row: int) -> Tubes:
        """A single row."""
        only = slice(row, row + 1)
        return Tubes(*(one[only] for one in self.curves), reasons=self.reasons[only])

    @property
    def curves(self) -> tuple[Tensor, Tensor, Tensor]:
        """The bounds, the errors to first order and the bounds of φ."""
        return self.bounds, self.first, self.readout

    def largest(self) -> PathEnclosure:
        """The largest bounds of all rows, which are parts of one ball, as far as they are given.

        They end at the first step at which one of them is infinite, or the largest exceeds
        `VACUOUS` times the largest error to first order.
        """
        bounds, first, read = (one.amax(0) for one in self.curves)
        kept = bounds <= VACUOUS * first
        if bool(kept.all()):
            return PathEnclosure(bounds, first, read, abstains=None, reason="")
        stop = int((~kept).nonzero()[0])
        reason = next(filter(None, self.reasons), "the bound exceeds all numbers")
        if math.isfinite(bounds[stop]):
            reason = (
                f"the bound {float(bounds[stop]):.3g} exceeds {VACUOUS:g} times the error to "
                f"first order, {float(first[stop]):.3g}"
            )
        bounds[stop:], first[stop:], read[stop:] = math.inf, math.nan, math.inf
        return PathEnclosure(bounds, first, read, abstains=stop, reason=reason)
