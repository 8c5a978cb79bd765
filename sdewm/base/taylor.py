"""Second-order Taylor propagation.

Values, first and mixed second directional derivatives in one pass.

The definition is nested `torch.func.jvp`. Evaluated as such it repeats the value and the first
derivatives many times and multiplies by zero tangents. `fuse` therefore records the nested jvp once
as a graph of plain tensor operations, removes what is zero or computed twice, and runs that; the
result is the same function. The graph holds no transform, so that it may also be compiled, which a
nested jvp may not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch.func import functionalize, jvp

Tensors = tuple[torch.Tensor, ...]


def second_order(
    function: Callable[..., Tensors],
    point: Tensors,
    directions: Sequence[Tensors],
    seconds: dict[tuple[int, int], Tensors],
) -> tuple[Tensors, list[Tensors], dict[tuple[int, int], Tensors]]:
    """Value, first derivatives and second derivatives of a composition with `function`.

    If p(s) is a surface in the domain with p(0) = `point`, ∂_a p(0) = directions[a] = y_a and
    ∂_a∂_b p(0) = seconds[a, b] = w_ab, the chain rule gives for F(p(s)) at s = 0

        F(p),   ∂_a = DF[y_a],   ∂_a∂_b = DF[w_ab] + D²F[y_a, y_b].

    Nested jvp; no Jacobian or Hessian is formed.

    Args:
        function: takes the tensors of `point`, returns a tuple of tensors.
        point: the tensors p.
        directions: y_a, each a tuple like `point`.
        seconds: w_ab for the index pairs (a, b) wanted, each a tuple like `point`.

    Returns:
        (F(p), [∂_a], {(a, b): ∂_a∂_b}).

    >>> x, y, w = torch.tensor(2.0), torch.tensor(3.0), torch.tensor(5.0)
    >>> second_order(lambda x: (x**3,), (x,), [(y,)], {(0, 0): (w,)})
    ((tensor(8.),), [(tensor(36.),)], {(0, 0): (tensor(168.),)})
    """
    _load_forward_rules()
    with torch.enable_grad():  # some rules of torch can be differentiated again only in this mode
        return _nested(function, point, directions, seconds)


def _nested(
    function: Callable[..., Tensors],
    point: Tensors,
    directions: Sequence[Tensors],
    seconds: dict[tuple[int, int], Tensors],
) -> tuple[Tensors, list[Tensors], dict[tuple[int, int], Tensors]]:
    size = len(point)
    value: Tensors | None = None
    firsts: dict[int, Tensors] = {}
    mixed: dict[tuple[int, int], Tensors] = {}
    for (a, b), second in seconds.items():

        def value_and_first(*both: torch.Tensor) -> tuple[Tensors, Tensors]:
            return jvp(function, both[:size], both[size:])[:2]

        # Along y_b: the value changes by ∂_b, and ∂_a by ∂_a∂_b.
        (value, firsts[a]), (firsts[b], mixed[a, b]) = jvp(
            value_and_first, point + directions[a], directions[b] + second
        )[:2]
    for a, direction in enumerate(directions):
        if a not in firsts:
            value, firsts[a] = jvp(function, point, direction)[:2]
    assert value is not None
    return value, [firsts[a] for a in range(len(directions))], mixed


@cache
def _load_forward_rules() -> None:
    """Let torch load its forward-mode rules: some versions warn of their own use of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


def fuse(function: Callable[..., Tensors], example: Tensors) -> Callable[..., Tensors]:
    """Record `function` at the shapes of `example` as a simplified graph of tensor operations.

    It is also what second derivatives should be taken of: normalisations are written out in it,
    whose own rules torch does not differentiate correctly a second time.

    The graph computes the same numbers (products with an exact zero and repeated operations are
    dropped). It is valid for arguments of the same shapes and dtypes.

    Returns:
        The graph; or `function` itself where it cannot be recorded (branches on values, `float(t)`,
        in-place changes of its arguments, random numbers) or the graph does not give the same
        numbers at `example`.

    >>> tanh = lambda x: (torch.tanh(x),)
    >>> step = lambda x, y: second_order(tanh, (x,), [(y,)], {(0, 0): (y,)})[2][0, 0]
    >>> example = (torch.tensor([0.3]), torch.tensor([0.7]))
    >>> fused = fuse(step, example)
    >>> bool(fused(*example)[0] == step(*example)[0]), len(fused.graph.nodes) < 12
    (True, True)
    """
    with torch.no_grad():
        expected = function(*example)
        try:
            graph_module = record(function, example)
            got = graph_module(*example)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError):
            return function
    if all(_close(a, b) for a, b in zip(expected, got, strict=True)):
        return graph_module
    return function


def record(function: Callable[..., Tensors], example: Tensors) -> torch.fx.GraphModule:
    """The simplified graph of `function` at the shapes of `example`.

    Raises what torch raises if the function cannot be recorded.
    """
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    def plain(*arguments: torch.Tensor) -> Tensors:
        return function(*arguments)

    _load_forward_rules()  # the function may take derivatives
    # One place for the shapes of all nodes: torch would make one for each, and look up the stack.
    shapes = TracingContext(FakeTensorMode(allow_fallback_kernels=True))
    with torch.no_grad(), tracing(shapes):
        graph_module = make_fx(functionalize(plain), _decompositions())(*example)
    simplify(graph_module.graph)
    graph_module.recompile()
    return graph_module


@cache
def _decompositions() -> dict:
    """Normalisations in elementary operations: torch's own second derivative of them is wrong."""
    from torch._decomp import get_decompositions

    aten = torch.ops.aten
    return get_decompositions(
        [aten.native_layer_norm, aten.native_group_norm, aten.native_batch_norm]
    )


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    tolerance = 1e-4 if a.dtype == torch.float32 else 1e-10
    return bool(torch.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True).all())


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
_RANDOM = {"rand", "randn", "rand_like", "randn_like", "bernoulli", "normal", "native_dropout"}


def simplify(graph: torch.fx.Graph) -> None:
    """Drop aliases, sums and products with exact zeros, and repetitions from an ATen graph.

    Raises:
        ValueError: the graph changes a tensor in place or draws random numbers, so that the rules
            do not apply.
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
        if name in _RANDOM:
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
