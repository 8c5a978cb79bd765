"""A recurrent step along a sequence: step by step, or as one differentiable operation.

    y_t = step(s_{t−1}, x_t),   t = 1 … T,

where the first tensors of y_t are the next state s_t and the others are further outputs.

`step_by_step` leaves the gradient to torch, which records a graph of every step and adds up the
gradient of every weight T times. `Scan` has a backward pass of its own. With ḡ_t the gradient of
the loss with respect to y_t where it is used, and λ_t the whole gradient,

    λ_T = ḡ_T,   λ_t = ḡ_t + (∂y_{t+1}/∂s_t)ᵀ λ_{t+1},   ∂L/∂θ = Σ_t (∂y_t/∂θ)ᵀ λ_t.

Only the recursion of λ is sequential. It needs neither gradients of weights nor a recorded graph,
so the step and its adjoint are compiled. The sum over t is one pass over all rows of all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sdewm.base.compiling import Compiled

Tensors = tuple[Tensor, ...]
# step(*state, *inputs) → (*next state, *further outputs), all tensors (B, …).
FlatStep = Callable[..., Tensors]


def step_by_step(step: FlatStep, state: Tensors, inputs: Tensors) -> Tensors:
    """The outputs of all steps, each (T, B, …).

    Args:
        step: function of the state and of the inputs of one time step.
        state: the state before the first step, tensors (B, …).
        inputs: tensors (T, B, …).

    >>> add = lambda s, x: (s + x, -s)
    >>> step_by_step(add, (torch.zeros(1),), (torch.ones(3, 1),))
    (tensor([[1.],
            [2.],
            [3.]]), tensor([[-0.],
            [-1.],
            [-2.]]))
    """
    rows = []
    for now in zip(*inputs, strict=True):
        rows.append(step(*state, *now))
        state = rows[-1][: len(state)]
    return tuple(torch.stack(parts) for parts in zip(*rows, strict=True))


class Scan:
    """`step_by_step` of one step, compiled and with a backward pass of its own.

    It cannot be differentiated twice. Shapes, dtypes and devices other than before compile anew.

    Args:
        step: function of the state and of the inputs of one time step; treats rows independently.
        modules: those whose weights the step uses.
        states: number of tensors of the state.

    >>> linear = nn.Linear(2, 2)
    >>> step = lambda s, x: (torch.tanh(linear(s) + x),)
    >>> arguments = (torch.ones(3, 2),), (torch.ones(4, 3, 2),)
    >>> ours, slow = Scan(step, [linear], states=1)(*arguments), step_by_step(step, *arguments)
    >>> bool(torch.allclose(ours[0], slow[0]))
    True
    """

    def __init__(self, step: FlatStep, modules: Sequence[nn.Module], states: int) -> None:
        self.step, self.states = step, states
        self.weights = [
            weight for part in modules for weight in part.parameters() if weight.requires_grad
        ]
        self.forward = Compiled(step)
        self._adjoints: dict[int, Compiled] = {}

    def __call__(self, state: Tensors, inputs: Tensors) -> Tensors:
        """The outputs of all steps, each (T, B, …), with gradients to state, inputs and weights."""
        found: Any = _Scan.apply(self, *state, *inputs, *self.weights)
        return found

    def adjoint(self, inputs: int) -> Compiled:
        """(s_{t−1}, x_t, ḡ_{t−1}, λ_t) ↦ λ_{t−1} of the state, for so many tensors in x_t."""
        if inputs not in self._adjoints:
            self._adjoints[inputs] = Compiled(partial(self._pull_back, inputs))
        return self._adjoints[inputs]

    def _pull_back(self, inputs: int, *tensors: Tensor) -> Tensors:
        first, second = self.states, self.states + inputs
        state, now, rest = tensors[:first], tensors[first:second], tensors[second:]
        direct, after = rest[:first], rest[first:]
        found: Any = torch.func.vjp(lambda *before: self.step(*before, *now), *state)
        _, pull = found
        return tuple(a + b for a, b in zip(direct, pull(after), strict=True))


class _Scan(torch.autograd.Function):
    """The operation of `Scan`; tensors: state, inputs, weights."""

    @staticmethod
    def forward(ctx: Any, scan: Scan, *tensors: Tensor) -> Tensors:  # type: ignore[override]
        """All steps, without a graph."""
        last = len(tensors) - len(scan.weights)
        state, inputs = tensors[: scan.states], tensors[scan.states : last]
        outputs = step_by_step(scan.forward, state, inputs)
        # The weights are saved so that torch notices a change of them before the backward pass.
        ctx.save_for_backward(*tensors, *outputs[: scan.states])
        ctx.scan, ctx.inputs = scan, len(inputs)
        ctx.autocast = _autocast_as_now(outputs[0].device.type)
        return outputs

    @staticmethod
    def backward(ctx: Any, *direct: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The recursion of λ, then all rows of all steps at once."""
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError("a Scan cannot be differentiated twice; use step_by_step.")
        scan, count = ctx.scan, ctx.scan.states
        saved = ctx.saved_tensors
        first, inputs = saved[:count], saved[count : count + ctx.inputs]
        before = [
            torch.cat([start.unsqueeze(0), states[:-1]])
            for start, states in zip(first, saved[-count:], strict=True)
        ]
        with ctx.autocast():
            whole, start = _total_gradients(scan, before, inputs, direct)
            found = _gradients_of_all_rows(ctx, before, inputs, whole)
        return (None, *start, *found)


