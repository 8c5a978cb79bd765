"""Derivatives of a step that a penalty uses, against each other and against central differences.

For fixed u and v, the pairing p(h, W) = Σ_b u_bᵀ J_b(h, W) v_b of a step f with inputs h and
weights W is formed as (Jᵀu)ᵀ v and as uᵀ(J v). Its value is the derivative of Σ_b u_bᵀ f_b along v,
and its derivatives in h and W are those that the gradient of a penalty consists of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from sdewm.base.findings import ROWS_REMEDY, Finding
from sdewm.base.kept_tensors import kept_tensors
from sdewm.jacobian.products import Step, join_rows, joined_step, pull_back, push_forward

GROUPS = 8  # of weights, at most, that are moved apart from each other
STEP = {torch.float64: 1e-4, torch.float32: 1e-2}  # of central differences,
FINER = (1.0, 0.1, 0.01)  # as far as they are made smaller before a derivative is called wrong
SHIFT = 0.05  # of the inputs, relative, to the point at which it has to be wrong as well
TOLERANCE = {torch.float64: 2e-2, torch.float32: 5e-2}  # relative; weights divided by their norm
# as estimated by a few power iterations have gradients that are right to about one per cent
COARSE = 1e-4  # rounding unit from which on nothing is compared with differences
REWRITE = (
    "rewrite the operation in elementary operations of torch; a straight-through sample, a "
    "detached part and a hook have no derivative to penalise, and TorchScript a wrong one"
)


def wrong_pairing(step: Step, rows: tuple[torch.Tensor, ...], unit: float) -> Finding | None:
    """The first derivative that is wrong, or the rows that derivatives mix; None if all is right.

    D is wrong if |D − D_{h/2}| > 10 |D_h − D_{h/2}| + tolerance · |D_{h/2}| + rounding at several
    h, where D_h is the central difference at step h, and at a second point near the first.
    Differences that do not converge decide nothing.
    Derivatives in lower precisions are compared with each other only.

    Args:
        step: it is pure and treats its rows apart, as far as its values show.
        rows: its inputs.
        unit: rounding unit of the precision in use.

    Raises:
        RuntimeError: the step cannot be differentiated twice.
    """
    rows = tuple(row.detach() for row in rows)
    found = _wrong_at(step, rows, unit)
    if found is None or found.check == "rows":
        return found
    # At a kink, as of a ReLU at zero, a derivative has no right value: look at another point.
    shifted = tuple(row + SHIFT * _direction(row, k) for k, row in enumerate(rows))
    return _wrong_at(step, shifted, unit)


def _wrong_at(step: Step, rows: tuple[torch.Tensor, ...], unit: float) -> Finding | None:
    """`wrong_pairing` at one point."""
    weights = external_tensors(step, rows)
    pairing = _Pairing.at(step, rows)
    gradients, pushed = pairing.pulled(rows, weights), pairing.pushed(rows, weights)
    size = max((float(g.abs().max()) for g in gradients if g.numel()), default=0.0)
    for a, b in zip(gradients, pushed, strict=True):
        worst = float((a - b).abs().max()) if a.numel() else 0.0
        if worst > min(100 * unit**0.5, 0.5) * (size + unit):
            return Finding(
                "derivatives",
                "the second derivatives of an operation in step are wrong: two ways to compute the "
                f"gradient of uᵀJv differ by {worst:.3g}",
                REWRITE,
            )
    if pairing.mixed(rows):
        return Finding(
            "rows", "step mixes the rows of its batch", f"{ROWS_REMEDY} (in its derivatives)"
        )
    if unit > COARSE or rows[0].dtype not in STEP:
        return None
    return _against_differences(pairing, rows, weights, gradients)


@dataclass(frozen=True)
class _Pairing:
    """The pairing of a step with fixed u (B, C) and v (B, n)."""

    step: Step
    u: torch.Tensor
    v: torch.Tensor

    @staticmethod
    def at(step: Step, rows: tuple[torch.Tensor, ...]) -> _Pairing:
        with kept_tensors(), torch.enable_grad():
            outputs = joined_step(step, len(rows[0]))(*_leaves(rows)).detach().clone()
        u, v = (
            torch.linspace(-1.0, 2.0, like.numel(), dtype=like.dtype, device=like.device)
            .reshape(like.shape)
            .cos()
            for like in (outputs, join_rows(rows))
        )
        return _Pairing(step, u, v)

    def with_direction(self, v: torch.Tensor) -> _Pairing:
        return _Pairing(self.step, self.u, v)

    def values(self, rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """u_bᵀ f_b, shape (B,)."""
        with kept_tensors(), torch.enable_grad():
            leaves = _leaves(rows)
            outputs = joined_step(self.step, len(rows[0]))(*leaves)
            return (outputs * self.u).sum(1).detach().clone()

    def products(self, rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """u_bᵀ J_b v_b, shape (B,)."""
        with kept_tensors(), torch.enable_grad():
            return (pull_back(self.step, rows)[1](self.u) * self.v).sum(1).detach().clone()

    def pulled(
        self, rows: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Gradients in inputs and weights of the pairing as (Jᵀu)ᵀ v."""
        with kept_tensors(), torch.enable_grad():
            leaves = _leaves(rows)
            pairing = (pull_back(self.step, leaves)[1](self.u) * self.v).sum()
            return _gradients(pairing, (*leaves, *weights))

    def pushed(
        self, rows: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Gradients in inputs and weights of the pairing as uᵀ(J v)."""
        with kept_tensors(), torch.enable_grad():
            leaves = _leaves(rows)
            pairing = (push_forward(self.step, leaves)(self.v) * self.u).sum()
            return _gradients(pairing, (*leaves, *weights))

    def mixed(self, rows: tuple[torch.Tensor, ...]) -> bool:
        """Whether outputs of half of the rows have derivatives in the inputs of the others."""
        count = len(rows[0])
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        with kept_tensors(), torch.enable_grad():
            pull = pull_back(self.step, _leaves(rows))[1]
            for half in (torch.arange(count) % 2 == 1, drawn < count // 2):
                half = half.to(self.u.device)
                image = pull(self.u * half[:, None]).detach()
                across, own = (float(image[part].abs().max()) for part in (~half, half))
                if across > 100 * torch.finfo(image.dtype).eps * own:
                    return True
        return False


def _against_differences(
    pairing: _Pairing,
    rows: tuple[torch.Tensor, ...],
    weights: tuple[torch.Tensor, ...],
    gradients: tuple[torch.Tensor, ...],
) -> Finding | None:
    every = (*rows, *weights)
    directions = [_direction(tensor, k) for k, tensor in enumerate(every)]
    own = [row * size for row, size in zip(_like(pairing.v, rows), map(_size, rows), strict=True)]

    def along(h: float) -> tuple[torch.Tensor, ...]:
        return tuple(row + h * part for row, part in zip(rows, own, strict=True))

    # Slopes of the values along v, each input by its own size: those of the pairing with that v.
    slopes = pairing.with_direction(join_rows(tuple(own))).products(rows)
    if _is_wrong(slopes, lambda h: pairing.values(along(h))):
        if not bool(slopes.any()):
            return Finding(
                "derivatives",
                "step does not depend on its inputs in automatic differentiation, its values do",
                "look for a detached input",
            )
        return Finding(
            "derivatives",
            "the first derivative of step is not the slope of its values (central differences)",
            REWRITE,
        )
    for name, group in _groups(len(rows), len(every)):

        def at(h: float, group: Sequence[int] = group) -> torch.Tensor:
            inputs = tuple(
                row + h * directions[k] if k in group else row for k, row in enumerate(rows)
            )
            own = [(weights[k - len(rows)], directions[k]) for k in group if k >= len(rows)]
            with _moved_weights(own, h):
                return pairing.products(inputs).sum()

        slope = torch.stack([(gradients[k] * directions[k]).sum() for k in group]).sum()
        if _is_wrong(slope, at):
            h = STEP[rows[0].dtype]
            return Finding(
                "derivatives",
                f"the second derivatives of an operation in step are wrong in its {name}: the "
                f"gradient of uᵀJv has {float(slope):.3g} along a direction, central differences "
                f"{float((at(h) - at(-h)) / (2 * h)):.3g}",
                REWRITE,
            )
    return None


def _is_wrong(automatic: torch.Tensor, at: Callable[[float], torch.Tensor]) -> bool:
    """Whether a derivative differs from central differences of `at` at every step size."""
    unit, tolerance = torch.finfo(automatic.dtype).eps, TOLERANCE[automatic.dtype]

    def difference(h: float) -> tuple[torch.Tensor, float]:
        ahead, behind = at(h), at(-h)
        largest = max(float(ahead.abs().max()), float(behind.abs().max()))
        return (ahead - behind) / (2 * h), 20 * unit * (largest + unit**2) / h

    for h in (STEP[automatic.dtype] * finer for finer in FINER):
        fine, rounding = difference(h / 2)
        allowed = tolerance * fine.abs().max() + rounding
        finite = torch.isfinite(fine) & torch.isfinite(automatic)
        if not bool((((automatic - fine).abs() > allowed) & finite).any()):
            return False
        coarse, _ = difference(h)
        allowed = allowed + 10 * (coarse - fine).abs()
        if not bool((((automatic - fine).abs() > allowed) & finite).any()):
            return False
    return True


def _like(joined: torch.Tensor, rows: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The entries (B, n) as tensors of the shapes of the rows."""
    parts = joined.split([row[0].numel() for row in rows], 1)
    return tuple(part.reshape(row.shape) for row, part in zip(rows, parts, strict=True))


def _size(tensor: torch.Tensor) -> float:
    """The largest number, or 1 where there is none but 0."""
    return (float(tensor.detach().abs().max()) if tensor.numel() else 0.0) or 1.0


def _groups(inputs: int, total: int) -> Iterator[tuple[str, range]]:
    yield "inputs", range(inputs)
    stride = max(1, -(-(total - inputs) // GROUPS))
    for first in range(inputs, total, stride):
        yield "weights", range(first, min(first + stride, total))


def _direction(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """Random numbers of the size of the tensor's."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
    return (drawn * _size(tensor)).to(tensor)


@contextmanager
def _moved_weights(moves: list[tuple[torch.Tensor, torch.Tensor]], h: float) -> Iterator[None]:
    """Weights moved by h along their directions, and back; graphs that hold them stay valid."""
    before = [(weight, weight.detach().clone()) for weight, _ in moves]
    try:
        for weight, direction in moves:
            weight.data.add_(direction, alpha=h)
        yield
    finally:
        for weight, value in before:
            weight.data.copy_(value)


class _Entering(TorchFunctionMode):
    """Collects the tensors that enter a computation with a gradient and were not made in it."""

    def __init__(self, given: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.made: dict[int, torch.Tensor] = {id(tensor): tensor for tensor in given}
        self.found: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation itself; its arguments and results are noted."""
        for one in tree_leaves((args, kwargs)):
            if isinstance(one, torch.Tensor) and one.requires_grad and id(one) not in self.made:
                self.found[id(one)] = one
        result = func(*args, **(kwargs or {}))
        known = self.found
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and id(one) not in known:
                self.made[id(one)] = one
        return result


def external_tensors(step: Step, rows: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Weights: floating-point tensors with a gradient that the step holds, in order of use.

    Of tensors that share memory, none is among them.
    """
    leaves = _leaves(rows)
    entering = _Entering(leaves)
    with kept_tensors(), torch.enable_grad(), entering:
        joined_step(step, len(rows[0]))(*leaves)
    found = [t for t in entering.found.values() if t.is_floating_point() and t.numel()]
    places = [t.untyped_storage()._cdata for t in found]
    return tuple(t for t, p in zip(found, places, strict=True) if places.count(p) == 1)


def _leaves(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return tuple(row.detach().clone().requires_grad_() for row in rows)


def _gradients(pairing: torch.Tensor, of: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    if not pairing.requires_grad:
        return tuple(torch.zeros_like(tensor) for tensor in of)
    found = torch.autograd.grad(pairing, list(of), allow_unused=True, materialize_grads=True)
    return tuple(part.detach().clone() for part in found)  # autograd adds to them in place
