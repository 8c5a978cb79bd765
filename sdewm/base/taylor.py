"""Second-order Taylor propagation: value, first and mixed second directional derivatives.

The definition is a nested `torch.func.jvp`. Evaluated directly, it recomputes the value and the
first derivatives many times and multiplies by zero tangents. `fuse` therefore records a function
once as a graph of plain tensor operations and removes zero and repeated operations; the graph
computes the same function. The derivatives of a recorded function are written into its graph
(`base.forward_graph`), from which they can be recorded in turn. Unlike a nested jvp, the graph
contains no function transform and can be compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch.func import functionalize, jvp

from sdewm.base.elementary import ElementaryOperations, load_forward_rules
from sdewm.base.forward_graph import derivative_graph
from sdewm.base.forward_rules import NoRule
from sdewm.base.graph import simplify

Tensors = tuple[torch.Tensor, ...]
DERIVATIVES = "derivatives"  # of a recorded graph, by number of fixed arguments and directions


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

    Of a recorded function (`fuse`) whose operations have rules, by its derivative graph
    (`base.forward_graph`); else by nested jvp. No Jacobian or Hessian is formed.

    Args:
        function: takes the tensors of `point`, returns a tuple of tensors.
        point: the tensors p.
        directions: y_a, each a tuple like `point`.
        seconds: w_ab for each requested index pair (a, b), each a tuple like `point`.

    Returns:
        (F(p), [∂_a], {(a, b): ∂_a∂_b}).

    >>> x, y, w = torch.tensor(2.0), torch.tensor(3.0), torch.tensor(5.0)
    >>> second_order(lambda x: (x**3,), (x,), [(y,)], {(0, 0): (w,)})
    ((tensor(8.),), [(tensor(36.),)], {(0, 0): (tensor(168.),)})
    """
    known = _by_graph(function, point, directions, seconds)
    if known is not None:
        return known
    load_forward_rules()
    try:
        with torch.enable_grad():  # some rules can be differentiated again only in this mode
            return _nested(function, point, directions, seconds)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as problem:
        raise ValueError(_refusal(str(problem))) from problem


def _by_graph(
    function: Callable[..., Tensors],
    point: Tensors,
    directions: Sequence[Tensors],
    seconds: dict[tuple[int, int], Tensors],
) -> tuple[Tensors, list[Tensors], dict[tuple[int, int], Tensors]] | None:
    """`second_order` by the derivative graph of a recorded function; None if it has none."""
    fixed: Tensors = ()
    while isinstance(function, partial) and not function.keywords:
        function, fixed = function.func, (*function.args, *fixed)
    if not isinstance(function, torch.fx.GraphModule) or DERIVATIVES not in function.meta:
        return None
    key = (len(fixed), len(directions), tuple(seconds))
    graphs = function.meta[DERIVATIVES]
    if key not in graphs:
        try:
            graphs[key] = derivative_graph(function, *key)
        except NoRule:
            graphs[key] = None
    if graphs[key] is None:
        return None
    tangents = (*directions, *seconds.values())
    results = graphs[key](*fixed, *point, *(one for tangent in tangents for one in tangent))
    size = len(results) // (1 + len(tangents))
    rows = [tuple(results[k : k + size]) for k in range(0, len(results), size)]
    firsts, mixed = rows[1 : 1 + len(directions)], rows[1 + len(directions) :]
    return rows[0], firsts, dict(zip(seconds, mixed, strict=True))


def _refusal(problem: str) -> str:
    """What cannot be differentiated, and what to write instead, from torch's own message."""
    first = problem.strip().splitlines()[0]
    return f"a function cannot be differentiated twice ({first}): {remedy_for(problem)}."


def remedy_for(problem: str) -> str:
    """What to write instead of an operation that torch cannot transform, from torch's message."""
    remedies = {
        "requires_grad": "use torch.func.grad of a function in place of torch.autograd.grad",
        "setup_context": "write a custom autograd.Function in elementary operations, switch "
        "activation checkpointing off, and remove full backward hooks",
        "autograd.Function": "write the custom function in elementary operations",
        "forward AD": "write this operation out in elementary operations",
        "in-place": "compute new tensors; batch normalisation belongs in evaluation mode",
        "saved tensor hooks": "switch activation checkpointing off",
        "heckpoint": "switch activation checkpointing off",
    }
    return next(
        (text for sign, text in remedies.items() if sign in problem),
        "write it in operations of torch that have forward-mode derivatives",
    )


