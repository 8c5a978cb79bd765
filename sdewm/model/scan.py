"""A recurrent step along a sequence: step by step, or as one differentiable operation.

    y_t = step(s_{t−1}, x_t),   t = 1 … T,

where the first tensors of y_t are the next state s_t and the others are further outputs.

`step_by_step` leaves the gradient to torch, which records a graph of every step and adds up the
gradient of every weight T times. `Scan` has a backward pass of its own. With ḡ_t the gradient of
the loss with respect to y_t where it is used, and λ_t the whole gradient,

    λ_T = ḡ_T,   λ_t = ḡ_t + (∂y_{t+1}/∂s_t)ᵀ λ_{t+1}.

The forward pass keeps what enters and leaves each product with a weight matrix. The recursion of λ
starts from there, so it repeats no product, and yields the gradient at each product's result. The
gradient of a weight matrix is then a single product over the rows of all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sdewm.base.compiling import Compiled, trace

Tensors = tuple[Tensor, ...]
# step(*state, *inputs) → (*next state, *further outputs), all tensors (B, …).
FlatStep = Callable[..., Tensors]


def step_by_step(step: FlatStep, state: Tensors, inputs: Tensors) -> Tensors:
    """The outputs of all steps, each (T, B, …).

    Args:
        step: function of the state and of the inputs of one time step.
        state: the state before the first step, tensors (B, …).
        inputs: tensors (T, B, …).

    Raises:
        ValueError: no time step.

    >>> add = lambda s, x: (s + x, -s)
    >>> step_by_step(add, (torch.zeros(1),), (torch.ones(3, 1),))
    (tensor([[1.],
            [2.],
            [3.]]), tensor([[-0.],
            [-1.],
            [-2.]]))
    """
    _require_steps(inputs)
    rows = []
    for now in zip(*(part.unbind() for part in inputs), strict=True):
        rows.append(step(*state, *now))
        state = rows[-1][: len(state)]
    return tuple(torch.stack(parts) for parts in zip(*rows, strict=True))


class Scan:
    """`step_by_step` of one step, compiled and with a backward pass of its own.

    It cannot be differentiated twice. Shapes, dtypes and devices other than before compile anew;
    everything else that the step reads, such as a training mode, stays as it was at the first call.

    Args:
        step: function of the state and of the inputs of one time step; treats rows independently,
            draws no random numbers, and changes nothing in place that enters or leaves a layer.
        modules: those whose weights the step uses. The weights of a layer (`nn.Linear`,
            `BlockLinear`) may be used by that layer only, other weights in any way.
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
        every = (weight for part in modules for weight in part.parameters())
        # Each once: modules may share weights.
        self.weights = [*{id(w): w for w in every if w.requires_grad}.values()]
        self.values = Compiled(step, trace)
        self.forward = Compiled(self._forward, trace)  # the values, and what to keep
        self.outputs = 0  # of the step; known after the first forward pass, as are
        self.products: list[Product] = []
        self._adjoints: dict[tuple[bool, ...], Compiled] = {}
        self._is_checked = False

    def __call__(self, state: Tensors, inputs: Tensors) -> Tensors:
        """The outputs of all steps, each (T, B, …), with gradients to state, inputs and weights."""
        state, inputs = _contiguous(state), _contiguous(inputs)
        self._check(state, inputs)
        if not torch.is_grad_enabled():
            return step_by_step(self.values.version(*state, *_first(inputs)), state, inputs)
        found: Any = _Scan.apply(self, *state, *inputs, *self.weights)
        return found

    @torch.no_grad()
    def _check(self, state: Tensors, inputs: Tensors) -> None:
        """Refuse a step that gives other values the second time; looked at once."""
        _require_steps(inputs)
        if self._is_checked:
            return
        first, second = (self.step(*state, *_first(inputs)) for _ in range(2))
        if not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
            raise ValueError("step is random; draw its noise before and pass it as an input.")
        self._is_checked = True

    def adjoint(self, wanted: tuple[bool, ...]) -> Compiled:
        """The step of λ, for the inputs that need a gradient.

        (s_{t−1}, x_t, results of the products, ḡ_{t−1}, λ_t) ↦ λ_{t−1} of the state, then the
        gradients of the inputs wanted, of the results of the products, and of `other_weights`.
        """
        if wanted not in self._adjoints:
            self._adjoints[wanted] = Compiled(partial(self._pull_back, wanted), trace)
        return self._adjoints[wanted]

    @property
    def other_weights(self) -> list[Tensor]:
        """The weights that are no part of a product."""
        used = {id(w) for product in self.products for w in (product.matrix, product.bias)}
        return [weight for weight in self.weights if id(weight) not in used]

    def _forward(self, *tensors: Tensor) -> Tensors:
        with _Products() as met:
            outputs = self.step(*tensors)
        met.check()
        given = {id(weight) for weight in self.weights}
        used = (w for product in met.products for w in (product.matrix, product.bias))
        if any(w is not None and w.requires_grad and id(w) not in given for w in used):
            raise ValueError(
                "step uses a layer of none of the modules given; name its module, too."
            )
        self.outputs, self.products = len(outputs), met.products
        return (*outputs, *met.arguments, *met.results)

    def _pull_back(self, wanted: tuple[bool, ...], *tensors: Tensor) -> Tensors:
        parts = iter(tensors)

        def take(count: int) -> list[Tensor]:
            return [next(parts) for _ in range(count)]

        state, inputs = take(self.states), take(len(wanted))
        results, direct, whole = take(len(self.products)), take(self.states), [*parts]
        leaves = [
            x.detach().requires_grad_(x.is_floating_point()) for x in (*state, *inputs, *results)
        ]
        first, second = self.states, self.states + len(inputs)
        with torch.enable_grad(), _Products(leaves[second:]):
            outputs = self.step(*leaves[:second])
        sources = [*leaves[:first], *self._some(leaves[first:second], wanted), *leaves[second:]]
        used = [w for product in self.products for w in (product.matrix, product.bias)]
        inside = [weight for weight in used if weight is not None and weight.requires_grad]
        pairs = [(y, g) for y, g in zip(outputs, whole, strict=True) if y.requires_grad]
        taken, given = zip(*pairs, strict=True)
        found = torch.autograd.grad(
            taken, [*sources, *self.other_weights, *inside], given, allow_unused=True
        )
        count = len(found) - len(inside)
        if any(gradient is not None for gradient in found[count:]):
            raise RuntimeError("step uses a weight of a layer outside it; use step_by_step.")
        filled = [
            torch.zeros_like(x) if gradient is None else gradient
            for x, gradient in zip([*sources, *self.other_weights], found[:count], strict=True)
        ]
        earlier = [a + b for a, b in zip(direct, filled, strict=False)]
        return (*earlier, *filled[first:])

    @staticmethod
    def _some(parts: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor]:
        return [part for part, chosen in zip(parts, wanted, strict=True) if chosen]


