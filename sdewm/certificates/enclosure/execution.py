"""Runs the code of a model on sets instead of tensors.

Within `SetExecution` every torch function that the model calls is answered by its enclosure:
`enclosed(x)` stands for a tensor, and results are sets again. The model is not translated, and
nothing about its structure is assumed: cells, gates and heads written in plain torch work as they
are, block GRUs and Gaussian heads among them. A function without an enclosure is refused by its
name, never approximated, and so is a conversion to another precision and a branch on values.

Functions of plain tensors alone that round (sums, products, activations) are enclosed, too. Those
that only move, select or compare numbers are called as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from sdewm.certificates.enclosure.arithmetic import Unsupported
from sdewm.certificates.enclosure.rules import METADATA, PLAIN, RULES
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet


class Unbounded(ArithmeticError):
    """A set became unbounded: the message names the function."""


class EnclosedTensor(Tensor):
    """A tensor that stands for a set, and holds no numbers.

    What does not pass through the torch functions, such as compiled code, is refused.
    """

    taylor: TaylorSet
    owner: SetExecution | None
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(
        cls, func: object, types: object, args: object = (), kwargs: object = None
    ) -> NoReturn:
        """Refuse the operation."""
        raise ValueError(
            f"{func} is called on a state in a way that hides it: by compiled code, by an "
            "extension, or after the enclosure, because the model has kept it. Write the step in "
            "torch functions, and keep nothing."
        )


def enclosed(values: TaylorSet, owner: SetExecution | None = None) -> EnclosedTensor:
    """The set as a tensor for the code of a model; results belong to an execution."""
    tensor = Tensor._make_wrapper_subclass(EnclosedTensor, values.shape, dtype=torch.float64)
    tensor.taylor, tensor.owner = values, owner
    return tensor


class SetExecution(TorchFunctionMode):
    """The context in which torch functions compute with sets.

    Args:
        symbols: those of the sets that enter.
        like: any set of the computation; exact tensors become sets of its sizes.

    Raises:
        ValueError: within the context: a function is not supported; the message names it.
        Unbounded: within the context: a set became unbounded; of sets with rows, all rows. Until
            then `unbounded` has the reason of each row; what a row holds later means nothing.
        MixedRows: within the context: a function mixes rows.

    >>> from sdewm.certificates.enclosure.taylor_set import TaylorSet
    >>> e = TaylorSet.ball(torch.zeros(2), 0.1 * torch.eye(2), order=2)
    >>> with SetExecution(Symbols(0), e):
    ...     result = torch.tanh(enclosed(e)) + 1.0
    >>> result.taylor.centre, result.taylor.linear[0]
    (tensor([1., 1.], dtype=torch.float64), tensor([0.1000, 0.0000], dtype=torch.float64))
    """

    def __init__(self, symbols: Symbols, like: TaylorSet) -> None:
        super().__init__()
        self.symbols, self.like = symbols, like
        self.unbounded: dict[int, str] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """The enclosure of one function."""
        kwargs = kwargs or {}
        name = function_name(func)
        tensors = [part for part in _leaves((args, kwargs)) if isinstance(part, Tensor)]
        if not _of_torch(func):
            raise ValueError(f"{name} is not supported: it is no function of torch.")
        for one in tensors:
            if type(one) not in PLAIN_TENSORS:
                raise ValueError(
                    f"{name} of a {type(one).__name__} is not supported: expected torch.Tensor."
                )
        if name in METADATA:
            return func(*args, **kwargs)
        if not any(isinstance(part, EnclosedTensor) for part in tensors):
            if name in PLAIN:
                return func(*args, **kwargs)
            if tensors and not any(
                part.is_floating_point() or part.is_complex() for part in tensors
            ):
                return _whole_numbers(name, tensors, func(*args, **kwargs))
        if name not in CONVERSIONS:
            _check_precision(name, tensors)
        if any(isinstance(part, complex) for part in _leaves((args, kwargs))):
            raise ValueError(f"{name} of complex numbers has no enclosure: expected real numbers.")
        if name not in RULES:
            known = [one for one in RULES if not one.endswith("__")]
            raise ValueError(
                f"{name} is not supported: no enclosure of this torch function is known. Supported "
                f"are {', '.join(sorted(known))}."
            )
        given, named = self._sets(args), self._sets(kwargs)
        try:
            found = _checked(name, RULES[name], (self, *given), named)
        except Unsupported as problem:
            raise ValueError(
                f"{name} is not supported with these arguments: {problem}"
            ) from problem.__cause__
        for part in _leaves(found):
            if isinstance(part, TaylorSet) and not _bounded(part).all():
                self._note_unbounded(part, f"the set is no longer bounded after {name}")

        def as_tensor(part: Any) -> Any:
            return enclosed(part, self) if isinstance(part, TaylorSet) else part

        return _mapped(found, as_tensor)

    def _note_unbounded(self, values: TaylorSet, reason: str) -> None:
        """Raise, or note the rows that became unbounded while others go on."""
        if not values.rows:
            raise Unbounded(reason)
        bad = ~_bounded(values).reshape(len(values.centre), -1).all(1)
        for row in bad.nonzero()[:, 0].tolist():
            self.unbounded.setdefault(row, reason)
        if len(self.unbounded) == len(bad):
            raise Unbounded(reason)

    def _sets(self, values: Any) -> Any:
        def as_set(part: Any) -> Any:
            if not isinstance(part, EnclosedTensor):
                return part
            if part.owner not in (None, self):
                raise ValueError(
                    "the model keeps a tensor from one step to the next: expected a step that "
                    "depends on its arguments alone."
                )
            return self.symbols.latest(part.taylor)

        return _mapped(values, as_set)

    def as_set(self, values: TaylorSet | Tensor | float) -> TaylorSet:
        """A set, or an exact tensor or number as one."""
        if isinstance(values, TaylorSet):
            return values
        return self.like.constant(torch.as_tensor(values, dtype=torch.float64))


def _bounded(values: TaylorSet) -> Tensor:
    """Whether each number is bounded: every rule adds the size of all coefficients to the box."""
    return torch.isfinite(values.box) & torch.isfinite(values.centre)


def _checked(name: str, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of the rule, which takes fewer arguments than the torch function does."""
    run, *given = args
    if "input" in kwargs:  # torch's name of the first argument
        kwargs = dict(kwargs)
        given = [kwargs.pop("input"), *given]
    args = (run, *given)
    try:
        inspect.signature(rule).bind(*args, **kwargs)
    except TypeError as problem:
        raise Unsupported(f"{problem}.") from None
    try:
        return rule(*args, **kwargs)
    except (RuntimeError, TypeError, IndexError, OverflowError, AttributeError) as problem:
        raise Unsupported(f"{type(problem).__name__}: {problem}") from problem


