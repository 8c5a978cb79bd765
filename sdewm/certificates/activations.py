r"""Activation functions with ranges of φ and its first three derivatives over intervals.

The range of φ, φ', φ'' or φ''' over [l, u] is the interval between its extreme values at l, at u
and at the critical points in between, which are known for each function:

    name        sup |φ'|    sup |φ''|
    tanh        1           4/(3√3) = 0.769800
    sigmoid     1/4         1/(6√3) = 0.096225
    softplus    1           β/4
    silu        1.099840    1/2
    gelu        1.128905    √(2/π) = 0.797885
    mish        1.088498    0.644205
    elu         max(1, α)   ∞ (φ' has a kink at 0; not C²)
    relu        1           ∞

Ranges are widened by 2⁻⁴³ (1 + |value|): torch's elementary functions are accurate to a few units
of 2⁻⁵³, and the formulas below amplify this error by less than a factor of 100.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sdewm.certificates.interval import Interval

Function = Callable[[torch.Tensor], torch.Tensor]
Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
MARGIN = 2.0**-43
FLAT = 60.0  # beyond ±FLAT bounded tails, slopes and bends differ from their limits by < 2⁻⁴³


@dataclass(frozen=True)
class Activation:
    """A scalar function φ with slope φ', bend φ'', third derivative and their critical points.

    If φ has a kink at 0, `kink` holds the one-sided slopes. On intervals that contain 0, |φ''| and
    |φ'''| are then infinite and the range of φ' contains both slopes.

    >>> from math import inf
    >>> bend = TANH.bend_bound(Interval.everything(1))
    >>> float(bend[0])
    0.769800
    >>> TANH.slope_range(Interval.everything(1)).upper
    tensor([1.0000], dtype=torch.float64)
    """

    name: str
    value: Function
    slope: Function
    bend: Function
    third: Function
    value_critical: tuple[float, ...] = ()
    slope_critical: tuple[float, ...] = ()
    bend_critical: tuple[float, ...] = ()
    third_critical: tuple[float, ...] = ()
    kink: tuple[float, float] | None = None
    jump: float = 0.0
    width: float = 1.0  # FLAT is in units of it

    def taylor(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> Triple:
        """φ(x), φ'(x) y and φ'(x) w + φ''(x) y²."""
        slope = self.slope(x)
        return self.value(x), slope * y, slope * w + self.bend(x) * y * y

    def value_range(self, box: Interval) -> Interval:
        """An interval that contains φ(x) for x in the box (m,)."""
        found = _spanned(self.value, self._clamped(box, math.inf), self.value_critical)
        return Interval(found.lower - self.jump, found.upper + self.jump)

    def slope_range(self, box: Interval) -> Interval:
        """An interval that contains φ'(x) for x in the box (m,)."""
        found = _spanned(self.slope, self._clamped(box, FLAT), self.slope_critical)
        if self.kink is None:
            return Interval(found.lower - self.jump, found.upper + self.jump)
        inside = (box.lower <= 0) & (box.upper >= 0)
        low, high = min(self.kink), max(self.kink)
        return Interval(
            torch.where(inside, found.lower.clamp(max=low - MARGIN), found.lower),
            torch.where(inside, found.upper.clamp(min=high + MARGIN), found.upper),
        )

    def bend_bound(self, box: Interval) -> torch.Tensor:
        """Upper bounds of |φ''(x)| for x in the box, shape (m,)."""
        return self._bound(self.bend, box, self.bend_critical)

    def third_bound(self, box: Interval) -> torch.Tensor:
        """Upper bounds of |φ'''(x)| for x in the box, shape (m,)."""
        return self._bound(self.third, box, self.third_critical)

    def _bound(
        self, function: Function, box: Interval, critical: tuple[float, ...]
    ) -> torch.Tensor:
        found = _spanned(function, self._clamped(box, FLAT), critical).magnitude
        if self.kink is None:
            return found
        return torch.where((box.lower <= 0) & (box.upper >= 0), torch.inf, found)

    def _clamped(self, box: Interval, most: float) -> Interval:
        """The box within ±FLAT where the function is flat, so that limits need no ∞ · 0.

        Unbounded functions, linear on the right, are evaluated up to `most` there.
        """
        least, most = -FLAT * self.width, max(most, FLAT) * self.width
        return Interval(box.lower.clamp(least, most), box.upper.clamp(least, most))


def _spanned(function: Function, box: Interval, critical: tuple[float, ...]) -> Interval:
    """The least interval with the values at the ends and at the critical points between, widened.

    A critical point known up to rounding is as good: nearby values differ to second order only.
    """
    low, high = box.lower, box.upper
    first, last = function(low), function(high)
    least, most = torch.minimum(first, last), torch.maximum(first, last)
    for point in critical:
        extreme = float(function(torch.tensor(point, dtype=torch.float64)))
        inside = (low < point) & (point < high)
        least = torch.where(inside, least.clamp(max=extreme), least)
        most = torch.where(inside, most.clamp(min=extreme), most)
    return Interval(
        least - MARGIN * (1.0 + least.abs()).nan_to_num(posinf=0.0),
        most + MARGIN * (1.0 + most.abs()).nan_to_num(posinf=0.0),
    )


def _sigmoid_bend(x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x)
    return s * torch.sigmoid(-x) * (1 - 2 * s)


def _sigmoid_third(x: torch.Tensor) -> torch.Tensor:
    slope = torch.sigmoid(x) * torch.sigmoid(-x)
    return slope * (1 - 6 * slope)


def _silu_slope(x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x)
    return s + x * s * torch.sigmoid(-x)


def _silu_bend(x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x)
    return s * torch.sigmoid(-x) * (2 + x * (1 - 2 * s))


def _silu_third(x: torch.Tensor) -> torch.Tensor:
    return 3 * _sigmoid_bend(x) + x * _sigmoid_third(x)


def _normal_density(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _normal_distribution(x: torch.Tensor) -> torch.Tensor:
    return (1 + torch.erf(x / math.sqrt(2))) / 2


_SCALE, _CUBIC = math.sqrt(2 / math.pi), 0.044715  # of torch's tanh form of GELU


def _gelu_tanh_parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    t = torch.tanh(_SCALE * (x + _CUBIC * x**3))
    return t, _SCALE * (1 + 3 * _CUBIC * x**2), 6 * _SCALE * _CUBIC * x


def _gelu_tanh_value(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + _gelu_tanh_parts(x)[0]) / 2


def _gelu_tanh_slope(x: torch.Tensor) -> torch.Tensor:
    t, first, _ = _gelu_tanh_parts(x)
    return (1 + t) / 2 + x * (1 - t * t) * first / 2


def _gelu_tanh_bend(x: torch.Tensor) -> torch.Tensor:
    t, first, second = _gelu_tanh_parts(x)
    return (1 - t * t) * (first + x * second / 2 - x * t * first * first)


def _gelu_tanh_third(x: torch.Tensor) -> torch.Tensor:
    t, first, second = _gelu_tanh_parts(x)
    bend = second - 2 * t * first * first  # of t, over 1 − t²; and the third derivative
    third = _CUBIC * _SCALE * 6 - 6 * t * first * second + (6 * t * t - 2) * first**3
    return (1 - t * t) * (3 * bend + x * third) / 2


def _mish_parts(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The factor t = tanh(log(1 + eˣ)) and its first three derivatives."""
    s, off = torch.sigmoid(x), torch.sigmoid(-x)
    t = torch.tanh(torch.relu(x) + torch.log1p(torch.exp(-x.abs())))
    first = (1 - t * t) * s
    rate = off - 2 * t * s  # of the logarithm of the first
    change = -s * off - 2 * (first * s + t * s * off)
    return t, first, first * rate, first * (rate * rate + change)