@dataclass(frozen=True)
class Product:
    """A product of activations with a weight matrix: x Wᵀ + b of a linear layer, or x W of blocks.

    Attributes:
        matrix: W, (out, in) of a linear layer or (G, in, out) of G blocks.
        bias: b, or None.
    """

    matrix: Tensor
    bias: Tensor | None

    def back(self, gradient: Tensor) -> Tensor:
        """The gradient of x from that of the result."""
        matrix = self.matrix.detach().to(gradient.dtype)
        return gradient @ (matrix if matrix.dim() == 2 else matrix.mT)

    def gradients(self, argument: Tensor, gradient: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights with their gradients, from x and the result's gradient at all steps (T, …)."""
        x = argument.to(gradient.dtype)
        if self.matrix.dim() == 2:
            rows = gradient.reshape(-1, gradient.shape[-1])
            found = [(self.matrix, rows.mT @ x.reshape(-1, x.shape[-1]))]
            if self.bias is not None:
                found.append((self.bias, rows.sum(0)))
            return found
        x, rows = (part.movedim(0, 1).flatten(1, 2) for part in (x, gradient))  # (G, T·B, …)
        return [(self.matrix, x.mT @ rows)]


class _Products(TorchFunctionMode):
    """Records the products with weights; with `known`, these are taken as the results instead."""

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.known = [*known]
        self.products: list[Product] = []
        self.arguments: list[Tensor] = []
        self.results: list[Tensor] = []
        self._versions: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function, or its known result."""
        product = _product(func, args, kwargs or {})
        if product is None:
            return func(*args, **(kwargs or {}))
        if self.known:
            result: Any = _Known.apply(self.known[len(self.products)], args[0], product)
        else:
            result = func(*args, **(kwargs or {}))
        self.products.append(product)
        self.arguments.append(args[0])
        self.results.append(result)
        self._versions += [args[0]._version, result._version]
        return result

    def check(self) -> None:
        """Refuse changes in place of what entered or left a product, which is kept."""
        both = zip(self.arguments, self.results, strict=True)
        if self._versions != [part._version for pair in both for part in pair]:
            raise RuntimeError(
                "step changes in place what enters or leaves a layer; copy it first."
            )


def _product(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Product | None:
    """The product of a call with a weight matrix, if it is that of a layer; else None."""
    if func not in (functional.linear, torch.bmm) or len(args) < 2:
        return None
    matrix, bias = args[1], args[2] if len(args) > 2 else kwargs.get("bias")
    wanted = 2 if func is functional.linear else 3
    if not isinstance(matrix, nn.Parameter) or matrix.dim() != wanted:
        return None
    return Product(matrix, bias) if bias is None or isinstance(bias, nn.Parameter) else None


class _Known(torch.autograd.Function):
    """The result of a product, with gradients to itself and to the product's argument."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, argument: Tensor, product: Product) -> Tensor:  # type: ignore[override]
        """The known result."""
        ctx.product, ctx.dtype = product, argument.dtype
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        """Of the result, and of the argument."""
        return gradient, ctx.product.back(gradient).to(ctx.dtype), None


class _Scan(torch.autograd.Function):
    """The operation of `Scan`; tensors: state, inputs, weights."""

    @staticmethod
    def forward(ctx: Any, scan: Scan, *tensors: Tensor) -> Tensors:  # type: ignore[override]
        """All steps, without a graph."""
        last = len(tensors) - len(scan.weights)
        state, inputs = tensors[: scan.states], tensors[scan.states : last]
        step = scan.forward.version(*state, *_first(inputs))
        found = step_by_step(step, state, inputs)
        outputs, kept = found[: scan.outputs], found[scan.outputs :]
        # The weights are saved so that torch notices a change of them before the backward pass.
        ctx.save_for_backward(*tensors, *kept, *outputs[: scan.states])
        ctx.scan, ctx.inputs = scan, len(inputs)
        ctx.autocast = _autocast_as_now(outputs[0].device.type)
        return outputs

    @staticmethod
    def backward(ctx: Any, *direct: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The recursion of λ, then one product for each weight matrix."""
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError("a Scan cannot be differentiated twice; use step_by_step.")
        scan, count = ctx.scan, ctx.scan.states
        saved, products = [part.detach() for part in ctx.saved_tensors], len(scan.products)
        first, inputs = saved[:count], saved[count : count + ctx.inputs]
        states, kept = saved[-count:], saved[-count - 2 * products : -count]
        wanted = ctx.needs_input_grad[1 + count : 1 + count + ctx.inputs]
        before = [
            torch.cat([start.unsqueeze(0), part[:-1]])
            for start, part in zip(first, states, strict=True)
        ]
        direct = _contiguous(direct)
        with ctx.autocast():
            start, found = _recursion(scan, wanted, (*before, *inputs, *kept[products:]), direct)
        gradients = iter(found)
        of_inputs = [next(gradients) if chosen else None for chosen in wanted]
        of_weights: dict[int, Tensor] = {}
        for product, argument in zip(scan.products, kept[:products], strict=True):
            for weight, gradient in product.gradients(argument, next(gradients)):
                total = of_weights.get(id(weight), 0.0) + gradient.to(weight.dtype)
                of_weights[id(weight)] = total
        for weight in scan.other_weights:
            of_weights[id(weight)] = next(gradients).sum(0)
        return (None, *start, *of_inputs, *(of_weights.get(id(w)) for w in scan.weights))


def _recursion(
    scan: Scan, wanted: tuple[bool, ...], along: Sequence[Tensor], direct: Sequence[Tensor]
) -> tuple[Tensors, list[Tensor]]:
    """The gradient of the initial state, and what `Scan.adjoint` gives beside it, each (T, …).

    Args:
        scan: the scan.
        wanted: the inputs that need a gradient.
        along: states before each step, inputs and results of the products, each (T, …).
        direct: ḡ of every output, (T, B, …).
    """
    adjoint, count = scan.adjoint(wanted), scan.states
    nothing = tuple(torch.zeros_like(part[0]) for part in direct[:count])
    now = tuple(part[-1] for part in direct[:count])
    steps = [*zip(*(part.unbind() for part in along), strict=True)]
    used = [*zip(*(part.unbind() for part in direct), strict=True)]
    found, last = [], len(steps) - 1
    pull = adjoint.version(*steps[last], *nothing, *now, *used[last][count:])
    for t in range(last, -1, -1):
        earlier = used[t - 1][:count] if t else nothing
        given = pull(*steps[t], *earlier, *now, *used[t][count:])
        now = given[:count]
        found.append(given[count:])
    return now, [torch.stack(parts[::-1]) for parts in zip(*found, strict=True)]


def _require_steps(inputs: Tensors) -> None:
    lengths = [len(part) for part in inputs]
    if not lengths or 0 in lengths:
        raise ValueError(f"inputs have {lengths} steps; expected at least 1.")


def _contiguous(parts: Sequence[Tensor]) -> Tensors:
    return tuple(part.contiguous() for part in parts)


def _first(parts: Sequence[Tensor]) -> Tensors:
    return tuple(part[0] for part in parts)


def _autocast_as_now(device: str) -> Callable[[], AbstractContextManager]:
    """Autocast as it is set for this kind of device."""
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    return partial(torch.autocast, device, dtype, enabled=enabled)
