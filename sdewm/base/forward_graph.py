"""Forward derivatives of a recorded graph, written into the graph itself.

torch's forward mode gives the same derivatives by a nested `torch.func.jvp`. It is slow for small
tensors: wherever an input of an operation has no derivative, torch computes shapes and dtypes in
Python, at a hundred times the cost of the operation. Here the derivative of every operation is
appended to the graph by torch's own formula, and an absent derivative is simply left out.

For an operation without a rule (`base.forward_rules`) there is no such graph, and the nested jvp,
which the rules are tested against, remains.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from sdewm.base.forward_rules import RULES, NoRule, Tangents, Writer

aten = torch.ops.aten


def derivative_graph(
    recorded: GraphModule, fixed: int, directions: int, pairs: Sequence[tuple[int, int]]
) -> GraphModule:
    """A graph of value, first and mixed second derivatives of a recorded function.

    Args:
        recorded: returns a tuple of tensors.
        fixed: number of leading arguments that are not differentiated.
        directions: number of first derivatives.
        pairs: pairs (a, b) of directions for the second derivatives.

    Returns:
        A graph whose arguments are those of `recorded`, then the tangents of the differentiated
        arguments for every direction, then their second tangents for every pair; and whose results
        are the values, the derivatives along every direction, and those of every pair, joined.

    Raises:
        NoRule: an operation of the graph has no rule.
    """
    graph, inputs, outputs = _copied(recorded)
    values = [node for node in graph.nodes if node.op != "placeholder"]
    point, last = inputs[fixed:], inputs[-1]

    def seeds(label: str) -> Tangents:
        nonlocal last
        found: Tangents = {}
        for node in point:
            with graph.inserting_after(last):
                last = found[node] = graph.placeholder(f"{label}_{node.name}")
            last.meta["val"] = node.meta["val"]
        return found

    starts = [seeds(f"d{a}") for a in range(directions)]
    ends = [seeds(f"d{a}d{b}") for a, b in pairs]
    along: list[Tangents] = []
    made: list[list[Node]] = []
    for start in starts:
        tangents, added = _push(graph, values, start)
        along.append(tangents)
        made.append(added)
    mixed: list[Tangents] = []
    for (a, b), second in zip(pairs, ends, strict=True):
        of_tangents = {starts[a][node]: second[node] for node in point}
        reached, _ = _push(graph, made[a], along[b] | of_tangents)  # type: ignore[operator]
        mixed.append({node: reached.get(first) for node, first in along[a].items() if first})
    writer = Writer(graph, {})
    results = list(outputs)
    for tangents in (*along, *mixed):
        writer.tangents = tangents
        results += [writer.filled(node) for node in outputs]
    graph.output(tuple(results))
    graph.lint()
    graph.eliminate_dead_code()
    return GraphModule(recorded, graph)


def _copied(recorded: GraphModule) -> tuple[Graph, list[Node], list[Node]]:
    """A copy of a graph without its output, its arguments and the nodes that it returns."""
    graph, copies = Graph(), {}
    outputs: list[Node] = []
    for node in recorded.graph.nodes:
        if node.op == "output":
            (returned,) = node.args
            if not all(isinstance(one, Node) for one in returned):
                raise NoRule("an output that is no tensor")
            outputs = [copies[one] for one in returned]
            continue
        copies[node] = graph.node_copy(node, lambda one: copies[one])
        if "val" not in node.meta:
            value = _attribute(recorded, node) if node.op == "get_attr" else None
            if value is None:
                raise NoRule(f"{node.target} of unknown shape")
            copies[node].meta["val"] = value
    return graph, [node for node in graph.nodes if node.op == "placeholder"], outputs


def _attribute(module: Any, node: Node) -> Any:
    for part in str(node.target).split("."):
        module = getattr(module, part)
    return module


def _push(
    graph: Graph, nodes: Sequence[Node], seeds: Mapping[Node, Node | None]
) -> tuple[Tangents, list[Node]]:
    """Derivatives of operations in their order, and the operations that were appended for them."""
    writer = Writer(graph, seeds)
    for node in nodes:
        if node.op != "call_function" or not _depends(node, writer.tangents):
            continue
        value = node.meta["val"]
        if isinstance(value, torch.Tensor) and value.is_complex():
            raise NoRule(f"{node.target} of complex numbers")
        if not _is_real(value):
            continue  # whole numbers and truth values have no derivative
        rule = RULES.get(node.target)
        if rule is None:
            raise NoRule(str(node.target))
        tangent = rule(writer, node)
        if tangent is not None and node.target is not operator.getitem:
            tangent = _broadcast(writer, tangent, node)
        writer.tangents[node] = tangent
    return writer.tangents, writer.added


def _depends(node: Node, tangents: Mapping[Node, Node | None]) -> bool:
    return any(tangents.get(one) is not None for one in node.all_input_nodes)


def _is_real(value: Any) -> bool:
    """Whether a value is a floating-point tensor, or holds some."""
    if isinstance(value, torch.Tensor):
        return value.is_floating_point()
    return isinstance(value, (list, tuple)) and any(map(_is_real, value))


def _broadcast(writer: Writer, tangent: Node, node: Node) -> Node:
    """The tangent at the shape of its operation: that of a sum may come from one small term."""
    wanted, have = node.meta["val"], tangent.meta["val"]
    if not isinstance(wanted, torch.Tensor):
        return tangent
    if have.dtype != wanted.dtype:
        raise NoRule(f"{node.target} from {have.dtype} to {wanted.dtype}")
    if have.shape == wanted.shape:
        return tangent
    return writer(aten.expand.default, tangent, list(wanted.shape), like=wanted)
