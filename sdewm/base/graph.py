"""Simplification of recorded graphs: removal of zero, neutral and repeated operations."""

from __future__ import annotations

import torch

_KEEPS_ZERO = {
    "alias", "clone", "detach", "diagonal", "expand", "mean", "neg", "permute", "reshape", "select",
    "slice", "squeeze", "sum", "t", "_to_copy", "transpose", "_unsafe_view", "unsqueeze", "view",
}  # fmt: skip
_MAKES_ZERO = {
    "zeros", "zeros_like", "new_zeros", "_efficientzerotensor", "_new_zeros_with_same_feature_meta",
}  # fmt: skip
_KEEPS_ONE = {"expand", "view", "clone", "_to_copy", "unsqueeze", "alias", "detach"}
_ZERO_IF_ANY = {"mul", "mm", "bmm", "matmul", "dot", "mv"}
_ZERO_IF_FIRST = {"div", "tanh_backward", "sigmoid_backward", "threshold_backward"}


def simplify(graph: torch.fx.Graph) -> None:
    """Remove aliases, sums and products with exact zeros, and repetitions from an ATen graph.

    Raises:
        ValueError: the graph changes a tensor in place or draws random numbers, so that the
            simplification rules do not apply.
    """
    zero: set[torch.fx.Node] = set()
    one: set[torch.fx.Node] = set()
    seen: dict[object, torch.fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            if node.op == "get_attr":
                _merge(node, ("get_attr", node.target), seen)
            continue
        _make_functional(node)
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            raise ValueError(f"the graph changes a tensor in place: {node.target}")
        name = _operation_name(node)
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise ValueError(f"the graph draws random numbers: {node.target}")
        replacement = _identity_of(node, name, zero, one)
        if replacement is not None:
            node.replace_all_uses_with(replacement)
            continue
        if _is_zero(node, name, zero):
            zero.add(node)
        if name == "ones" or (name in _KEEPS_ONE and node.args[0] in one):
            one.add(node)
        _merge(node, (node.target, _key(node.args), _key(node.kwargs)), seen)
    graph.eliminate_dead_code()


def _make_functional(node: torch.fx.Node) -> None:
    """Replace an in-place operation on a value not read later; torch's rms_norm has one."""
    source, name = node.args[0] if node.args else None, _operation_name(node)
    if (
        not isinstance(source, torch.fx.Node)
        or source.op != "call_function"
        or any(not _read_before(user, node) for user in source.users)
        or not isinstance(node.target, torch._ops.OpOverload)
        or not isinstance(source.target, torch._ops.OpOverload)
        or any(value.alias_info is not None for value in source.target._schema.returns)
    ):
        return
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
    overload = node.target._overloadname
    if name.endswith("_") and packet is not None and overload in packet.overloads():
        node.target = getattr(packet, overload)


def _read_before(user: torch.fx.Node, node: torch.fx.Node) -> bool:
    """Whether `user` is `node` itself, or makes a new value before it."""
    schema = getattr(user.target, "_schema", None)
    fresh = schema is not None and all(value.alias_info is None for value in schema.returns)
    return user is node or (fresh and user < node)


def _operation_name(node: torch.fx.Node) -> str:
    target = node.target
    return (
        target.overloadpacket.__name__ if isinstance(target, torch._ops.OpOverload) else str(target)
    )


def _same_kind(node: torch.fx.Node, other: object) -> bool:
    """Whether both values are known to have one shape and dtype."""
    if not isinstance(other, torch.fx.Node):
        return False
    key = "tensor_meta" if {*node.meta} & {*other.meta} >= {"tensor_meta"} else "val"
    mine, theirs = node.meta.get(key), other.meta.get(key)
    if not hasattr(mine, "shape") or not hasattr(theirs, "shape"):
        return False
    return mine.shape == theirs.shape and mine.dtype == theirs.dtype  # type: ignore[union-attr]


def _identity_of(
    node: torch.fx.Node, name: str, zero: set[torch.fx.Node], one: set[torch.fx.Node]
) -> torch.fx.Node | None:
    """The earlier node whose value this one repeats, if there is one."""
    first = node.args[0] if node.args else None
    same = name in ("alias", "detach", "clone", "_to_copy", "expand", "view")
    if same and "memory_format" not in node.kwargs and _same_kind(node, first):
        return first  # type: ignore[return-value]
    if name == "copy" and _same_kind(node, node.args[1]):
        return node.args[1]  # type: ignore[return-value]
    if name in ("add", "sub", "mul") and len(node.args) == 2 and not node.kwargs:
        left, right = node.args
        if name == "mul":
            if right in one and _same_kind(node, left):
                return left  # type: ignore[return-value]
            return right if left in one and _same_kind(node, right) else None  # type: ignore[return-value]
        if right in zero and _same_kind(node, left):
            return left  # type: ignore[return-value]
        if name == "add" and left in zero and _same_kind(node, right):
            return right  # type: ignore[return-value]
    return None


def _is_zero(node: torch.fx.Node, name: str, zero: set[torch.fx.Node]) -> bool:
    tensors = [argument for argument in node.args if isinstance(argument, torch.fx.Node)]
    if name in _MAKES_ZERO:
        return True
    if not tensors:
        return False
    if name in _KEEPS_ZERO or name in _ZERO_IF_FIRST:
        return tensors[0] in zero
    if name in _ZERO_IF_ANY:
        other = node.args[-1]
        scalar_zero = isinstance(other, (int, float)) and other == 0
        return scalar_zero or any(tensor in zero for tensor in tensors)
    return (
        name in ("add", "sub")
        and len(tensors) == len(node.args)
        and all(tensor in zero for tensor in tensors)
    )


def _merge(node: torch.fx.Node, key: object, seen: dict[object, torch.fx.Node]) -> None:
    earlier = seen.setdefault(key, node)
    if earlier is not node:
        node.replace_all_uses_with(earlier)


def _key(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple(_key(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((name, _key(item)) for name, item in value.items()))
    return (type(value), value)
