"""Layer and root-mean-square normalisation of sets.

y = x − mean(x) for layer normalisation and y = x for the other; v = |y|²/n + ε; the result is
y v^(−1/2) ⊙ γ + β. Constants that hold everywhere are of the order 1/√ε (see
`certificates.normalisation`). Here only the least v of the set matters, which is close to the
reference's.

With y_i = c_i + L_i + w_i, L_i = M_i e, w_i = q_i(e) + G_i b + ρ_i b'_i,

    |y|² = |c|² + 2 Σ c_i (L_i + w_i) + Σ L_i² + (2 Σ L_i w_i + Σ w_i²).

All but the bracket is kept: Σ L_i² = eᵀ (Mᵀ M) e. The bracket is bounded with what cancels in its
sums: Σ L_i q_i is a cubic form with coefficients T = Σ M_i ⊗ Q_i, at most the norm of T as a matrix
(p, p²); Σ L_i (G_i b) is at most the norm of the row sums of |Mᵀ G|. Both are at most the sums of
the products of bounds, which also measure the rounding of T and Mᵀ G.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdewm.certificates.enclosure.affine import add, divide, mean, scale
from sdewm.certificates.enclosure.elementwise import Power, apply
from sdewm.certificates.enclosure.products import multiply
from sdewm.certificates.enclosure.taylor_set import (
    MixedRows,
    Symbols,
    TaylorSet,
    rounded,
    spectral_bounds,
    upward,
)
from sdewm.certificates.interval import gamma


def mean_square(values: TaylorSet) -> TaylorSet:
    """|y|²/n over the last axis, which is kept with size 1."""
    y, c = values, values.centre
    if y.rows and c.dim() < 2:
        raise MixedRows("a normalisation of the first axis")
    count = c.shape[-1]
    linear, quadratic = y.linear, y.quadratic
    square = torch.zeros_like(quadratic[..., :1, :, :])
    remainder = _cross_terms(y) + (y.higher**2).sum(-1, keepdim=True)
    if quadratic.shape[-1] == linear.shape[-1]:
        square = (linear.transpose(-1, -2) @ linear).unsqueeze(-3)  # Mᵀ M
    else:
        remainder = remainder + (y.slopes**2).sum(-1, keepdim=True)
    turned = c.unsqueeze(-2)  # (…, 1, n)
    axes = c.dim()

    def along(part: Tensor) -> Tensor:
        flat = part.flatten(axes)  # (…, n, ·)
        return (turned @ flat).unflatten(-1, part.shape[axes:])

    box = 2.0 * (c.abs() * y.box).sum(-1, keepdim=True)
    found = TaylorSet(
        (c * c).sum(-1, keepdim=True),
        2.0 * along(linear),
        2.0 * along(quadratic) + square,
        2.0 * along(y.rest),
        upward(box + upward(remainder)),
        rows=y.rows,
    )
    size = upward((y.size**2).sum(-1, keepdim=True))
    return divide(rounded(found, 2 * count, size), torch.tensor(count, dtype=torch.float64))


def _cross_terms(y: TaylorSet) -> Tensor:
    """An upper bound of 2 |Σ L_i w_i|, (…, 1)."""
    count = y.shape[-1]
    turned = y.linear.transpose(-1, -2)  # (…, p, n)
    plain = (y.slopes * y.columns).sum(-1)
    mixed = torch.linalg.vector_norm(torch.linalg.vector_norm(turned @ y.rest, 1, -1), dim=-1)
    rest = torch.minimum(plain, upward(mixed + gamma(count) * plain))
    plain = (y.slopes * y.bends).sum(-1)
    cubic = spectral_bounds(turned @ y.quadratic.flatten(-2))
    rounding = gamma(count) * (y.slopes * y.bends_frobenius).sum(-1)
    bends = torch.minimum(plain, upward(cubic + rounding))
    return 2.0 * upward(rest + bends + (y.slopes * y.box).sum(-1))[..., None]


def normalise(
    values: TaylorSet,
    gain: Tensor | None,
    bias: Tensor | None,
    floor: float,
    centred: bool,
    symbols: Symbols,
) -> TaylorSet:
    """Normalisation over the last axis; see the head of the module.

    The remainder of v^(−1/2), one number, becomes a symbol before it multiplies all numbers.

    Args:
        values: x.
        gain: γ, (n,); None: 1.
        bias: β, (n,); None: 0.
        floor: ε.
        centred: whether the mean is subtracted (layer normalisation).
        symbols: of the computation.
    """
    y = values
    if centred:
        y = add(y, mean(y, y.centre.dim() - 1), -1.0)
    shift = y.constant(torch.full_like(y.centre[..., :1], floor))
    inverse = apply(Power(-0.5, floor), add(mean_square(y), shift))
    found = multiply(y, symbols.absorb(inverse))
    if gain is not None:
        found = scale(found, gain)
    return found if bias is None else add(found, found.constant(bias.double()))
