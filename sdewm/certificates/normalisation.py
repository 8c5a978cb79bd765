r"""Proven constants of layer normalisation and root-mean-square normalisation.

Both are f(x) = γ ⊙ g(y) + β with g(y) = y/s, s² = |y|²/n + ε and y = P x, P = I − 11ᵀ/n for layer
normalisation and P = I for root-mean-square normalisation. With ŷ = g(y):

First derivative: Dg = K/s, K = P − ŷŷᵀ/n. ŷ is in the range of P and |ŷ|² ≤ n, so 0 ≤ K ≤ I and

    |Df|₂ ≤ max|γ| / s_min ≤ max|γ| / √ε.

K² ≤ K ≤ P: rows have length ≤ √(1 − 1/n) (layer) or 1, hence |K|_∞ ≤ √(n − 1) or √n.

Second derivative: with t = |y|, y = t e, ρ² = t² + nε, w = t²/ρ² = v/(v + ε) (v the variance or
mean square) and a unit vector d, c = e·d,

    D²g[d, d] = √n (t/ρ³) ((3wc² − 2c² − 1) e − 2c √(1 − c²) e_⊥),
    |·|² = n t²/ρ⁶ (1 + c²(8 − 6w) − c⁴ 3w(4 − 3w)),

a parabola in c² with its maximum at 1/(3w). Hence |D²g| ≤ k(w)/(√n ε), where k(w) = 3 √w (1 − w)²
for w ≤ 1/3 (attained at c = 1) and k(w) = 2 (1 − w)/√3 for w > 1/3 (attained at c² = 1/(3w)). k
increases up to k(1/5) = 0.858650 and decreases afterwards. In the ∞-norm |d|₂² ≤ n |d|_∞².

Over a box s_min comes from the least variance, min_μ Σ dist(μ, [l_i, u_i])²/n, a convex function of
μ. Certificates through a normalisation are loose: the global ones are of the order 1/√ε and 1/ε,
reached only where the input is nearly constant (or zero).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sdewm.certificates.activations import Triple
from sdewm.certificates.derivative_enclosure import Enclosure, interval_distance, point_ball
from sdewm.certificates.interval import Interval, above, gamma, image


@dataclass(frozen=True)
class Normalisation:
    """Layer normalisation (`centred`) or root-mean-square normalisation of n numbers.

    Args:
        gain: γ, (n,).
        bias: β, (n,).
        floor: ε, positive.
        centred: whether the mean is subtracted.
    """

    gain: torch.Tensor
    bias: torch.Tensor
    floor: float
    centred: bool

    @property
    def size(self) -> int:
        """Number n of inputs and outputs."""
        return len(self.gain)

    @property
    def projection(self) -> torch.Tensor:
        """P, (n, n), each entry rounded once."""
        identity = torch.eye(self.size, dtype=torch.float64)
        return identity - 1.0 / self.size if self.centred else identity

    def taylor(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> Triple:
        """f(x), Df(x) y and Df(x) w + D²f(x)[y, y], each (B, n)."""
        if self.centred:
            x, y, w = (part - part.mean(dim=-1, keepdim=True) for part in (x, y, w))
        square = (x * x).mean(dim=-1, keepdim=True) + self.floor  # s² and its derivatives
        first = 2 * (x * y).mean(dim=-1, keepdim=True)
        second = 2 * (y * y + x * w).mean(dim=-1, keepdim=True)
        inverse = square**-0.5  # 1/s and its derivatives
        inverse_first = -first * inverse / (2 * square)
        inverse_second = (0.75 * first**2 / square - second / 2) * inverse / square
        return (
            self.gain * x * inverse + self.bias,
            self.gain * (y * inverse + x * inverse_first),
            self.gain * (w * inverse + 2 * y * inverse_first + x * inverse_second),
        )

    def square_range(self, box: Interval) -> tuple[float, float]:
        """Lower and upper bound of the variance (mean square) over the box."""
        size, margin = self.size, 1.0 + 2.0 * gamma(self.size)
        farthest = box.magnitude
        if not self.centred:
            nearest = torch.maximum(box.lower, -box.upper).clamp(min=0.0)
            least = float((nearest**2).sum()) / size / margin
            return least, above(float((farthest**2).sum()) / size * margin)
        if not box.finite:
            return 0.0, math.inf
        low, high = float(box.lower.min()), float(box.upper.max())
        left, right = low, high

        def gaps_to(middle: float) -> torch.Tensor:
            return (box.lower - middle).clamp(min=0.0) - (middle - box.upper).clamp(min=0.0)

        for _ in range(60):  # bisection on the sign of the slope in μ
            middle = (left + right) / 2
            left, right = (middle, right) if float(gaps_to(middle).sum()) > 0 else (left, middle)
        gaps = gaps_to(left)
        # Convexity: F(μ) >= F(m) + F'(m)(μ − m) for every μ between low and high.
        value = float((gaps**2).sum()) / size / margin
        rounding = 2.0**-45 * float(farthest.max()) * float(gaps.abs().max() + gaps.abs().mean())
        slope = 2.0 * abs(float(gaps.sum())) / size * (high - low)
        least = max(0.0, value - 4.0 * slope - 8.0 * rounding)
        spread = box.minus(Interval.of((box.lower + box.upper) / 2))
        centres = box.midpoint - box.midpoint.mean()
        most = float(((centres.abs() + spread.magnitude) ** 2).sum()) / size
        return least, above(most * (1.0 + 2.0**-40)) + 2.0**-40 * float(farthest.max() ** 2)

    def unit_range(self, box: Interval, least: float, most: float) -> Interval:
        """An interval that contains ŷ, (n,)."""
        size = self.size
        limit = above(math.sqrt(size - 1 if self.centred else size))
        widest = torch.full((size,), limit, dtype=torch.float64)
        always = Interval(-widest, widest)
        if not (box.finite and math.isfinite(most)):
            return always
        y = image(self.projection, box) if self.centred else box
        if self.centred:  # the entries of P are rounded
            slack = 4.0 * 2.0**-53 * float(box.magnitude.sum())
            y = Interval(y.lower - slack, y.upper + slack)
        inverse = self.inverse_range(least, most)
        return y.times(inverse).meet(always)

    def inverse_range(self, least: float, most: float) -> Interval:
        """An interval that contains 1/s, (1,)."""
        low = 1.0 / math.sqrt(most + self.floor) if math.isfinite(most) else 0.0
        high = 1.0 / math.sqrt(least + self.floor)
        ends = [low * (1.0 - 2.0**-48), high * (1.0 + 2.0**-48)]
        return Interval(*(torch.tensor([end], dtype=torch.float64) for end in ends))

    def values(self, box: Interval) -> Interval:
        """An interval that contains f over the box, (n,)."""
        unit = self.unit_range(box, *self.square_range(box))
        return unit.times(Interval.of(self.gain)).plus(Interval.of(self.bias))

    def enclose(self, box: Interval) -> Enclosure:
        """The enclosure of f over the box."""
        size = self.size
        least, most = self.square_range(box)
        unit, inverse = self.unit_range(box, least, most), self.inverse_range(least, most)
        steepest = float(inverse.upper)
        gain = float(self.gain.abs().max())
        jacobian = self._jacobian(unit, inverse)
        middle = steepest / 2  # 0 <= K/s <= P/s_min: the ball γ P/(2 s_min) ± γ/(2 s_min)
        centre = self.gain[:, None] * self.projection * middle
        ball = point_ball(centre, above(gain * middle * (1.0 + 2.0**-48 * size)))
        spread = interval_distance(jacobian)
        if spread < ball.radius:
            ball = point_ball(jacobian.midpoint, spread)
        share = least / (least + self.floor) * (1.0 - 2.0**-48)
        curvature = _bend(share) / (math.sqrt(size) * self.floor) * (1.0 + 2.0**-40)
        component = self.gain.abs() * above(curvature)
        row = above(math.sqrt(size - 1 if self.centred else size))
        return Enclosure(
            self.values(box),
            jacobian,
            ball,
            above(gain * steepest),
            above(gain * steepest * row),
            above(gain * curvature),
            component,
            component * size * (1.0 + 2.0**-48),
        )

    def _jacobian(self, unit: Interval, inverse: Interval) -> Interval:
        """γ_i (P_ij − ŷ_i ŷ_j/n)/s, entry by entry; no entry of K exceeds 1 in size."""
        size = self.size
        outer = unit[:, None].times(unit[None, :])
        square = unit.magnitude**2 * (1.0 + 2.0**-50)
        outer.lower.diagonal().clamp_(min=0.0)
        outer.upper.diagonal().copy_(torch.minimum(outer.upper.diagonal(), square))
        weight = torch.full((1, 1), 1.0 / size, dtype=torch.float64)
        part = Interval(weight * (1 - 2.0**-52), weight * (1 + 2.0**-52)).times(outer)
        projection = self.projection
        rounding = torch.full_like(projection, 2.0**-52)
        kernel = Interval.around(projection, rounding).minus(part)
        most = torch.ones_like(projection)
        kernel = kernel.meet(Interval(-most, most))
        return kernel.times(inverse[None, :]).times(Interval.of(self.gain[:, None]))


def _bend(share: float) -> float:
    """The largest k(w) for w ≥ share."""
    share = max(share, 0.2)
    if share < 1.0 / 3.0:
        return 3.0 * math.sqrt(share) * (1.0 - share) ** 2
    return 2.0 * (1.0 - share) / math.sqrt(3.0)
