"""Functions that only move numbers: applied to every coefficient, without rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdewm.certificates.enclosure.taylor_set import MixedRows, TaylorSet


def moved(values: TaylorSet, move: Callable[[Tensor], Tensor]) -> TaylorSet:
    """The set whose numbers are those of `values` at the places that `move` takes them from.

    Args:
        values: x, of shape S.
        move: a function of tensors of shape S that only moves, repeats or drops numbers.
    """
    count = math.prod(values.shape)
    places = move(torch.arange(count).reshape(values.shape))
    if places.numel() == count and bool((places.reshape(-1) == torch.arange(count)).all()):
        index: Any = None  # a reshape
    else:
        index = places.reshape(-1)

    if values.rows:
        _check_rows(places, len(values.centre), count)

    def taken(part: Tensor) -> Tensor:
        tail = part.shape[len(values.shape) :]
        flat = part.reshape(count, *tail)
        return (flat if index is None else flat[index]).reshape((*places.shape, *tail))

    return TaylorSet(*map(taken, values.parts), rows=values.rows)


def _check_rows(places: Tensor, rows: int, count: int) -> None:
    """Refuse places that are not in their own row."""
    if places.shape[:1] != (rows,) or bool(
        (places.reshape(rows, -1) // (count // rows) != torch.arange(rows)[:, None]).any()
    ):
        raise MixedRows("a function that moves numbers")


def concatenate(parts: Sequence[TaylorSet], axis: int) -> TaylorSet:
    """The sets one after the other along an axis, counted from the left."""
    count = max(part.symbols for part in parts)
    rows = any(part.rows for part in parts)
    if rows and axis == 0:
        raise MixedRows("a concatenation along the first axis")
    wide = [part.with_symbols(count).parts for part in parts]
    return TaylorSet(*(torch.cat(some, axis) for some in zip(*wide, strict=True)), rows=rows)


def padded(values: TaylorSet, pad: Sequence[int]) -> TaylorSet:
    """The set with zeros around it, `pad` as in torch.nn.functional.pad."""
    if values.rows and len(pad) >= 2 * len(values.shape):
        raise MixedRows("a pad of the first axis")

    def wide(part: Tensor) -> Tensor:
        behind = (0, 0) * (part.dim() - values.centre.dim())
        return torch.nn.functional.pad(part, (*behind, *pad))

    return TaylorSet(*map(wide, values.parts), rows=values.rows)


def split(values: TaylorSet, pieces: Sequence[Tensor], cut: Callable[..., Any]) -> tuple[Any, ...]:
    """The pieces into which a function of tensors cuts the set."""
    return tuple(moved(values, lambda part, k=k: cut(part)[k]) for k in range(len(pieces)))
