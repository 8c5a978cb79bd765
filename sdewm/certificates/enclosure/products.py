"""Products of sets: gates, and noise times a standard deviation that depends on the state.

With x = u + L + w and y = v + K + z, where L = M e and K = N e are linear in the initial error,

    x y = u v + (v L + u K) + (v w + u z + L K) + (L z + w K + w z).

The first three terms are kept: L K = eᵀ M Nᵀ e exactly. The last one is the remainder, at most
|L| |z| + |w| |K| + |w| |z|.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdewm.certificates.enclosure.taylor_set import TaylorSet, aligned, rounded, upward


def outer(first: TaylorSet, second: TaylorSet) -> tuple[Tensor, Tensor]:
    """The form of (M e)(N e), symmetric, and a bound of it where quadratic terms are not kept."""
    left, right = first.linear, second.linear
    if first.quadratic.shape[-1] == left.shape[-1]:
        form = left[..., :, None] * right[..., None, :]
        return 0.5 * (form + form.transpose(-1, -2)), torch.zeros_like(first.centre)
    return torch.zeros_like(first.quadratic), upward(first.slopes * second.slopes)


def multiply(first: TaylorSet, second: TaylorSet) -> TaylorSet:
    """The products x ⊙ y; each coefficient is a sum of at most four products."""
    x, y = aligned(first, second)
    u, v = x.centre, y.centre
    form, dropped = outer(x, y)
    remainder = x.slopes * y.higher + x.higher * y.slopes + x.higher * y.higher
    found = TaylorSet(
        u * v,
        torch.addcmul(v[..., None] * x.linear, u[..., None], y.linear),
        torch.addcmul(v[..., None, None] * x.quadratic, u[..., None, None], y.quadratic) + form,
        torch.addcmul(v[..., None] * x.rest, u[..., None], y.rest),
        upward(u.abs() * y.box + v.abs() * x.box + dropped + upward(remainder)),
        rows=x.rows or y.rows,
    )
    return rounded(found, 4, upward(x.size * y.size))
