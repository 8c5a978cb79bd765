"""The forward derivative of each operation, by torch's own formulas.

A rule appends to a graph the operations that compute the derivative of one node from those of its
arguments; an absent derivative is zero and is left out. `base.forward_graph` applies the rules to a
whole graph.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Graph, Node

aten = torch.ops.aten
Tangents = dict[Node, Node | None]


class NoRule(Exception):
    """The graph holds an operation whose derivative is not known here."""


class Writer:
    """Appends operations to a graph; shapes and dtypes of nodes are known (`meta["val"]`)."""

    def __init__(self, graph: Graph, tangents: Mapping[Node, Node | None]) -> None:
        self.graph, self.tangents = graph, dict(tangents)
        self.added: list[Node] = []

    def __call__(self, target: Any, *args: Any, like: Any, **kwargs: Any) -> Node:
        """A new operation; `like` is a node or value of the same shapes and dtypes."""
        node = self.graph.call_function(target, args, kwargs)
        node.meta["val"] = like.meta["val"] if isinstance(like, Node) else like
        self.added.append(node)
        return node

    def of(self, argument: Any) -> Node | None:
        """The derivative of an argument; None if it is zero."""
        return self.tangents.get(argument) if isinstance(argument, Node) else None

    def filled(self, argument: Node) -> Node:
        """The derivative of an argument, with a tensor of zeros where it is zero."""
        found = self.of(argument)
        return self(aten.zeros_like.default, argument, like=argument) if found is None else found

    def times(self, a: Node, b: Any, like: Node) -> Node:
        """The product of two nodes, or of a node and a number."""
        return self(aten.mul.Tensor, a, b, like=like)

    def plus(self, a: Node | None, b: Node | None, like: Node) -> Node | None:
        """The sum of two terms, of which either may be absent."""
        if a is None or b is None:
            return a if b is None else b
        return self(aten.add.Tensor, a, b, like=like)


Rule = Callable[[Writer, Node], Node | None]
RULES: dict[Any, Rule] = {}


def rule(*targets: Any) -> Callable[[Rule], Rule]:
    """Registers a function as the rule of some operations."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(targets, rule))
        return rule

    return register


# Operations that are linear in their first argument, the only one that is differentiated.
@rule(
    *(aten.neg.default, aten.select.int, aten.slice.Tensor, aten.t.default, aten.expand.default),
    *(aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default),
    *(aten.transpose.int, aten.permute.default, aten.reshape.default),
    *(aten.sum.dim_IntList, aten.sum.default, aten.mean.dim, aten.mean.default),
    *(aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int, operator.getitem),
    *(aten.clone.default, aten._to_copy.default, aten.diag_embed.default, aten.flip.default),
    *(aten.index_select.default, aten.mul.Scalar, aten.div.Scalar, aten.diagonal.default),
    *(aten.cumsum.default, aten.roll.default),
)
def _linear(writer: Writer, node: Node) -> Node | None:
    first, *rest = node.args
    tangent = writer.of(first)
    if any(writer.of(other) is not None for other in rest):
        raise NoRule(f"{node.target} of a differentiated second argument")
    if tangent is None:
        return None
    value = node.meta["val"]
    if node.target is operator.getitem:
        index: Any = rest[0]
        like = tangent.meta["val"][index]
    else:
        like = value
    return writer(node.target, tangent, *rest, like=like, **node.kwargs)


# Constant where they are differentiable.
@rule(
    *(aten.zeros_like.default, aten.ones_like.default, aten.full_like.default),
    *(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default, aten.sign.default),
    *(aten.round.default, aten.floor.default, aten.ceil.default, aten.sgn.default),
)
def _constant(writer: Writer, node: Node) -> Node | None:
    return None


@rule(aten.view.default, aten._unsafe_view.default)
def _reshaped(writer: Writer, node: Node) -> Node | None:
    # A tangent may lie in memory in another order than its value, where no view is possible.
    return writer(aten.reshape.default, _of_first(writer, node), node.args[1], like=node)


@rule(aten.constant_pad_nd.default)
def _pad(writer: Writer, node: Node) -> Node | None:
    tangent = writer.of(node.args[0])
    assert tangent is not None
    return writer(aten.constant_pad_nd.default, tangent, node.args[1], like=node)


@rule(aten.cat.default, aten.stack.default)
def _join(writer: Writer, node: Node) -> Node | None:
    parts, *rest = node.args
    tangents = [writer.filled(part) for part in parts]  # type: ignore[union-attr]
    return writer(node.target, tangents, *rest, like=node, **node.kwargs)


@rule(aten.add.Tensor, aten.sub.Tensor)
def _sum(writer: Writer, node: Node) -> Node | None:
    first, second = (writer.of(argument) for argument in node.args)
    if second is not None and node.kwargs.get("alpha", 1) != 1:
        second = writer.times(second, node.kwargs["alpha"], second)
    if node.target is aten.add.Tensor:
        return writer.plus(first, second, node)
    if second is None:
        return first
    if first is None:
        return writer(aten.neg.default, second, like=second)
    return writer(aten.sub.Tensor, first, second, like=node)


