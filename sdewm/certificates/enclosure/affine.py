"""Affine operations on sets: exact on all coefficients, up to rounding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sdewm.certificates.enclosure.taylor_set import (
    MixedRows,
    Symbols,
    TaylorSet,
    aligned,
    rounded,
    upward,
)


def add(first: TaylorSet, second: TaylorSet, sign: float = 1.0) -> TaylorSet:
    """The sum x + y, or x − y for sign −1; each coefficient is rounded once."""
    x, y = aligned(first, second)
    size = upward(x.size + y.size)
    pairs = zip(x.parts[:4], y.parts[:4], strict=True)
    box = upward(x.box + y.box)
    found = TaylorSet.of((torch.add(a, b, alpha=sign) for a, b in pairs), box, x.rows or y.rows)
    return rounded(found, 1, size)


def negate(values: TaylorSet) -> TaylorSet:
    """−x, exactly."""
    return TaylorSet.of((-part for part in values.parts[:4]), values.box, values.rows)


def scale(values: TaylorSet, factor: Tensor) -> TaylorSet:
    """The products a ⊙ x with exact numbers a, of a shape that broadcasts with that of x."""
    return _each(values, factor, torch.mul)


def divide(values: TaylorSet, divisor: Tensor) -> TaylorSet:
    """The quotients x / a by exact numbers a ≠ 0."""
    return _each(values, divisor, torch.div)


def _each(
    values: TaylorSet, factor: Tensor, operation: Callable[[Tensor, Tensor], Tensor]
) -> TaylorSet:
    """The operation with the factor on every coefficient, each rounded once."""
    factor = factor.double()
    x = values.expanded(torch.broadcast_shapes(values.shape, factor.shape))
    found = TaylorSet(
        operation(x.centre, factor),
        operation(x.linear, factor[..., None]),
        operation(x.quadratic, factor[..., None, None]),
        operation(x.rest, factor[..., None]),
        upward(operation(x.box, factor.abs())),
        rows=x.rows,
    )
    return rounded(found, 1, upward(operation(x.size, factor.abs())))


def mean(values: TaylorSet, axis: int) -> TaylorSet:
    """The mean over an axis (counted from the left), which is kept with size 1."""
    count = torch.tensor(values.shape[axis], dtype=torch.float64)
    return divide(total(values, axis, True), count)


def multiply_matrix(values: TaylorSet, matrix: Tensor, symbols: Symbols) -> TaylorSet:
    """The product x W with an exact matrix W: x (…, n), W (n, m) or a batch (…, n, m).

    Each coefficient is a sum of n products: its error is at most γ_n Σ_i |W_ij| size_i. The box
    becomes symbols first.
    """
    x, matrix = symbols.absorb(values), matrix.double()
    turned = matrix.transpose(-1, -2)
    if matrix.dim() > 2:
        turned = turned.unsqueeze(-3)
    axes = x.centre.dim()
    if x.rows and (axes < 2 or 2 < matrix.dim() > axes):
        raise MixedRows("a product with a batch of matrices")

    def multiplied(part: Tensor) -> Tensor:
        return (turned @ part.flatten(axes)).unflatten(-1, part.shape[axes:])

    centre = x.centre @ matrix
    coefficients = map(multiplied, x.parts[1:4])
    found = TaylorSet.of((centre, *coefficients), torch.zeros_like(centre), x.rows)
    return rounded(found, matrix.shape[-2], upward(x.size @ matrix.abs()))


def total(values: TaylorSet, axis: int, keep: bool) -> TaylorSet:
    """The sum over an axis (counted from the left); boxes add up."""
    count = values.shape[axis]
    if values.rows and axis == 0:
        raise MixedRows("a sum over the first axis")

    def summed(part: Tensor) -> Tensor:
        return part.sum(axis, keepdim=keep)

    found = TaylorSet.of(map(summed, values.parts[:4]), upward(summed(values.box)), values.rows)
    return rounded(found, count, upward(summed(values.size)))