def _check_precision(name: str, tensors: list[Tensor]) -> None:
    """Refuse complex numbers, and a result that torch rounds to another precision.

    It does so where all arguments are constants of that precision, and where one of them has axes
    and no set has: a number without axes does not decide the precision of a result.
    """
    sets = [one.dim() for one in tensors if isinstance(one, EnclosedTensor)]
    for one in tensors:
        lower = one.is_floating_point() and one.dtype != torch.float64
        decides = not sets or (one.dim() > 0 and not any(sets))
        if one.is_complex() or (lower and decides):
            raise ValueError(
                f"{name} is computed in {one.dtype}: expected constants of torch.float64, such as "
                "constant.to(x) of the state x."
            )


CONVERSIONS = ("to", "type_as", "expand_as")
PLAIN_TENSORS = (Tensor, torch.nn.Parameter, EnclosedTensor)
NAMESPACES = ("torch.", "aten.", "prims.")


def _of_torch(func: Callable[..., Any]) -> bool:
    """Whether a function is torch's own, and not one of the same name."""
    known = resolve_name(func)
    return func is torch._C._set_grad_enabled or (known or "").startswith(NAMESPACES)


def _whole_numbers(name: str, given: list[Tensor], found: Any) -> Any:
    """The result of a function of whole numbers, if it consists of whole numbers itself."""
    for part in _leaves(found):
        if isinstance(part, Tensor) and part.is_floating_point():
            if name == "float" and torch.equal(part.double(), given[0].double()):
                continue
            raise ValueError(
                f"{name} of whole numbers is rounded: expected tensors of torch.float64."
            )
    return found


def function_name(func: Callable[..., Any]) -> str:
    """The name of a torch function; of a property its own, and `__add__` as add."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__", "__delete__"):
        name = f"{getattr(getattr(func, '__self__', None), '__name__', '')}.{name}"
    return name


def _leaves(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return _leaves(tuple(values.values()))
    if isinstance(values, (tuple, list)):
        return [leaf for part in values for leaf in _leaves(part)]
    return [values]


def _mapped(values: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(values, dict):
        return {name: _mapped(part, function) for name, part in values.items()}
    if isinstance(values, (tuple, list)):
        parts = [_mapped(part, function) for part in values]
        return tuple(parts) if isinstance(values, tuple) else parts
    return function(values)
