"""Jumps, kinks and the rounding error of a function of states."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sdewm.base.taylor import Tensors

SEGMENTS = 64  # pairs of states
POINTS = 65  # on a segment at each level
# Looks, each 16 times closer than the one before at the roughest place; rounding ends them.
LEVELS = {torch.float64: 5, torch.float32: 2}
FACTOR = 16
STEADY = 0.8  # ratio of two looks at a kink or a jump; at a smooth place it is 1/16 or less
SHARE = 0.05  # of the change of slope over a whole segment that a kink must have
ALONE = 3  # points at most of a look with more than half of the largest |δ²L|, at such a place


def roughest(
    function: Callable[[Tensor], Tensor],
    states: Tensor,
    labels: Tensor | None = None,
) -> str | None:
    """The worst of "jump", "kink" and None that `function` does between pairs of `states`.

    The second difference δ²L of a twice differentiable function falls as h² with the spacing h; at
    a kink δ²L/h stays a constant, the change of the slope; at a jump δ²L itself does. Along each
    segment the place of the largest |δ²L| is looked at ever more closely. There it must stand
    alone in the last looks: the rounding of a function that cancels large numbers, such as the mean
    of a two-hot critic that is hardly trained, makes many δ²L alike.

    Args:
        function: L(y) -> `(B,)`.
        states: `(B, D)`; fewer than two different ones show nothing.
        labels: components (D,), bool, that only say which row it is: along a segment they are
            constant.

    >>> y = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    >>> [roughest(f, y) for f in (lambda y: (y[:, 0] > 0).double(), lambda y: y[:, 0].abs(),
    ...                           lambda y: torch.tanh(200 * y[:, 0]))]
    ['jump', 'kink', None]
    """
    first, last = _segments(states, labels)
    if not len(first):
        return None
    low, high = (states.new_full((len(first), 1), end) for end in (0.0, 1.0))
    ticks = torch.linspace(0, 1, POINTS, dtype=states.dtype, device=states.device)
    jumps, slopes = [], []
    values, spacing, alone = states.new_zeros(1), high[:, 0], high[:, 0] > 0
    looks = LEVELS[states.dtype]
    with torch.no_grad():
        for look in range(looks):
            places = low + (high - low) * ticks  # (S, POINTS)
            points = first[:, None] + places[..., None] * (last - first)[:, None]
            values = function(points.flatten(0, 1)).reshape(places.shape)
            second = (values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]).abs()
            size, at = second.max(1)
            spacing = (high - low)[:, 0] / (POINTS - 1)
            if look and look >= looks - 2:
                alone &= (second > size[:, None] / 2).sum(1) <= ALONE
            jumps.append(size)
            slopes.append(size / spacing)
            centre = places.gather(1, (at + 1)[:, None])
            width = (high - low) / FACTOR
            low, high = centre - width / 2, centre + width / 2
    scale = jumps[0].max() + torch.finfo(states.dtype).tiny
    rounding = 5e3 * torch.finfo(states.dtype).eps * (1.0 + float(values.abs().max()))
    if not bool(torch.isfinite(scale)):
        return None
    jump = (jumps[-1] > SHARE * scale + rounding) & (jumps[-1] > STEADY * jumps[-2])
    if bool((alone & jump).any()):
        return "jump"
    steady = (slopes[-1] > STEADY * slopes[-2]) & (
        slopes[-1] > SHARE * slopes[0].max() + rounding / spacing
    )
    return "kink" if bool((alone & steady).any()) else None


def rounding_error(function: Callable[..., Tensor | Tensors], *arguments: Tensor) -> float:
    """Rounding error of L: a quarter of its largest second difference over a tiny step.

    It is the largest |L(y(1 + h)) − 2 L(y) + L(y(1 − h))|/4 over the rows of y (B, …), h = k √ε
    with the machine epsilon ε and k = 1, 2, 4. What a smooth function does itself there is of size
    ε.

    Args:
        function: L, of all arguments, returning one or more tensors.
        arguments: y; those that are not floating-point numbers, such as images, stay as they are.

    >>> y = torch.linspace(1, 2, 8, dtype=torch.float64)[:, None]
    >>> [rounding_error(lambda y: (y + c - c)[:, 0], y) < 1e-15 for c in (0.0, 1e6)]
    [True, False]
    """

    def values(k: int) -> Tensors:
        moved = (
            one * (1 + k * torch.finfo(one.dtype).eps ** 0.5) if one.is_floating_point() else one
            for one in arguments
        )
        found = function(*moved)
        return (found,) if isinstance(found, Tensor) else found

    worst = 0.0
    with torch.no_grad():
        here = values(0)
        for k in (1, 2, 4):
            for up, middle, down in zip(values(k), here, values(-k), strict=True):
                if middle.numel():
                    worst = max(worst, float((up - 2 * middle + down).abs().max()))
    return worst / 4


def _segments(states: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ends `(S, D)` of up to SEGMENTS segments between different states of equal labels."""
    count = len(states)
    pairs = torch.tensor([(i, i + gap) for gap in range(1, count) for i in range(count - gap)])
    chosen = pairs.reshape(-1, 2)
    if labels is not None:
        same = states[:, labels][chosen[:, 0]] == states[:, labels][chosen[:, 1]]
        chosen = chosen[same.all(1)]
    chosen = chosen[:SEGMENTS].long()
    first, last = states[chosen[:, 0]], states[chosen[:, 1]]
    apart = (first != last).any(1)
    return first[apart], last[apart]