@rule(aten.add.Scalar, aten.sub.Scalar)
def _shifted(writer: Writer, node: Node) -> Node | None:
    return writer.of(node.args[0])


@rule(aten.rsub.Scalar)
def _subtracted(writer: Writer, node: Node) -> Node | None:
    x, _, *alpha = node.args
    if alpha or node.kwargs:
        raise NoRule("rsub with a factor")
    tangent = writer.of(x)
    assert tangent is not None
    return writer(aten.neg.default, tangent, like=tangent)


@rule(aten.mul.Tensor)
def _product(writer: Writer, node: Node) -> Node | None:
    x, y = node.args
    dx, dy = writer.of(x), writer.of(y)
    right = None if dy is None else writer.times(dy, x, node)
    left = None if dx is None else writer.times(dx, y, node)
    return writer.plus(right, left, node)


@rule(aten.div.Tensor)
def _quotient(writer: Writer, node: Node) -> Node | None:
    x, y = node.args
    above, dy = writer.of(x), writer.of(y)
    if dy is not None:
        shift = writer.times(dy, node, node)
        if above is None:
            above = writer(aten.neg.default, shift, like=node)
        else:
            above = writer(aten.sub.Tensor, above, shift, like=node)
    assert above is not None
    return writer(aten.div.Tensor, above, y, like=node)


@rule(aten.mm.default, aten.bmm.default)
def _matrix_product(writer: Writer, node: Node) -> Node | None:
    x, y = node.args
    dx, dy = writer.of(x), writer.of(y)
    left = None if dx is None else writer(node.target, dx, y, like=node)
    right = None if dy is None else writer(node.target, x, dy, like=node)
    return writer.plus(left, right, node)


@rule(aten.addmm.default)
def _affine(writer: Writer, node: Node) -> Node | None:
    if node.kwargs or len(node.args) != 3:
        raise NoRule("addmm with factors")
    bias, x, y = node.args
    dx, dy = writer.of(x), writer.of(y)
    total = writer.of(bias)
    if dx is not None:
        total = writer.plus(total, writer(aten.mm.default, dx, y, like=node), node)
    if dy is not None:
        total = writer.plus(total, writer(aten.mm.default, x, dy, like=node), node)
    return total


@rule(aten.where.self)
def _choice(writer: Writer, node: Node) -> Node | None:
    condition, x, y = node.args
    return writer(aten.where.self, condition, writer.filled(x), writer.filled(y), like=node)  # type: ignore[arg-type]


@rule(aten.pow.Tensor_Scalar)
def _power(writer: Writer, node: Node) -> Node | None:
    x, exponent = node.args
    if exponent == 0:
        return None
    lower = writer(aten.pow.Tensor_Scalar, x, exponent - 1, like=node)  # type: ignore[operator]
    return writer.times(_of_first(writer, node), writer.times(lower, exponent, node), node)


@rule(aten.tanh.default, aten.sigmoid.default)
def _squashed(writer: Writer, node: Node) -> Node | None:
    tanh = node.target is aten.tanh.default
    backward = aten.tanh_backward.default if tanh else aten.sigmoid_backward.default
    return writer(backward, _of_first(writer, node), node, like=node)


@rule(aten.tanh_backward.default, aten.sigmoid_backward.default)
def _squashed_again(writer: Writer, node: Node) -> Node | None:
    gradient, output = node.args
    dg, dy = writer.of(gradient), writer.of(output)
    linear = None if dg is None else writer(node.target, dg, output, like=node)
    if dy is None:
        return linear
    double = writer(aten.mul.Tensor, output, -2, like=node)
    if node.target is aten.tanh_backward.default:
        curved = writer.times(writer.times(double, dy, node), gradient, node)
        return writer.plus(curved, linear, node)
    slope = writer(aten.add.Tensor, double, 1, like=node)
    curved = writer.times(writer.times(dy, gradient, node), slope, node)
    return writer.plus(linear, curved, node)


def _of_first(writer: Writer, node: Node) -> Node:
    tangent = writer.of(node.args[0])
    assert tangent is not None  # the node depends on it, and on nothing else
    return tangent


@rule(aten.sin.default)
def _sine(writer: Writer, node: Node) -> Node | None:
    slope = writer(aten.cos.default, node.args[0], like=node)
    return writer.times(_of_first(writer, node), slope, node)


@rule(aten.cos.default)
def _cosine(writer: Writer, node: Node) -> Node | None:
    sine = writer(aten.sin.default, node.args[0], like=node)
    slope = writer(aten.neg.default, sine, like=node)
    return writer.times(_of_first(writer, node), slope, node)


@rule(aten.exp.default)
def _exponential(writer: Writer, node: Node) -> Node | None:
    return writer.times(_of_first(writer, node), node, node)


