"""Scalar functions of sets: activations, and powers of positive numbers.

At x = c + L + w, where L = M e is linear in the initial error and |x − c| ≤ reach,

    φ(x) = φ(c) + φ'(c) (L + w) + ½ φ''(c) L² + R,
    |R| ≤ ½ |φ''(c)| (2 |L| |w| + |w|²) + ⅙ sup |φ'''| reach³,

with the supremum over c ± reach. L² = eᵀ M Mᵀ e is kept exactly. Where the interval contains a kink
(ELU, ReLU), φ(x) − φ(c) lies between the least and the largest slope on the interval, times x − c:
the middle slope is kept, and half of their distance times the reach is the remainder.

φ(c), φ'(c) and φ''(c) are computed with errors of at most `MARGIN` (1 + |value|), see
`certificates.activations`; twice this margin covers the products with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sdewm.certificates.activations import MARGIN, Function
from sdewm.certificates.enclosure.products import outer
from sdewm.certificates.enclosure.taylor_set import TaylorSet, upward
from sdewm.certificates.interval import Interval


class Scalar(Protocol):
    """A scalar function with its derivatives; `certificates.activations.Activation` is one."""

    @property
    def value(self) -> Function:
        """The function φ, up to `jump`."""
        ...

    @property
    def slope(self) -> Function:
        """Its derivative φ'."""
        ...

    @property
    def bend(self) -> Function:
        """Its second derivative."""
        ...

    @property
    def jump(self) -> float:
        """Largest distance of torch's function from φ (softplus beyond its threshold)."""
        ...

    def slope_range(self, box: Interval) -> Interval:
        """An interval that contains φ' over the box, with both slopes at a kink."""
        ...

    def third_bound(self, box: Interval) -> Tensor:
        """Upper bounds of |φ'''| over the box; ∞ where the box contains a kink."""
        ...


@dataclass(frozen=True)
class Power:
    """The power x^a for a < 3; x is known to be at least `floor` (0: nothing is known)."""

    exponent: float
    floor: float
    jump = 0.0

    def value(self, x: Tensor) -> Tensor:
        """The power x^a."""
        return x**self.exponent

    def slope(self, x: Tensor) -> Tensor:
        """The derivative a x^(a − 1)."""
        return self.exponent * x ** (self.exponent - 1.0)

    def bend(self, x: Tensor) -> Tensor:
        """The second derivative a (a − 1) x^(a − 2)."""
        return self.exponent * (self.exponent - 1.0) * x ** (self.exponent - 2.0)

    def slope_range(self, box: Interval) -> Interval:
        """Of a function that has no kink: not asked for a finite box."""
        return Interval.everything(*box.lower.shape)

    def third_bound(self, box: Interval) -> Tensor:
        """|a (a − 1)(a − 2)| x^(a − 3) at the lower end; ∞ if this is not positive."""
        a, low = self.exponent, box.lower.clamp(min=self.floor)
        found = abs(a * (a - 1.0) * (a - 2.0)) * low ** (a - 3.0)
        return torch.where(low > 0, found * (1.0 + 2.0 * MARGIN), math.inf)


class LogOnePlus:
    """The function log(1 + x) for x > −1."""

    jump = 0.0

    def value(self, x: Tensor) -> Tensor:
        """The logarithm of 1 + x."""
        return torch.log1p(x)

    def slope(self, x: Tensor) -> Tensor:
        """The derivative 1/(1 + x)."""
        return 1.0 / (1.0 + x)

    def bend(self, x: Tensor) -> Tensor:
        """The second derivative −1/(1 + x)²."""
        return -1.0 / (1.0 + x) ** 2

    def slope_range(self, box: Interval) -> Interval:
        """Of a function that has no kink: not asked for a finite box."""
        return Interval.everything(*box.lower.shape)

    def third_bound(self, box: Interval) -> Tensor:
        """2/(1 + x)³ at the lower end; ∞ if this is not above −1."""
        low = 1.0 + box.lower
        return torch.where(low > 0, 2.0 / low**3 * (1.0 + 4.0 * MARGIN), math.inf)


@dataclass(frozen=True)
class PiecewiseLinear:
    """A continuous function with slope slopes[i] between points[i − 1] and points[i]."""

    value: Callable[[Tensor], Tensor]
    points: tuple[float, ...]
    slopes: tuple[float, ...]
    jump = 0.0

    def slope(self, x: Tensor) -> Tensor:
        """The slope at x."""
        place = torch.bucketize(x, torch.tensor(self.points, dtype=torch.float64))
        return torch.tensor(self.slopes, dtype=torch.float64)[place]

    def bend(self, x: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(x)

    def slope_range(self, box: Interval) -> Interval:
        """The least and the largest slope."""
        return Interval(
            torch.full_like(box.lower, min(self.slopes)),
            torch.full_like(box.upper, max(self.slopes)),
        )

    def third_bound(self, box: Interval) -> Tensor:
        """Zero; ∞ where the box contains one of the points."""
        inside = [(box.lower <= point) & (point <= box.upper) for point in self.points]
        return torch.where(torch.stack(inside).any(0), math.inf, 0.0)


ABSOLUTE = PiecewiseLinear(torch.abs, (0.0,), (-1.0, 1.0))


def clamp(low: float, high: float) -> PiecewiseLinear:
    """The value x between low and high, the nearer of them elsewhere; both may be infinite."""
    return PiecewiseLinear(lambda x: x.clamp(low, high), (low, high), (0.0, 1.0, 0.0))


def apply(function: Scalar, values: TaylorSet) -> TaylorSet:
    """φ(x), entry by entry."""
    x, box = values, values.interval
    third = function.third_bound(box)
    value, slope, bend = function.value(x.centre), function.slope(x.centre), function.bend(x.centre)
    form, dropped = outer(x, x)
    smooth = torch.isfinite(third)
    cubic = upward(third * x.reach**3) / 6.0
    linear_times_rest = 2.0 * x.slopes * x.higher + x.higher**2
    remainder = 0.5 * bend.abs() * upward(linear_times_rest + dropped) + cubic
    if not bool(smooth.all()):
        range_ = function.slope_range(box)
        middle = range_.midpoint
        remainder = torch.where(smooth, remainder, upward(range_.radius * x.reach))
        slope, bend = torch.where(smooth, slope, middle), torch.where(smooth, bend, 0.0)
    steep = slope.abs()
    rounding = _margin(value) + _margin(slope) * x.size
    rounding = rounding + _margin(bend) * x.slopes**2 + function.jump
    return TaylorSet(
        value,
        slope[..., None] * x.linear,
        slope[..., None, None] * x.quadratic + 0.5 * bend[..., None, None] * form,
        slope[..., None] * x.rest,
        upward(steep * x.box + upward(remainder) + upward(rounding)),
    )


def sign(values: TaylorSet) -> TaylorSet:
    """The signs: exact where the interval does not contain zero, and ±1 elsewhere."""
    box = values.interval
    known = (box.lower > 0) | (box.upper < 0)
    found = values.constant(torch.where(known, torch.sign(values.centre), 0.0))
    return found.widened(torch.where(known, 0.0, 1.0))


def _margin(values: Tensor) -> Tensor:
    return 2.0 * MARGIN * (1.0 + values.abs())
