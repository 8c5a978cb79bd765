"""A ball of errors cut into slabs, each of them a set of its own with a smaller reach.

Rollouts of a world model stretch one direction of the initial error far more than all others. What
is left out at third order grows with the cube of the reach, so it falls with the cube of the number
of slabs across that direction.

Let U be a matrix (p, p), orthogonal up to |1 − U Uᵀ|₂ ≤ δ, whose first column is that direction.
With y = Uᵀ e and |e|₂ ≤ 1 there are

    e = U y + r,   |r|₂ ≤ δ,   |y|₂² ≤ 1 + δ.

Slab i has |y_1 − m_i| ≤ h, so that the other numbers y' have |y'|₂ ≤ w_i, w_i² = 1 + δ − (|m_i| −
h)₊². The product of an interval and a ball is part of an ellipsoid: from |t| ≤ 1, |v|₂ ≤ 1 follows
(t/LONG)² + (|v|/WIDE)² ≤ 1, as 1/LONG² + 1/WIDE² ≤ 1. So the slab is part of the set of all

    x0 + m_i A u_1 + LONG h ẽ_1 A u_1 + WIDE w_i Σ_{j>1} ẽ_j A u_j + r',   |ẽ|₂ ≤ 1,

where |r'_k| ≤ SLACK |A_k|₁ covers A r and the roundings of these formulas.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sdewm.certificates.enclosure.taylor_set import TaylorSet, rounded, upward
from sdewm.certificates.interval import UNIT

LONG, WIDE = 1.6667, 1.25
TOLERANCE, SLACK = 2.0**-40, 2.0**-38  # δ; of |A_k|₁
MOST_SLABS = 256


def start_sets(x0: Tensor, directions: Tensor, order: int) -> TaylorSet:
    """The sets of all x0 + A e, |e|₂ ≤ 1, and of these sums rounded to float64.

    Args:
        x0: (R, n), one for each row.
        directions: A, (R, n, p).
        order: 1 or 2.
    """
    rows = [TaylorSet.ball(*both, order) for both in zip(x0, directions.double(), strict=True)]
    parts = (torch.stack(some) for some in zip(*(one.parts for one in rows), strict=True))
    sets = TaylorSet(*parts, rows=len(x0) > 1)
    return rounded(sets, directions.shape[-1], sets.size)


def slab_sets(
    x0: Tensor, directions: Tensor, along: Tensor, slabs: range, count: int, order: int
) -> TaylorSet:
    """The given ones of `count` slabs that contain a ball together; each is a row.

    Args:
        x0: (n,).
        directions: A, (n, p).
        along: the direction that is cut, (p,), of any length above 0.
        slabs: their numbers, from 0 to count − 1.
        count: at most `MOST_SLABS`.
        order: 1 or 2.
    """
    errors = directions.shape[1]
    frame = _frame(along)
    moved = directions @ frame
    half = (1.0 + 2.0**-30) / count
    centres, axes = [], []
    for i in slabs:
        middle = (2 * i + 1 - count) / count
        width = math.sqrt(1.0 + 2.0**-30 - max(0.0, abs(middle) - half) ** 2) * (1.0 + 2.0**-30)
        scales = torch.full((errors,), WIDE * width, dtype=torch.float64)
        scales[0] = half * (LONG if errors > 1 else 1.0)
        centres.append(x0 + middle * moved[:, 0])
        axes.append(moved * scales)
    sets = start_sets(torch.stack(centres), torch.stack(axes), order)
    slack = SLACK * directions.abs().sum(1) + 4.0 * UNIT * x0.abs()
    return replace(sets, box=upward(sets.box + slack))


def _frame(along: Tensor) -> Tensor:
    """U, whose first column has the direction `along`.

    Raises:
        ArithmeticError: it is not orthogonal up to `TOLERANCE`.
    """
    unit = torch.eye(len(along), dtype=torch.float64)
    found = torch.linalg.qr(torch.cat([along[:, None], unit], 1)).Q
    if not float((found @ found.T - unit).norm()) < TOLERANCE / 2:  # its rounding is smaller
        raise ArithmeticError("directions: no orthogonal matrix could be computed.")
    return found
