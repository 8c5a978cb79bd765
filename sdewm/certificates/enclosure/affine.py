"""Affine operations on sets: exact on all coefficients, up to rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet, aligned, rounded, upward


def add(first: TaylorSet, second: TaylorSet, sign: float = 1.0) -> TaylorSet:
    """x + y, or x − y for sign −1; each coefficient is rounded once."""
    x, y = aligned(first, second)
    size = upward(x.size + y.size)
    pairs = zip(x.parts[:4], y.parts[:4], strict=True)
    found = TaylorSet(*(a + sign * b for a, b in pairs), upward(x.box + y.box))
    return rounded(found, 1, size)


def negate(values: TaylorSet) -> TaylorSet:
    """−x, exactly."""
    return TaylorSet(*(-part for part in values.parts[:4]), values.box)


def scale(values: TaylorSet, factor: Tensor) -> TaylorSet:
    """a ⊙ x for numbers a that are known exactly, of a shape that broadcasts with that of x."""
    factor = factor.double()
    x = values.expanded(torch.broadcast_shapes(values.shape, factor.shape))
    steep = factor.abs()
    found = TaylorSet(
        x.centre * factor,
        x.linear * factor[..., None],
        x.quadratic * factor[..., None, None],
        x.rest * factor[..., None],
        upward(x.box * steep),
    )
    return rounded(found, 1, upward(x.size * steep))


def multiply_matrix(values: TaylorSet, matrix: Tensor, symbols: Symbols) -> TaylorSet:
    """x W for a matrix W that is known exactly: x (…, n), W (n, m) or a batch (…, n, m).

    Each coefficient is a sum of n products: its error is at most γ_n Σ_i |W_ij| size_i. The box
    becomes symbols first.
    """
    x, matrix = symbols.absorb(values), matrix.double()
    turned = matrix.transpose(-1, -2)
    if matrix.dim() > 2:
        turned = turned.unsqueeze(-3)
    axes = x.centre.dim()

    def multiplied(part: Tensor) -> Tensor:
        return (turned @ part.flatten(axes)).unflatten(-1, part.shape[axes:])

    centre = x.centre @ matrix
    coefficients = map(multiplied, x.parts[1:4])
    found = TaylorSet(centre, *coefficients, torch.zeros_like(centre))
    return rounded(found, matrix.shape[-2], upward(x.size @ matrix.abs()))


def total(values: TaylorSet, axis: int, keep: bool) -> TaylorSet:
    """The sum over an axis (counted from the left); boxes add up."""
    count = values.shape[axis]

    def summed(part: Tensor) -> Tensor:
        return part.sum(axis, keepdim=keep)

    found = TaylorSet(*map(summed, values.parts[:4]), upward(summed(values.box)))
    return rounded(found, count, upward(summed(values.size)))