@rule(aten.log.default)
def _logarithm(writer: Writer, node: Node) -> Node | None:
    return writer(aten.div.Tensor, _of_first(writer, node), node.args[0], like=node)


@rule(aten.sqrt.default)
def _root(writer: Writer, node: Node) -> Node | None:
    double = writer.times(node, 2, node)
    return writer(aten.div.Tensor, _of_first(writer, node), double, like=node)


@rule(aten.rsqrt.default)
def _reciprocal_root(writer: Writer, node: Node) -> Node | None:
    cube = writer(aten.pow.Tensor_Scalar, node, 3, like=node)
    half = writer.times(_of_first(writer, node), -0.5, node)
    return writer.times(half, cube, node)


@rule(aten.reciprocal.default)
def _reciprocal(writer: Writer, node: Node) -> Node | None:
    minus = writer(aten.neg.default, _of_first(writer, node), like=node)
    return writer.times(minus, writer.times(node, node, node), node)


@rule(aten.abs.default)
def _modulus(writer: Writer, node: Node) -> Node | None:
    side = writer(aten.sgn.default, node.args[0], like=node)
    return writer.times(_of_first(writer, node), side, node)


@rule(aten.erf.default)
def _error_function(writer: Writer, node: Node) -> Node | None:
    square = writer(aten.pow.Tensor_Scalar, node.args[0], 2, like=node)
    bell = writer(aten.exp.default, writer(aten.neg.default, square, like=node), like=node)
    scaled = writer.times(bell, 2.0 / math.sqrt(math.pi), node)
    return writer.times(scaled, _of_first(writer, node), node)


@rule(aten.softplus.default)
def _soft_maximum(writer: Writer, node: Node) -> Node | None:
    x, *shape = node.args
    if node.kwargs:
        raise NoRule("softplus with named arguments")
    beta, threshold = (*shape, *(1, 20)[len(shape) :])
    target = aten.softplus_backward.default
    return writer(target, _of_first(writer, node), x, beta, threshold, like=node)


@rule(aten.softplus_backward.default)
def _soft_maximum_again(writer: Writer, node: Node) -> Node | None:
    gradient, x, beta, threshold = node.args
    dg, dx = writer.of(gradient), writer.of(x)
    linear = None if dg is None else writer(node.target, dg, x, beta, threshold, like=node)
    if dx is None:
        return linear
    scaled = writer.times(x, beta, node)  # type: ignore[arg-type]
    logistic = writer(aten.sigmoid.default, scaled, like=node)
    bend = writer(
        aten.sigmoid_backward.default, writer.times(dx, gradient, node), logistic, like=node
    )
    bend = writer.times(bend, beta, node)
    above = torch.empty(node.meta["val"].shape, dtype=torch.bool, device="meta")
    far = writer(aten.gt.Scalar, scaled, threshold, like=above)
    nothing = writer(aten.zeros_like.default, node, like=node)
    curved = writer(aten.where.self, far, nothing, bend, like=node)
    return writer.plus(linear, curved, node)


@rule(aten.clamp.default)
def _clamped(writer: Writer, node: Node) -> Node | None:
    x, *limits = node.args
    low, high = (*limits, None, None)[:2]
    low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
    tangent = _of_first(writer, node)
    inside = torch.empty(node.meta["val"].shape, dtype=torch.bool, device="meta")
    nothing = writer(aten.zeros_like.default, tangent, like=node)
    for limit, outside in ((low, aten.lt.Scalar), (high, aten.gt.Scalar)):
        if limit is not None:
            out = writer(outside, x, limit, like=inside)
            tangent = writer(aten.where.self, out, nothing, tangent, like=node)
    return tangent


@rule(aten.lerp.Tensor)
def _mixture(writer: Writer, node: Node) -> Node | None:
    start, end, weight = node.args
    ds, de, dw = (writer.of(one) for one in (start, end, weight))
    if ds is None and de is None:
        linear = None
    else:
        linear = writer(node.target, writer.filled(start), writer.filled(end), weight, like=node)  # type: ignore[arg-type]
    if dw is None:
        return linear
    gap = writer(aten.sub.Tensor, end, start, like=node)
    return writer.plus(writer.times(dw, gap, node), linear, node)


@rule(aten._softmax.default)
def _shares(writer: Writer, node: Node) -> Node | None:
    _, axis, half = node.args
    if half:
        raise NoRule("softmax that changes precision")
    weighted = writer.times(node, _of_first(writer, node), node)
    total = writer(aten.sum.dim_IntList, weighted, [axis], True, like=_kept(node, axis))
    return writer(aten.sub.Tensor, weighted, writer.times(node, total, node), like=node)


def _kept(node: Node, axis: Any) -> torch.Tensor:
    """A value of the shape of a sum over one axis, which is kept."""
    return node.meta["val"].sum(axis, keepdim=True)
