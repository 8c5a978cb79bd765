"""Sums, products, quotients and powers of sets as torch functions, with torch's arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sdewm.certificates.enclosure import affine, shapes
from sdewm.certificates.enclosure.elementwise import Power, apply
from sdewm.certificates.enclosure.products import multiply as product
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet, upward


class Unsupported(ValueError):
    """Arguments of a torch function for which there is no enclosure."""


class Execution(Protocol):
    """What rules use of a `SetExecution`."""

    symbols: Symbols

    def as_set(self, values: TaylorSet | Tensor | float) -> TaylorSet:
        """A set, or an exact tensor or number as one."""
        ...


Value = TaylorSet | Tensor | float
Rule = Callable[..., Any]


def axis_of(values: TaylorSet, dim: int) -> int:
    """The axis counted from the left; Unsupported if there is none."""
    count = len(values.shape)
    if dim is None or not -count <= dim < count:
        raise Unsupported(f"dim={dim}: expected an axis of {count}.")
    return int(dim) % count


def pair(run: Execution, x: Value, other: Value) -> tuple[TaylorSet, TaylorSet]:
    """Both as sets; the box of one that is repeated becomes symbols first, so that it stays one."""
    first, second = run.as_set(x), run.as_set(other)
    shape = torch.broadcast_shapes(first.shape, second.shape)
    parts = [part if part.shape == shape else run.symbols.absorb(part) for part in (first, second)]
    return parts[0], parts[1]


def add(run: Execution, x: Value, other: Value, *, alpha: float = 1.0) -> TaylorSet:
    """torch.add."""
    if alpha != 1.0:
        other = multiply(run, other, alpha)
    return affine.add(*pair(run, x, other))


def subtract(run: Execution, x: Value, other: Value) -> TaylorSet:
    """torch.sub."""
    return affine.add(*pair(run, x, other), -1.0)


def multiply(run: Execution, x: Value, other: Value) -> TaylorSet:
    """torch.mul."""
    if isinstance(x, TaylorSet) and isinstance(other, TaylorSet):
        return product(*pair(run, x, other))
    if not isinstance(x, TaylorSet):
        x, other = other, x
    assert not isinstance(other, TaylorSet)
    return affine.scale(run.as_set(x), torch.as_tensor(other, dtype=torch.float64))


def divide(run: Execution, x: Value, other: Value) -> TaylorSet:
    """torch.div without rounding mode."""
    if not isinstance(other, TaylorSet):
        return affine.divide(run.as_set(x), torch.as_tensor(other, dtype=torch.float64))
    return multiply(run, x, reciprocal(run, other))


def reciprocal(run: Execution, input: Value) -> TaylorSet:
    """1/x = s/(s x) with the sign s of each centre."""
    x = run.as_set(input)
    signs = torch.where(x.centre < 0, -1.0, 1.0).double()
    return affine.scale(apply(Power(-1.0, 0.0), affine.scale(x, signs)), signs)


WHOLE_POWERS = range(2, 9)


def power(run: Execution, x: Value, exponent: Value) -> TaylorSet:
    """torch.pow with one of the exponents that have an enclosure."""
    if isinstance(exponent, (TaylorSet, Tensor)):
        raise Unsupported("expected a number as exponent.")
    base = run.as_set(x)
    if exponent in WHOLE_POWERS:
        found = base
        for _ in range(int(exponent) - 1):
            found = product(found, base)
        return found
    if exponent in (-1.0, -2.0):
        found = reciprocal(run, base)
        return found if exponent == -1.0 else product(found, found)
    if exponent in (0.5, -0.5):
        return apply(Power(exponent, 0.0), base)
    raise Unsupported(f"exponent={exponent}: expected 2 to 8, 0.5, -0.5, -1 or -2.")


def matmul(run: Execution, x: Value, other: Value) -> TaylorSet:
    """torch.matmul where one factor does not depend on the state."""
    if isinstance(other, TaylorSet) and not (isinstance(x, TaylorSet) and _is_constant(other)):
        if other.centre.dim() < 2:  # A x = (xᵀ Aᵀ)ᵀ
            raise Unsupported("expected a state with a batch axis.")
        turned = _turned(other)
        matrix = x if isinstance(x, Tensor) else _turned(run.as_set(x))
        if isinstance(matrix, Tensor):
            if matrix.dim() < 2:
                raise Unsupported("expected a matrix.")
            matrix = matrix.transpose(-1, -2)
        return _turned(_times_matrix(run, turned, matrix))
    return _times_matrix(run, x, other)


def _turned(values: TaylorSet) -> TaylorSet:
    return shapes.moved(values, lambda part: part.transpose(-1, -2))


def _is_constant(values: TaylorSet) -> bool:
    """Whether a set is that of one tensor, up to its roundings: of all rows, and of every e."""
    return not (values.rows or bool(values.linear.any()) or bool(values.quadratic.any()))


def _times_matrix(run: Execution, x: Value, weight: Value) -> TaylorSet:
    """The product with a matrix W that is known exactly, or up to the roundings of its own.

    Where W is in Ŵ ± ρ, |x (W − Ŵ)| ≤ size ρ.
    """
    values = run.as_set(x)
    if isinstance(weight, TaylorSet) and not _is_constant(weight):
        raise Unsupported("expected a matrix that does not depend on the state.")
    matrix = weight.centre if isinstance(weight, TaylorSet) else torch.as_tensor(weight)
    if matrix.dim() < 2 or (matrix.dim() > 2 and len(values.shape) < 2):
        raise Unsupported("expected a matrix, and a state with a batch axis for more of them.")
    found = affine.multiply_matrix(values, matrix, run.symbols)
    if isinstance(weight, TaylorSet):
        found = found.widened(upward(values.size @ weight.spread))
    return found


def linear(run: Execution, input: Value, weight: Value, bias: Value | None = None) -> TaylorSet:
    """torch.nn.functional.linear."""
    axes = len(weight.shape) if isinstance(weight, (TaylorSet, Tensor)) else 0

    def turned(part: Tensor) -> Tensor:
        return part.T if axes == 2 else part[:, None]

    matrix = shapes.moved(weight, turned) if isinstance(weight, TaylorSet) else turned(weight)  # type: ignore[arg-type]
    found = _times_matrix(run, input, matrix)
    if axes == 1:
        found = shapes.moved(found, lambda part: part.squeeze(-1))
    return found if bias is None else affine.add(*pair(run, found, bias))


def addmm(run: Execution, input: Value, mat1: Value, mat2: Value) -> TaylorSet:
    """torch.addmm."""
    return affine.add(run.as_set(input), matmul(run, mat1, mat2))


def lerp(run: Execution, input: Value, end: Value, weight: Value) -> TaylorSet:
    """torch.lerp."""
    start = run.as_set(input)
    gap = affine.add(run.as_set(end), start, -1.0)
    return affine.add(start, multiply(run, gap, weight))


def total(
    run: Execution, input: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> TaylorSet:
    """torch.sum."""
    found = run.as_set(input)
    axes = range(len(found.shape)) if dim is None else dim
    axes = axes if isinstance(axes, Iterable) and not isinstance(axes, Tensor) else [int(axes)]
    axes = [*axes] or range(len(found.shape))  # no axes are all, as in torch
    for axis in sorted({axis_of(found, one) for one in axes}, reverse=True):
        found = affine.total(found, axis, keepdim)
    return found


def mean(
    run: Execution, input: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> TaylorSet:
    """torch.mean."""
    x = run.as_set(input)
    found = total(run, x, dim, keepdim)
    count = math.prod(x.shape) // math.prod(found.shape)
    return affine.divide(found, torch.tensor(count, dtype=torch.float64))


def square(run: Execution, input: Value) -> TaylorSet:
    """torch.square."""
    x = run.as_set(input)
    return product(x, x)


def diag_embed(run: Execution, input: Value) -> TaylorSet:
    """torch.diag_embed of the last axis."""
    x = run.as_set(input)
    unit = torch.eye(x.shape[-1], dtype=torch.float64)
    return affine.scale(shapes.moved(x, lambda part: part.unsqueeze(-1)), unit)