def _total_gradients(
    scan: Scan, before: Sequence[Tensor], inputs: Sequence[Tensor], direct: Sequence[Tensor]
) -> tuple[list[Tensor], Tensors]:
    """λ_1 … λ_T of every output, each (T, B, …), and the gradient of the initial state."""
    adjoint, count, steps = scan.adjoint(len(inputs)), scan.states, len(direct[0])
    nothing = tuple(torch.zeros_like(part[0]) for part in before)
    now, found = tuple(part[-1] for part in direct[:count]), []
    for t in reversed(range(steps)):
        found.append(now)
        earlier = tuple(part[t - 1] for part in direct[:count]) if t else nothing
        further = (part[t] for part in direct[count:])
        at = (part[t] for part in (*before, *inputs))
        now = adjoint(*at, *earlier, *now, *further)
    states = [torch.stack(parts[::-1]) for parts in zip(*found, strict=True)]
    return [*states, *direct[count:]], now


def _gradients_of_all_rows(
    ctx: Any, before: Sequence[Tensor], inputs: Sequence[Tensor], whole: Sequence[Tensor]
) -> list[Tensor | None]:
    """Σ_t (∂y_t/∂·)ᵀ λ_t for the inputs and the weights that need a gradient."""
    scan, steps = ctx.scan, len(whole[0])
    needed = ctx.needs_input_grad[1 + scan.states :]
    rows = [part.flatten(0, 1).detach() for part in inputs]
    for part, wanted in zip(rows, needed, strict=False):
        part.requires_grad_(wanted)
    with torch.enable_grad():
        outputs = scan.step(*(part.flatten(0, 1) for part in before), *rows)
    pairs = [
        (output, gradient.flatten(0, 1))
        for output, gradient in zip(outputs, whole, strict=True)
        if output.requires_grad
    ]
    sources = [x for x, wanted in zip([*rows, *scan.weights], needed, strict=True) if wanted]
    taken, weighted = zip(*pairs, strict=True)
    gradients = iter(torch.autograd.grad(taken, sources, weighted, allow_unused=True))
    found = [next(gradients) if wanted else None for wanted in needed]
    for place in range(len(inputs)):
        if (gradient := found[place]) is not None:
            found[place] = gradient.unflatten(0, (steps, -1))
    return found


def _autocast_as_now(device: str) -> Callable[[], AbstractContextManager]:
    """Autocast as it is set for this kind of device."""
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    return partial(torch.autocast, device, dtype, enabled=enabled)