def _mish_slope(x: torch.Tensor) -> torch.Tensor:
    t, first, _, _ = _mish_parts(x)
    return t + x * first


def _mish_bend(x: torch.Tensor) -> torch.Tensor:
    _, first, second, _ = _mish_parts(x)
    return 2 * first + x * second


def _mish_third(x: torch.Tensor) -> torch.Tensor:
    _, _, second, third = _mish_parts(x)
    return 3 * second + x * third


TANH_BEND = math.atanh(1 / math.sqrt(3))
TANH_THIRD = math.atanh(math.sqrt(2 / 3))
TANH = Activation(
    "tanh",
    torch.tanh,
    lambda x: 1 - torch.tanh(x) ** 2,
    lambda x: -2 * torch.tanh(x) * (1 - torch.tanh(x) ** 2),
    lambda x: -2 * (1 - torch.tanh(x) ** 2) * (1 - 3 * torch.tanh(x) ** 2),
    slope_critical=(0.0,),
    bend_critical=(-TANH_BEND, TANH_BEND),
    third_critical=(-TANH_THIRD, 0.0, TANH_THIRD),
)
SIGMOID = Activation(
    "sigmoid",
    torch.sigmoid,
    lambda x: torch.sigmoid(x) * torch.sigmoid(-x),
    _sigmoid_bend,
    _sigmoid_third,
    slope_critical=(0.0,),
    bend_critical=(-2 * TANH_BEND, 2 * TANH_BEND),
    third_critical=(-2 * TANH_THIRD, 0.0, 2 * TANH_THIRD),
)
# Critical points that solve transcendental equations: the zeros of the next derivative. SiLU and
# GELU are x/2 plus an even function, so those of the derivatives come in pairs ±.
SILU = Activation(
    "silu",
    lambda x: x * torch.sigmoid(x),
    _silu_slope,
    _silu_bend,
    _silu_third,
    value_critical=(-1.2784645427610737951,),
    slope_critical=(-2.3993572805154676678, 2.3993572805154676678),
    bend_critical=(-3.435840993535110689, 0.0, 3.435840993535110689),
    third_critical=(
        *(-4.4292351005572279796, -1.0319582417807491234),
        *(1.0319582417807491234, 4.4292351005572279796),
    ),
)
GELU = Activation(
    "gelu",
    lambda x: x * _normal_distribution(x),
    lambda x: _normal_distribution(x) + x * _normal_density(x),
    lambda x: _normal_density(x) * (2 - x * x),
    lambda x: _normal_density(x) * x * (x * x - 4),
    value_critical=(-0.75179152469356445746,),
    slope_critical=(-math.sqrt(2), math.sqrt(2)),
    bend_critical=(-2.0, 0.0, 2.0),
    third_critical=(
        *(-2.5243377989621385713, -0.79228699139326127779),
        *(0.79228699139326127779, 2.5243377989621385713),
    ),
)
GELU_TANH = Activation(
    "gelu (tanh form)",
    _gelu_tanh_value,
    _gelu_tanh_slope,
    _gelu_tanh_bend,
    _gelu_tanh_third,
    value_critical=(-0.75246142207101625849,),
    slope_critical=(-1.4185040087908283555, 1.4185040087908283555),
    bend_critical=(-2.0134807246242579281, 0.0, 2.0134807246242579281),
    third_critical=(
        *(-2.5534179143294429017, -0.78757618641889401013),
        *(0.78757618641889401013, 2.5534179143294429017),
    ),
)
MISH = Activation(
    "mish",
    lambda x: x * _mish_parts(x)[0],
    _mish_slope,
    _mish_bend,
    _mish_third,
    value_critical=(-1.1924312145154952121,),
    slope_critical=(-2.25637639636079312, 1.4905711794854284593),
    bend_critical=(-3.2673378465204045761, -0.087934431314914211327, 2.1148425630208771086),
    third_critical=(
        *(-4.2554113336685641819, -0.88194607683192259745),
        *(0.71550588670002980217, 2.6942158677688237102),
    ),
)
RELU = Activation(
    "relu",
    torch.relu,
    lambda x: (x > 0).to(x.dtype),
    torch.zeros_like,
    torch.zeros_like,
    kink=(0.0, 1.0),
)


