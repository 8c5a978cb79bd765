"""Outputs of a step whose values do not follow from its inputs as automatic differentiation says.

A straight-through sample has the values of a sample, which do not change with the inputs, and the
derivative of its probabilities. A detached output changes, and has no derivative. Both would be
penalised by a number that has nothing to do with the step (S25).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sdewm.base.findings import Finding
from sdewm.base.kept_tensors import kept_tensors
from sdewm.jacobian.products import Step, join_rows, joined_step, push_forward

MOVES = {torch.float64: (1e-4, 1e-5), torch.float32: (1e-2, 3e-3)}  # of central differences
SHIFT = 0.05  # of the inputs, relative, to a second point at which it has to be wrong as well
CONVERGED, APART = 0.02, 0.1  # relative: two differences of half the step; slope and difference
REMEDY = (
    "return the probabilities, or the mean and the standard deviation, and draw the sample outside "
    "of the step; look for .detach() and torch.no_grad()"
)


class _Halves(TorchDispatchMode):
    """Notices numbers of half precision."""

    seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation itself."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.seen |= result.dtype in (torch.bfloat16, torch.float16)
        return result


def disconnected_outputs(step: Step, rows: tuple[torch.Tensor, ...]) -> Finding | None:
    """The outputs whose derivative along a direction is not the slope of their values.

    Output c is one of them if, in more than half of the rows and for two sizes h of the move,
    |(J v)_c − D_c| > max(|(J v)_c|, |D_c|)/10, where the central difference D_c at h/2 agrees with
    that at h to 2 % of the same maximum and rounding is less than that. Steps that compute in half
    precision are not judged.

    Args:
        step: it is pure and treats its rows apart.
        rows: its inputs, in float32 or float64.

    Returns:
        A finding "derivatives" that names the outputs; None if there are none.
    """
    if rows[0].dtype not in MOVES or not all(row.dtype == rows[0].dtype for row in rows):
        return None
    found = _slopes(step, rows)
    if found is None or not bool(found.wrong.any()):
        return None
    # At a kink, as of a ReLU at zero, a derivative has no right value: look at another point.
    other = _slopes(step, tuple(row + SHIFT * _direction(row) for row in rows))
    wrong = found.wrong & other.wrong if other is not None else found.wrong
    if not bool(wrong.any()):
        return None
    return Finding("derivatives", _message(wrong, found), REMEDY)


class _Slopes(NamedTuple):
    """Derivatives of the outputs along a direction, and central differences of their values."""

    automatic: torch.Tensor  # (B, C)
    measured: torch.Tensor  # (B, C)
    wrong: torch.Tensor  # (C,)


def _slopes(step: Step, rows: tuple[torch.Tensor, ...]) -> _Slopes | None:
    """The slopes at one point; None for a step that computes in half precision."""
    function, directions = joined_step(step, len(rows[0])), [_direction(row) for row in rows]

    def at(h: float) -> torch.Tensor:
        moved = (row + h * way for row, way in zip(rows, directions, strict=True))
        return function(*(row.detach().clone().requires_grad_() for row in moved)).detach().clone()

    with kept_tensors(), torch.enable_grad():
        with _Halves() as halves:
            value = at(0.0)
        if halves.seen or value.dtype != rows[0].dtype:
            return None
        leaves = tuple(row.detach().clone().requires_grad_() for row in rows)
        slope = push_forward(step, leaves)(join_rows(tuple(directions))).detach()  # (B, C)
        differences = {h: (at(h) - at(-h)) / (2 * h) for h in _with_halves(value.dtype)}
    wrong, fine = torch.ones_like(value[0], dtype=torch.bool), slope
    for h in MOVES[value.dtype]:
        coarse, fine = differences[h], differences[h / 2]
        scale = torch.maximum(slope.abs(), fine.abs())
        rounding = 20 * torch.finfo(value.dtype).eps * value.abs().clamp(min=1e-6) / h
        sure = ((coarse - fine).abs() + rounding) <= CONVERGED * scale
        apart = (slope - fine).abs() > APART * scale
        wrong = wrong & ((sure & apart).double().mean(0) > 0.5)
    return _Slopes(slope, fine, wrong)


def _with_halves(dtype: torch.dtype) -> list[float]:
    """The moves, and half of each."""
    return [size for h in MOVES[dtype] for size in (h, h / 2)]


def _direction(row: torch.Tensor) -> torch.Tensor:
    """A direction of the size of the inputs, without a structure that they could share."""
    numbers = torch.arange(1, row.numel() + 1, dtype=torch.float64, device=row.device)
    largest = float(row.abs().max()) or 1.0
    return (largest * torch.cos(numbers**2)).reshape(row.shape).to(row)


def _message(wrong: torch.Tensor, found: _Slopes) -> str:
    """What is seen in these outputs: no change, no derivative, or another one."""
    places = wrong.nonzero().flatten().tolist()
    few = ", ".join(map(str, places[:4])) + (", …" if len(places) > 4 else "")
    what = f"{len(places)} of {len(wrong)} outputs of step (number {few} of a row)"
    automatic, measured = (part[:, wrong].abs() for part in (found.automatic, found.measured))
    if not bool(automatic.any()):
        return f"{what} are detached: their values change with its inputs, without a derivative"
    if bool(measured.median() <= 1e-3 * automatic.median()):
        return (
            f"{what} are straight-through: automatic differentiation gives a derivative, but their "
            "values do not change with its inputs"
        )
    return f"{what} are detached in part: the derivative is not the slope of their values"
