"""Interval arithmetic on float64 tensors with outward rounding."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch

UNIT = 2.0**-53  # relative error of one rounded operation in float64
LEAST_NORMAL = sys.float_info.min  # 2⁻¹⁰²²


def gamma(terms: int) -> float:
    """Bound of the relative error of a sum of `terms` products, in any order, fused or not.

    The bound is k u / (1 − k u) with u = 2⁻⁵³ and k = terms (Higham, Accuracy and Stability of
    Numerical Algorithms, section 3.1). Here k = terms + 4 covers the operations after the sum.
    """
    count = (terms + 4) * UNIT
    return count / (1.0 - count)


def check_rounding() -> None:
    """Raise a RuntimeError if this thread rounds subnormal numbers to zero.

    `torch.set_flush_denormal(True)` asks for that, and so does loading a shared library that was
    linked with -ffast-math. The next number after 0 is then 0, and no rounding is outward.
    """
    if LEAST_NORMAL / 2.0 == 0.0:
        raise RuntimeError(
            "This thread rounds subnormal numbers to zero (torch.set_flush_denormal(True), or a "
            "shared library that was linked with -ffast-math), and certificates round outward; "
            "call torch.set_flush_denormal(False) first."
        )


def above(value: float) -> float:
    """Upper bound of the exact result of a formula that was evaluated with up to 30 roundings.

    Valid for sums, products and roots of terms of one sign, whose relative error is at most
    30 u < 2⁻⁴⁸. Underflow (quantities below 1e-300) is not covered.

    Raises:
        RuntimeError: this thread rounds subnormal numbers to zero, see `check_rounding`.
    """
    check_rounding()
    return value + abs(value) * 2.0**-48


def down(values: torch.Tensor) -> torch.Tensor:
    """The next smaller floating-point numbers; raises what `above` raises."""
    check_rounding()
    return torch.nextafter(values, torch.full_like(values, -torch.inf))


def up(values: torch.Tensor) -> torch.Tensor:
    """The next larger floating-point numbers; raises what `above` raises."""
    check_rounding()
    return torch.nextafter(values, torch.full_like(values, torch.inf))


@dataclass(frozen=True)
class Interval:
    """All tensors x with lower ≤ x ≤ upper, entry by entry; ends may be infinite.

    Every operation returns an interval that contains all exact results.

    >>> one = Interval.of(torch.ones(2, dtype=torch.float64))
    >>> third = one.times(Interval.of(torch.full((2,), 1 / 3, dtype=torch.float64)))
    >>> bool(third.lower[0] < 1 / 3 < third.upper[0])
    True
    """

    lower: torch.Tensor
    upper: torch.Tensor

    @staticmethod
    def of(values: torch.Tensor) -> Interval:
        """The degenerate interval [values, values]."""
        return Interval(values, values)

    @staticmethod
    def around(centre: torch.Tensor, radius: torch.Tensor) -> Interval:
        """The interval centre ± radius, rounded outwards; unbounded where this is no number."""
        ends = down(centre - radius), up(centre + radius)
        lower, upper = (
            end.nan_to_num(nan=limit, posinf=torch.inf, neginf=-torch.inf)
            for end, limit in zip(ends, (-torch.inf, torch.inf), strict=True)
        )
        return Interval(lower, upper)

    @staticmethod
    def everything(*shape: int) -> Interval:
        """The unbounded interval (−∞, ∞) of a shape."""
        values = torch.full(shape, torch.inf, dtype=torch.float64)
        return Interval(-values, values)

    @property
    def finite(self) -> bool:
        """Whether all ends are finite."""
        return bool(torch.isfinite(self.lower).all() & torch.isfinite(self.upper).all())

    @property
    def midpoint(self) -> torch.Tensor:
        """The midpoint of a finite interval, up to rounding."""
        width = self.upper - self.lower
        return torch.where(width < torch.inf, self.lower, self.lower / 2) + torch.where(
            width < torch.inf, width / 2, self.upper / 2
        )

    @property
    def radius(self) -> torch.Tensor:
        """A radius, rounded up, such that midpoint ± radius contains the interval."""
        middle = self.midpoint
        return up(torch.maximum(self.upper - middle, middle - self.lower))

    @property
    def magnitude(self) -> torch.Tensor:
        """The largest absolute value, entry by entry."""
        return torch.maximum(self.lower.abs(), self.upper.abs())

    def __getitem__(self, index: object) -> Interval:
        return Interval(self.lower[index], self.upper[index])  # type: ignore[index]

    def plus(self, other: Interval) -> Interval:
        """The interval of all sums."""
        return Interval(down(self.lower + other.lower), up(self.upper + other.upper))

    def minus(self, other: Interval) -> Interval:
        """The interval of all differences."""
        return Interval(down(self.lower - other.upper), up(self.upper - other.lower))

    def times(self, other: Interval) -> Interval:
        """All products, entry by entry; 0 · ∞ counts as 0, since members are finite."""
        ends = [
            torch.nan_to_num(a * b, nan=0.0, posinf=torch.inf, neginf=-torch.inf)
            for a in (self.lower, self.upper)
            for b in (other.lower, other.upper)
        ]
        least = torch.minimum(torch.minimum(ends[0], ends[1]), torch.minimum(ends[2], ends[3]))
        most = torch.maximum(torch.maximum(ends[0], ends[1]), torch.maximum(ends[2], ends[3]))
        return Interval(down(least), up(most))

    def meet(self, other: Interval) -> Interval:
        """The intersection of two intervals known to have a common member."""
        return Interval(
            torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper)
        )


def image(matrix: torch.Tensor, box: Interval) -> Interval:
    """Interval of all products matrix @ x, x in the box; matrix (p, m), box (m,) or (m, n).

    It is matrix @ midpoint ± (|matrix| (radius + γ |midpoint|)) (1 + 4γ), where γ covers the
    rounding of the centre. A row with a nonzero weight on an unbounded coordinate is unbounded.
    """
    bounded = torch.isfinite(box.lower) & torch.isfinite(box.upper)
    inside = box
    if not bool(bounded.all()):
        nothing = torch.zeros_like(box.lower)
        inside = Interval(
            torch.where(bounded, box.lower, nothing), torch.where(bounded, box.upper, nothing)
        )
    error = gamma(matrix.shape[1])
    middle = inside.midpoint
    spread = matrix.abs() @ (inside.radius + error * middle.abs())
    result = Interval.around(matrix @ middle, spread * (1.0 + 4.0 * error))
    if inside is box:
        return result
    touched = (matrix != 0).to(torch.float64) @ (~bounded).to(torch.float64) > 0
    limit = torch.where(touched, torch.inf, 0.0)
    return Interval(result.lower - limit, result.upper + limit)


def product(left: Interval, right: Interval) -> Interval:
    """Interval of all products of matrices (p, m) and (m, n); unbounded if any entry is.

    In midpoints M and radii R it is M₁M₂ ± (|M₁|(R₂ + γ|M₂|) + R₁(|M₂| + R₂)), rounded outwards:
    three matrix products.
    """
    if not (left.finite and right.finite):
        return Interval.everything(left.lower.shape[0], right.lower.shape[1])
    error = gamma(left.lower.shape[1])
    first, second = left.midpoint, right.midpoint
    spread = first.abs() @ (right.radius + error * second.abs())
    spread = spread + left.radius @ (second.abs() + right.radius)
    return Interval.around(first @ second, spread * (1.0 + 4.0 * error))
