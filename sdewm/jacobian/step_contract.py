"""The contract between the penalty and a step, checked once for every step function."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Hashable, Iterator
from types import FunctionType, MethodType
from typing import Any

import torch

from sdewm.base.findings import Finding, impurity
from sdewm.base.kept_tensors import kept_random_stream, kept_tensors
from sdewm.base.taylor import remedy_for
from sdewm.jacobian.products import (
    Step,
    Tensors,
    as_rows,
    join_rows,
    joined_step,
    pull_back,
    push_forward,
)

LEAST_ROWS = 3
REMEMBERED = 4096  # steps; the weights of a model are not kept alive by them
_C: Any = torch._C  # its parts are not declared to type checkers
DEPTH = 3  # of functions inside a step that are told apart
_sound: set[Hashable] = set()


def check_step(step: Step, inputs: Tensors) -> list[Finding]:
    """Check a step at given inputs; `jacobian_penalty` refuses the gravest finding.

    The step has to

        keep its inputs as they are           "in place"
        give the same value twice             "random"
        treat the rows of the batch apart     "rows"
        compute in the precision of its input "precision" (the penalty allows a lower one)
        have right second derivatives         "derivatives"

    Rows: every second row is replaced, and the others must not change by more than the square root
    of the rounding unit. Derivatives: uᵀ(J v) and (Jᵀu)ᵀ v, which are equal, must have equal
    gradients. The random streams of torch and the buffers of modules stay as they are.

    Args:
        step: function of the inputs in their order; returns a tensor or tuple of tensors (B, …).
        inputs: tensor or tuple of tensors (B, …), B ≥ 3.

    Returns:
        The findings, the gravest first; empty if there are none.

    Raises:
        ValueError: B < 3, or inputs or outputs are not tensors (B, …).

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
    with kept_random_stream():
        return list(_findings(step, rows))


def require_sound_step(step: Step, inputs: Tensors) -> None:
    """Raise ValueError for the gravest finding of `check_step`, once for every step function.

    A closure made anew is known by its code, the modules and functions that it uses, their training
    mode, and the shapes of a row. Fewer than three rows cannot be compared and are not checked.
    """
    rows = as_rows("inputs", inputs)
    if len(rows[0]) < LEAST_ROWS or _C._functorch.peek_interpreter_stack() is not None:
        return
    key = (_identity(step), *((row.shape[1:], row.dtype, row.device) for row in rows))
    if key in _sound:
        return
    for finding in check_step(step, rows):
        if finding.check != "precision":
            raise ValueError(str(finding))
    if len(_sound) >= REMEMBERED:
        _sound.clear()
    _sound.add(key)


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

    tolerance = _rounding(rows) ** 0.5
    found = impurity("step", tried, rows, "draw noise outside the step", tolerance)
    if found is not None:
        yield found
    if found is None or found.check == "precision":
        with kept_tensors():
            wrong = _wrong_derivative(step, rows, tolerance)
        if wrong is not None:
            yield wrong


def _wrong_derivative(
    step: Step, rows: tuple[torch.Tensor, ...], tolerance: float
) -> Finding | None:
    try:
        by_pull, by_push = _gradients_of_pairing(step, rows)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as problem:
        first = str(problem).strip().splitlines()[0]
        return Finding(
            "derivatives",
            f"step cannot be differentiated twice ({first})",
            remedy_for(str(problem)),
        )
    worst = float((by_pull - by_push).abs().max())
    if worst <= 100 * tolerance * (1.0 + float(by_pull.abs().max())):
        return None
    return Finding(
        "derivatives",
        "the second derivatives of an operation in step are wrong: two ways to compute the "
        f"gradient of uᵀJv differ by {worst:.3g}",
        "rewrite the operation in elementary operations",
    )


def _gradients_of_pairing(
    step: Step, rows: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients (B, n) of Σ_b uᵀJ_b v in the inputs, from Jᵀu and from J v, with fixed u and v."""
    with torch.enable_grad():
        leaves = tuple(tensor.clone().requires_grad_() for tensor in rows)
        outputs, pull = pull_back(step, leaves)
        u, v = (
            torch.linspace(-1.0, 2.0, like.numel(), dtype=like.dtype, device=like.device)
            .reshape(like.shape)
            .cos()
            for like in (outputs, join_rows(leaves))
        )
        by_pull = _gradient((pull(u) * v).sum(), leaves)
        by_push = _gradient((push_forward(step, leaves)(v) * u).sum(), leaves)
    return by_pull, by_push


def _gradient(pairing: torch.Tensor, leaves: tuple[torch.Tensor, ...]) -> torch.Tensor:
    if not pairing.requires_grad:
        return join_rows(tuple(torch.zeros_like(leaf) for leaf in leaves))
    return join_rows(tuple(torch.autograd.grad(pairing, leaves, materialize_grads=True)))


def _rounding(rows: tuple[torch.Tensor, ...]) -> float:
    """Rounding unit of the coarsest precision in use."""
    dtypes = [row.dtype for row in rows]
    if torch.is_autocast_enabled(rows[0].device.type):
        dtypes.append(torch.get_autocast_dtype(rows[0].device.type))
    return max(torch.finfo(dtype).eps for dtype in dtypes)


def _identity(part: Any, depth: int = DEPTH) -> Hashable:
    """What tells one step from another, without keeping modules alive."""
    if isinstance(part, torch.nn.Module):
        return weakref.ref(part), tuple(module.training for module in part.modules())
    inner: tuple[Any, ...] = ()
    if isinstance(part, functools.partial):
        inner = (part.func, *part.args, *part.keywords.values())
    elif isinstance(part, MethodType):
        inner = (part.__self__, part.__func__)
    elif isinstance(part, FunctionType):
        inner = tuple(_used_by(part))
    elif callable(part) and isinstance(part, type | type(torch.tanh)):
        return part
    what = part.__code__ if isinstance(part, FunctionType) else type(part)
    return (what, *(_identity(one, depth - 1) for one in inner if depth))


def _used_by(function: FunctionType) -> Iterator[Any]:
    """What a function holds, and the modules and functions of its own file that it names."""
    yield from function.__defaults__ or ()
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # of a name that has no value yet
            yield cell.cell_contents
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        own = isinstance(value, FunctionType) and value.__globals__ is function.__globals__
        if own or isinstance(value, torch.nn.Module):
            yield value