def softplus(beta: float, threshold: float) -> Activation:
    """Softplus log(1 + e^(βx))/β.

    torch returns x with slope 1 for βx > threshold. This causes a jump of log(1 + e^(−threshold))/β
    in the values (2e-9 by default) and of 1/(1 + e^threshold) in the slope. The constants are those
    of the exact function; the ranges are widened by the jumps.
    """
    tail = math.exp(-threshold)
    jump = max(math.log1p(tail) / beta, tail / (1 + tail))
    return Activation(
        "softplus",
        lambda x: (torch.relu(x * beta) + torch.log1p(torch.exp(-(x * beta).abs()))) / beta,
        lambda x: torch.sigmoid(beta * x),
        lambda x: beta * torch.sigmoid(beta * x) * torch.sigmoid(-beta * x),
        lambda x: beta**2 * _sigmoid_bend(beta * x),
        bend_critical=(0.0,),
        third_critical=(-2 * TANH_BEND / beta, 2 * TANH_BEND / beta),
        jump=jump,
        width=max(1.0 / beta, 1.0),
    )


def elu(alpha: float) -> Activation:
    """ELU: x for x > 0, α (eˣ − 1) otherwise."""
    return Activation(
        "elu",
        lambda x: torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0.0))),
        lambda x: torch.where(x > 0, torch.ones_like(x), alpha * torch.exp(x.clamp(max=0.0))),
        lambda x: torch.where(x > 0, torch.zeros_like(x), alpha * torch.exp(x.clamp(max=0.0))),
        lambda x: torch.where(x > 0, torch.zeros_like(x), alpha * torch.exp(x.clamp(max=0.0))),
        value_critical=(0.0,),
        kink=(1.0, alpha),
    )
