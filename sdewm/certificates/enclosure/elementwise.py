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
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from sdewm.certificates.activations import MARGIN, Function
from sdewm.certificates.enclosure.affine import add, total
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
class Exponential:
    """The function e^x, or e^x − 1; x is known to be at most `ceiling`."""

    value: Callable[[Tensor], Tensor]
    ceiling: float = math.inf
    jump = 0.0

    @property
    def least(self) -> float:
        """The exponential has relative errors only, down to the smallest numbers."""
        return 1e-300 if self.value is torch.exp else 1.0

    def slope(self, x: Tensor) -> Tensor:
        """The derivative e^x."""
        return x.exp()

    def bend(self, x: Tensor) -> Tensor:
        """The second derivative e^x."""
        return x.exp()

    def slope_range(self, box: Interval) -> Interval:
        """Of a function that has no kink: not asked for a finite box."""
        return Interval.everything(*box.lower.shape)

    def third_bound(self, box: Interval) -> Tensor:
        """The exponential of the upper end."""
        return box.upper.clamp(max=self.ceiling).exp() * (1.0 + 2.0 * MARGIN)


@dataclass(frozen=True)
class Logarithm:
    """The function log x for x > 0; x is known to be at least `floor` (0: nothing is known)."""

    floor: Tensor | float = 0.0
    jump = 0.0

    def value(self, x: Tensor) -> Tensor:
        """The logarithm."""
        return x.log()

    def slope(self, x: Tensor) -> Tensor:
        """The derivative 1/x."""
        return 1.0 / x

    def bend(self, x: Tensor) -> Tensor:
        """The second derivative −1/x²."""
        return -1.0 / x**2

    def slope_range(self, box: Interval) -> Interval:
        """Of a function that has no kink: not asked for a finite box."""
        return Interval.everything(*box.lower.shape)

    def third_bound(self, box: Interval) -> Tensor:
        """2/x³ at the lower end; ∞ if this is not positive."""
        low = torch.maximum(box.lower, torch.as_tensor(self.floor, dtype=torch.float64))
        return torch.where(low > 0, 2.0 / low**3 * (1.0 + 4.0 * MARGIN), math.inf)


EXP, EXPM1 = Exponential(torch.exp), Exponential(torch.expm1)


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
    least = function.least if isinstance(function, Exponential) else 1.0
    rounding = _margin(value, least) + _margin(slope, least) * x.size
    rounding = rounding + _margin(bend, least) * x.slopes**2 + function.jump
    return TaylorSet(
        value,
        slope[..., None] * x.linear,
        slope[..., None, None] * x.quadratic + 0.5 * bend[..., None, None] * form,
        slope[..., None] * x.rest,
        upward(steep * x.box + upward(remainder) + upward(rounding)),
        rows=x.rows,
    )


def log_softmax(values: TaylorSet, axis: int) -> TaylorSet:
    """Log p_i = (x_i − m) − log Σ_j exp(x_j − m), with m the largest centre, along an axis.

    The last term covers the rounding errors of torch's own order of summation, for up to 1000
    classes.
    """
    largest = values.constant(values.centre.amax(axis, keepdim=True).expand(values.shape))
    shifted = add(values, largest, -1.0)
    least = shifted.interval.lower.exp().sum(axis, keepdim=True) * (1.0 - 2.0 * MARGIN)
    normaliser = apply(Logarithm(least), total(apply(EXP, shifted), axis, True))
    rounding = _margin(shifted.reach + shifted.centre.abs())
    return add(shifted, normaliser.expanded(values.shape), -1.0).widened(rounding)


def softmax(values: TaylorSet, axis: int) -> TaylorSet:
    """The exponential of `log_softmax`, whose members are at most 0."""
    return apply(Exponential(torch.exp, 2.0 * MARGIN), log_softmax(values, axis))


def sign(values: TaylorSet) -> TaylorSet:
    """The signs: exact where the interval does not contain zero, and ±1 elsewhere."""
    box = values.interval
    known = (box.lower > 0) | (box.upper < 0)
    found = values.constant(torch.where(known, torch.sign(values.centre), 0.0))
    return replace(found.widened(torch.where(known, 0.0, 1.0)), rows=values.rows)


def _margin(values: Tensor, least: float = 1.0) -> Tensor:
    return 2.0 * MARGIN * (least + values.abs())
