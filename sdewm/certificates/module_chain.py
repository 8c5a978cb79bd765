"""A module of the user's own as a chain of torch's modules, where torch.fx shows it to be one."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from sdewm.certificates.layers import Residual

# Functions and methods by the module that computes the same, and the names of their arguments.
_ACTIVATIONS: dict[Any, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    torch.tanh: (nn.Tanh, ()),
    "tanh": (nn.Tanh, ()),
    torch.sigmoid: (nn.Sigmoid, ()),
    "sigmoid": (nn.Sigmoid, ()),
    torch.relu: (nn.ReLU, ()),
    "relu": (nn.ReLU, ()),
    functional.relu: (nn.ReLU, ("inplace",)),
    functional.silu: (nn.SiLU, ("inplace",)),
    functional.mish: (nn.Mish, ("inplace",)),
    functional.elu: (nn.ELU, ("alpha", "inplace")),
    functional.gelu: (nn.GELU, ("approximate",)),
    functional.softplus: (nn.Softplus, ("beta", "threshold")),
}
_SUMS = (operator.add, torch.add, "add")
# What forwards raise when they are given something that is no tensor with values.
_FAILURES = (
    *(RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError),
    *(NotImplementedError, ArithmeticError),
)


class NoChain(Exception):
    """Why a forward is not a chain."""


def chain_of(module: nn.Module) -> list[nn.Module]:
    """Modules whose composition is `module`: its children, activations, and `Residual` of these.

    The forward is recorded by torch.fx with its children as they are. It has to take one argument,
    and each operation the result of the one before; a sum of that with an earlier result closes a
    residual connection. A branch on values is noticed and refused. The values of the chain are to
    be compared with those of the module, as a forward may look at what kind of object it is given.

    Raises:
        NoChain: the forward is something else.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.inner = nn.Linear(2, 2)
    ...     def forward(self, x):
    ...         return x + torch.tanh(self.inner(x))
    >>> chain_of(Block())
    [Residual(
      (inner): Sequential(
        (0): Linear(in_features=2, out_features=2, bias=True)
        (1): Tanh()
      )
    )]
    """
    try:
        graph = _Tracer().trace(module)
    except _FAILURES as problem:
        raise NoChain(f"torch.fx cannot record its forward ({_first_line(problem)})") from problem
    nodes = list(graph.nodes)
    first, *operations, output = nodes
    if first.op != "placeholder" or any(node.op == "placeholder" for node in operations):
        raise NoChain("its forward takes more than one argument")
    found: list[nn.Module] = []
    places = {first: 0}  # results that may be added later: the number of modules before each
    last = first
    for node in operations:
        if node.op in ("call_function", "call_method") and node.target in _SUMS:
            start = places[_other_summand(node, last, places)]
            found[start:] = [Residual(nn.Sequential(*found[start:]))]
            places = {one: place for one, place in places.items() if place <= start}
        else:
            found.append(_module_of(module, node, last))
        places[node], last = len(found), node
    if output.args != (last,):
        raise NoChain("it does not return the result of its last operation")
    return found


def check_branches(module: nn.Module, rows: torch.Tensor) -> None:
    """NoChain if the forward reads values outside torch, as a branch on them does."""
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            module(mode.from_tensor(rows))
    except _FAILURES as problem:
        raise NoChain(f"its forward depends on values ({_first_line(problem)})") from problem


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Children are read by themselves."""
        return True


def _other_summand(node: fx.Node, last: fx.Node, places: dict[fx.Node, int]) -> fx.Node:
    """The earlier result that is added to the last one."""
    pair = set(node.args)
    if node.kwargs or len(node.args) != 2 or last not in pair or len(pair) != 2:
        raise NoChain(f"{_called(node)} is no sum of the last result and an earlier one")
    (other,) = pair - {last}
    if other not in places:
        raise NoChain(f"{_called(node)} is no sum of the last result and an earlier one")
    return other  # type: ignore[return-value]


def _module_of(module: nn.Module, node: fx.Node, last: fx.Node) -> nn.Module:
    """The module that an operation on the last result computes."""
    given, *rest = node.args or (None,)
    if node.op == "get_attr" or given is not last:
        raise NoChain(f"{_called(node)} does not take the result of the operation before it alone")
    if node.op == "call_module" and not rest and not node.kwargs:
        return module.get_submodule(str(node.target))
    if node.op == "call_module" or node.target not in _ACTIVATIONS:
        raise NoChain(f"it calls {_called(node)}")
    make, names = _ACTIVATIONS[node.target]
    options = dict(zip(names, rest, strict=False)) | node.kwargs
    if len(rest) > len(names) or not options.keys() <= set(names) or options.get("inplace"):
        raise NoChain(f"it calls {_called(node)} with arguments that are not known here")
    if any(isinstance(value, fx.Node) for value in options.values()):
        raise NoChain(f"it calls {_called(node)} with arguments that are computed")
    return make(**options)


def _called(node: fx.Node) -> str:
    name = getattr(node.target, "__name__", None) or str(node.target)
    return f"self.{name}" if node.op in ("call_module", "get_attr") else name


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]
