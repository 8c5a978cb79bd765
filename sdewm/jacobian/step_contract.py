"""The contract between the penalty and a step, checked once for every step function."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Hashable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from sdewm.base.findings import Finding, batch_dependence, impurity
from sdewm.base.kept_tensors import kept_random_stream, kept_tensors
from sdewm.base.taylor import remedy_for
from sdewm.jacobian.pairing import wrong_pairing
from sdewm.jacobian.products import Step, Tensors, as_rows, joined_step, row_size
from sdewm.jacobian.samples import disconnected_outputs

LEAST_ROWS = 3
REMEMBERED = 4096  # steps; the weights of a model are not kept alive by them
_C: Any = torch._C  # its parts are not declared to type checkers
MOST_PARTS = 1024  # of a step that are told apart: functions, objects and what they hold
_PLAIN = (bool, int, float, str)
_calls: dict[Hashable, int] = {}  # with steps that were found sound


def check_step(step: Step, inputs: Tensors) -> list[Finding]:
    """Check a step at given inputs; `jacobian_penalty` refuses the gravest finding.

    The step has to

        keep its inputs as they are           "in place"
        give the same value twice             "random"
        treat the rows of the batch apart     "rows"
        compute in the precision of its input "precision" (the penalty allows a lower one)
        have right derivatives                "derivatives"
        return no sample or detached part     "derivatives"

    Rows: half of the rows are replaced, and the others must not change by more than the square root
    of the rounding unit. Derivatives, see `jacobian.pairing`: J v is compared with central
    differences of the values; uᵀ(J v) and (Jᵀu)ᵀ v, which are equal, must have equal gradients in
    the inputs and the weights, and those of central differences. Samples and detached parts, see
    `jacobian.samples`: each output is compared with its own differences, under autocast in the full
    precision of the weights. The random streams of torch, the
    weights and the buffers of modules stay as they are.

    Args:
        step: function of the inputs in their order; returns a tensor or tuple of tensors (B, …).
        inputs: tensor or tuple of tensors (B, …), B ≥ 3.

    Returns:
        The findings, the gravest first; empty if there are none.

    Raises:
        ValueError: B < 3, or inputs or outputs are not tensors (B, …), or inputs are not finite.

    >>> check_step(torch.tanh, torch.eye(4))
    []
    >>> for finding in check_step(lambda x: x - x.mean(0), torch.eye(4)):
    ...     print(finding.check, "|", finding.message)
    rows | step mixes the rows of its batch
    """
    rows = as_rows("inputs", inputs)
    if len(rows[0]) < LEAST_ROWS:
        raise ValueError(
            f"inputs have {len(rows[0])} rows; expected at least {LEAST_ROWS}, to compare rows."
        )
    if not callable(step) or isinstance(step, torch.Tensor):
        raise ValueError(f"step={type(step).__name__}: expected a function of the inputs.")
    if not row_size(rows):
        raise ValueError("inputs have rows without entries; expected numbers.")
    if not all(bool(torch.isfinite(row).all()) for row in rows):
        raise ValueError("inputs hold numbers that are not finite.")
    with kept_random_stream(), _kept_buffers(step):
        return list(_findings(step, rows))


def require_sound_step(step: Step, inputs: Tensors) -> None:
    """Raise ValueError for the gravest finding of `check_step`, at the first call with a step.

    And at its calls 10, 100, 1000, …, because a fault may not show at the first inputs. A closure
    made anew is known by its code and by what it uses: modules with their training mode, switches,
    shapes, and whether numbers are zero. Fewer than three rows cannot be compared and are not
    checked.
    """
    if not callable(step) or isinstance(step, torch.Tensor):
        raise ValueError(f"step={type(step).__name__}: expected a function of the inputs.")
    rows = as_rows("inputs", inputs)
    if len(rows[0]) < LEAST_ROWS or inside_transform():
        return
    key = (_identity(step), *((row.shape, row.dtype, row.device) for row in rows))
    calls = _calls.get(key, 0) + 1
    if str(calls).strip("0") == "1":
        for finding in check_step(step, rows):
            if finding.check != "precision":
                raise ValueError(str(finding))
    if len(_calls) >= REMEMBERED:
        _calls.clear()
    _calls[key] = calls


def _step_of_rows(step: Step) -> Any:
    """The step for any number of rows, without a trace."""

    def tried(*inputs: torch.Tensor) -> torch.Tensor:
        with kept_tensors(), torch.no_grad():
            return joined_step(step, len(inputs[0]))(*inputs).clone()

    return tried


def inside_transform() -> bool:
    """Whether torch.func is transforming the computation, whose numbers cannot be looked at."""
    return _C._functorch.peek_interpreter_stack() is not None


def _findings(step: Step, rows: tuple[torch.Tensor, ...]) -> Iterator[Finding]:
    rows = tuple(row.detach() for row in rows)
    function = joined_step(step, len(rows[0]))

    def tried(*inputs: torch.Tensor) -> torch.Tensor:
        with kept_tensors(), torch.enable_grad():
            try:
                return function(*inputs).detach().clone()
            except RuntimeError as problem:  # torch.autograd.grad inside the step
                if "does not require grad" not in str(problem):
                    raise
                leaves = (tensor.clone().requires_grad_() for tensor in inputs)
                return function(*leaves).detach().clone()

    unit = _rounding(rows)
    found = impurity("step", tried, rows, "draw noise outside the step", unit**0.5)
    if found is None:
        with contextlib.suppress(Exception):  # its other arguments may have as many rows
            found = batch_dependence("step", _step_of_rows(step), rows, largest=False)
    if found is not None:
        yield found
    if found is None or found.check == "precision":
        try:
            wrong = wrong_pairing(step, rows, unit)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as problem:
            first = str(problem).strip().splitlines()[0]
            wrong = Finding(
                "derivatives",
                f"step cannot be differentiated twice ({first})",
                remedy_for(str(problem)),
            )
        if wrong is None and found is None:
            wrong = _disconnected(step, rows)
        if wrong is not None:
            yield wrong


def _disconnected(step: Step, rows: tuple[torch.Tensor, ...]) -> Finding | None:
    """`disconnected_outputs` without autocast, whose precision would hide small changes.

    A step that cannot be called without it is not judged.
    """
    device = rows[0].device.type
    if not torch.is_autocast_enabled(device):
        return disconnected_outputs(step, rows)
    with torch.autocast(device, enabled=False), contextlib.suppress(RuntimeError):
        wide = (row.to(torch.promote_types(row.dtype, torch.float32)) for row in rows)
        return disconnected_outputs(step, tuple(wide))
    return None


def _rounding(rows: tuple[torch.Tensor, ...]) -> float:
    """Rounding unit of the coarsest precision in use."""
    dtypes = [row.dtype for row in rows]
    if torch.is_autocast_enabled(rows[0].device.type):
        dtypes.append(torch.get_autocast_dtype(rows[0].device.type))
    return max(torch.finfo(dtype).eps for dtype in dtypes)


def _identity(step: Step) -> Hashable:
    """What tells one step from another, without keeping modules alive."""
    found: list[Hashable] = []
    for part in reached_parts(step):
        if isinstance(part, torch.nn.Module):
            hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)
            found.append((weakref.ref(part), part.training, *map(len, hooks)))
        elif isinstance(part, torch.Tensor | np.ndarray | np.generic):
            single = part.size == 1 if not isinstance(part, torch.Tensor) else part.numel() == 1
            on_host = not isinstance(part, torch.Tensor) or part.device.type == "cpu"
            found.append((part.dtype, part.ndim, bool(part) if single and on_host else None))
        elif isinstance(part, type | BuiltinFunctionType):
            found.append(part)
        else:
            found.append((part.__code__ if isinstance(part, FunctionType) else type(part),
                          _switch(part)))  # fmt: skip
    return tuple(found)


def reached_parts(step: object) -> list[Any]:
    """A function and all it holds, breadth first: functions, modules, objects, their contents."""
    found: list[Any] = [step]
    seen = {id(step)}
    for part in found:  # which grows
        for one in _parts(part):
            plain = one is None or isinstance(one, _PLAIN)  # equal ones are one object
            if (plain or id(one) not in seen) and len(found) < MOST_PARTS:
                seen.add(id(one))
                found.append(one)
    return found


def _switch(value: Any) -> Hashable:
    """A value that may switch an operation on; a number that is not zero counts as any other."""
    if value is None or isinstance(value, bool | str):
        return value
    return value == 0 if isinstance(value, int | float) else None


def _parts(whole: Any) -> Iterator[Any]:
    """What a function, a module, a container or an object holds."""
    if isinstance(whole, torch.nn.Module):
        for name, value in vars(whole).items():
            if not name.startswith("_"):
                yield value
        yield from (*whole._modules.values(), *whole._buffers.values())
    elif isinstance(whole, functools.partial):
        yield from (whole.func, *whole.args, *whole.keywords, *whole.keywords.values())
    elif isinstance(whole, MethodType):
        yield from (whole.__self__, whole.__func__)
    elif isinstance(whole, FunctionType):
        yield from _used_by(whole)
    elif isinstance(whole, dict):
        yield from (*whole, *whole.values())
    elif isinstance(whole, list | tuple | set | frozenset):
        yield from whole
    elif not isinstance(whole, type | ModuleType | torch.Tensor | np.ndarray):
        yield from getattr(whole, "__dict__", {}).values()
        for kind in type(whole).__mro__:
            for name in _slots(kind):
                yield getattr(whole, name, None)
    own = whole if isinstance(whole, type) else type(whole)
    if own.__module__ not in ("builtins", "torch") and not own.__module__.startswith("torch."):
        yield from (value for value in vars(own).values() if isinstance(value, _PLAIN))


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _used_by(function: FunctionType) -> Iterator[Any]:
    """What a function holds, what it names of its own file, and switches of modules it names."""
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # of a name that has no value yet
            yield cell.cell_contents
    names = function.__code__.co_names
    for name in names:
        value = function.__globals__.get(name)
        foreign = isinstance(value, FunctionType) and value.__globals__ is not function.__globals__
        if isinstance(value, ModuleType):
            named = (vars(value).get(other) for other in names)
            yield from (one for one in named if isinstance(one, _PLAIN))
        elif not foreign and not isinstance(value, BuiltinFunctionType):
            yield value


@contextlib.contextmanager
def _kept_buffers(step: Step) -> Iterator[None]:
    """Inside, buffers of the modules of a step that are replaced last until the end."""
    modules = [part for part in reached_parts(step) if isinstance(part, torch.nn.Module)]
    before = [dict(module._buffers) for module in modules]
    try:
        yield
    finally:
        for module, buffers in zip(modules, before, strict=True):
            module._buffers.update(buffers)