def _nested(
    function: Callable[..., Tensors],
    point: Tensors,
    directions: Sequence[Tensors],
    seconds: dict[tuple[int, int], Tensors],
) -> tuple[Tensors, list[Tensors], dict[tuple[int, int], Tensors]]:
    size = len(point)
    value: Tensors | None = None

    def elementary(*arguments: torch.Tensor) -> Tensors:
        with ElementaryOperations():
            return function(*arguments)

    firsts: dict[int, Tensors] = {}
    mixed: dict[tuple[int, int], Tensors] = {}
    for (a, b), second in seconds.items():

        def value_and_first(*both: torch.Tensor) -> tuple[Tensors, Tensors]:
            return jvp(elementary, both[:size], both[size:])[:2]

        # Along y_b: the value changes by ∂_b, and ∂_a by ∂_a∂_b.
        (value, firsts[a]), (firsts[b], mixed[a, b]) = jvp(
            value_and_first, point + directions[a], directions[b] + second
        )[:2]
    for a, direction in enumerate(directions):
        if a not in firsts:
            value, firsts[a] = jvp(elementary, point, direction)[:2]
    assert value is not None
    return value, [firsts[a] for a in range(len(directions))], mixed


def fuse(function: Callable[..., Tensors], example: Tensors) -> Callable[..., Tensors]:
    """Record `function` at the shapes of `example` as a simplified graph of tensor operations.

    The graph computes the same values (products with an exact zero and repeated operations are
    removed). It is valid for arguments of the same shapes and dtypes. Second derivatives should be
    taken of the graph: in it normalisation layers are written in elementary operations, because
    torch's own rules for them are wrong when differentiated a second time.

    Returns:
        The graph; or `function` itself if it cannot be recorded (branches on values, `float(t)`,
        in-place changes of its arguments, random numbers) or if the graph gives different values
        at `example`.

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

    Normalisations and other operations with wrong rules are elementary in it (`base.elementary`).

    Raises:
        NotRecordable: the function reads the value of a tensor outside torch (`float(t)`, NumPy),
            which the graph would freeze.
        Exception: what torch raises if the function cannot be recorded for another reason.
    """
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    only_tensors = _OnlyTensors()

    def plain(*arguments: torch.Tensor) -> Tensors:
        with only_tensors, _no_validation():
            return function(*arguments)

    load_forward_rules()  # the function may take derivatives
    # One place for the shapes of all nodes: torch would make one for each, and look up the stack.
    shapes = TracingContext(FakeTensorMode(allow_fallback_kernels=True))
    with torch.no_grad(), tracing(shapes):
        graph_module = make_fx(functionalize(plain), _decompositions())(*example)
    if only_tensors.read is not None:  # and the function handled the error itself
        raise NotRecordable(only_tensors.read)
    _refuse_shapes_from_values(graph_module.graph)
    simplify(graph_module.graph)
    graph_module.recompile()
    graph_module.meta[DERIVATIVES] = {}
    return graph_module


class NotRecordable(RuntimeError):
    """A function whose graph would not be the function."""


class _OnlyTensors(ElementaryOperations):
    """Inside, reading a tensor's value outside torch is an error: a graph would freeze it."""

    read: str | None = None  # what was read

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function itself, or its elementary form."""
        if func in _READS:
            self.read = f"the value of a tensor is read outside torch, by {func.__name__}"
            raise NotRecordable(self.read)
        return super().__torch_function__(func, types, args, kwargs)


_READS = frozenset(
    getattr(torch.Tensor, name)
    for name in (
        *("item", "tolist", "numpy", "__array__", "__dlpack__", "__float__", "__int__"),
        *("__bool__", "__index__", "__complex__", "__format__", "__repr__"),
    )
)


def _refuse_shapes_from_values(graph: torch.fx.Graph) -> None:
    """Refuse operations whose shapes depend on values: a graph would freeze what follows from them.

    `table[times < t]` is one of them, if the mask depends on an argument of the function.
    """
    moving: set[torch.fx.Node] = set()  # that depend on arguments
    for node in graph.nodes:
        if node.op == "placeholder" or any(one in moving for one in node.all_input_nodes):
            moving.add(node)
        if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
            continue
        if node.target is torch.ops.aten.index.Tensor:
            if not any(one in moving and _is_mask(one) for one in node.args[1]):  # type: ignore[union-attr]
                continue
        raise NotRecordable(f"the shape of {node.target} depends on values")


def _is_mask(node: Any) -> bool:
    """Whether a node selects places by truth values, or is not known not to."""
    value = node.meta.get("val")
    return not isinstance(value, torch.Tensor) or value.dtype in (torch.bool, torch.uint8)


@contextmanager
def _no_validation() -> Iterator[None]:
    """Distributions do not look at the values of their arguments."""
    default = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(default)


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
