"""Torch functions that move, copy, convert or make numbers, with torch's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdewm.certificates.enclosure import shapes
from sdewm.certificates.enclosure.arithmetic import Execution, Rule, Unsupported, Value, axis_of
from sdewm.certificates.enclosure.taylor_set import TaylorSet


def concatenate(run: Execution, tensors: Sequence[Value], dim: int = 0) -> TaylorSet:
    """torch.cat."""
    parts = [run.as_set(part) for part in tensors]
    parts = [part for part in parts if part.shape != (0,)]  # which torch leaves out
    return shapes.concatenate(parts, axis_of(parts[0], dim))


def stack(run: Execution, tensors: Sequence[Value], dim: int = 0) -> TaylorSet:
    """torch.stack."""
    parts = [run.as_set(part) for part in tensors]
    axis = dim % (len(parts[0].shape) + 1)
    wide = [shapes.moved(part, lambda some: some.unsqueeze(axis)) for part in parts]
    return shapes.concatenate(wide, axis)


def padded(
    run: Execution,
    input: Value,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> TaylorSet:
    """torch.nn.functional.pad with zeros."""
    if mode != "constant" or value:
        raise Unsupported("expected mode='constant' with zeros.")
    return shapes.padded(run.as_set(input), pad)


def transpose(run: Execution, x: Value, dim0: int, dim1: int) -> TaylorSet:
    """torch.transpose."""
    return shapes.moved(run.as_set(x), lambda part: part.transpose(dim0, dim1))


def same(run: Execution, x: TaylorSet) -> TaylorSet:
    """The set itself."""
    return x


def converted(
    run: Execution, x: TaylorSet | Tensor, *target: Any, **named: Any
) -> TaylorSet | Tensor:
    """Conversions of a set that change nothing, and of a constant to the precision of a set."""
    for other in (*target, *named.values()):
        kind = other.centre.dtype if isinstance(other, TaylorSet) else other
        kind = kind.dtype if isinstance(kind, Tensor) else kind
        if isinstance(kind, torch.dtype) and kind != torch.float64:
            raise Unsupported(f"{kind} would round the state; expected torch.float64.")
    return x.double() if isinstance(x, Tensor) else x


def to_float32(run: Execution, x: TaylorSet) -> TaylorSet:
    """Refused: it would round."""
    raise Unsupported("torch.float32 would round the state; expected torch.float64.")


def moving(name: str) -> Rule:
    """A function of one tensor that moves numbers, and its method of the same name."""

    def rule(run: Execution, x: TaylorSet, *args: Any, **kwargs: Any) -> TaylorSet:
        if any(isinstance(one, torch.dtype) for one in (*args, *kwargs.values())):
            raise Unsupported("expected no dtype.")
        return shapes.moved(x, lambda part: getattr(part, name)(*args, **kwargs))

    return rule


def expand_as(run: Execution, x: Value, other: Value) -> TaylorSet:
    """torch.Tensor.expand_as."""
    shape = run.as_set(other).shape
    return shapes.moved(run.as_set(x), lambda part: part.expand(shape))


def cutting(name: str) -> Rule:
    """A function that cuts one tensor into several."""

    def rule(run: Execution, x: TaylorSet, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        def cut(part: Tensor) -> Any:
            return getattr(part, name)(*args, **kwargs)

        return shapes.split(x, cut(x.centre), cut)

    return rule


def indexed(run: Execution, x: TaylorSet, index: Any) -> TaylorSet:
    """x[index]."""
    return shapes.moved(x, lambda part: part[index])


def constant_like(name: str) -> Rule:
    """A function such as torch.zeros_like: of the shape of a set."""

    def rule(run: Execution, x: TaylorSet, *args: Any, **kwargs: Any) -> Tensor:
        return getattr(torch, name)(x.centre, *args, **kwargs)

    return rule


def new(name: str) -> Rule:
    """A method such as new_zeros, of a set."""

    def rule(run: Execution, x: TaylorSet, *args: Any, **kwargs: Any) -> Tensor:
        return getattr(x.centre, name)(*args, **kwargs)

    return rule
