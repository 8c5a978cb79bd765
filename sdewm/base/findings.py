"""What can be wrong with a function that the theory relies on, as named findings with remedies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sdewm.base.derivative_checks import check_derivatives
from sdewm.base.smoothness import rounding_error
from sdewm.base.taylor import Tensors

ROWS_REMEDY = (
    "each row of the result may depend on its own row only: look for a sum or mean over axis 0, a "
    "missing axis, a branch on the number of rows, a generator that is seeded anew, or batch "
    "normalisation in training mode"
)

OWN = 10  # times its own rounding error, by which a function may differ between batches,
MOST_ROUNDING = 1e-4  # but no more than this share of its largest value
MANY_ROWS = 4096  # of a batch as large as those of a computation,
MANY_NUMBERS = 1 << 20  # unless its arguments or values are more numbers than these

Function = Callable[..., Any]  # of tensors (B, …), returning a tensor or a tuple of tensors


@dataclass(frozen=True)
class Finding:
    """What is wrong with a system, a model or a step.

    Attributes:
        check: name of the check: "outputs", "in place", "random", "rows", "precision", "noise",
            "derivatives", "smoothness" or "product".
        message: what was seen, and where.
        remedy: what to change.
    """

    check: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """Message and remedy as one sentence."""
        return f"{self.message}: {self.remedy}."


def require(findings: Iterable[Finding]) -> None:
    """Raise ValueError for the first finding, if there is one."""
    for finding in findings:
        raise ValueError(str(finding))


def impurity(
    where: str,
    function: Function,
    arguments: Tensors,
    noise: str,
    repeated: float | None = None,
) -> Finding | None:
    """Changes of an argument, random numbers, mixed rows, lower precision; the first one seen.

    Args:
        where: name of the function in the message.
        function: of the arguments.
        arguments: tensors (B, …), of which the function receives copies.
        noise: where randomness belongs, as a remedy.
        repeated: by how much two calls may differ, see `repeats`.
    """
    given = [argument.clone() for argument in arguments]
    with torch.no_grad(), _Precision() as precision:
        value = outputs_of(function(*given))
    if any(a._version or not _same(a, b) for a, b in zip(given, arguments, strict=True)):
        return Finding(
            "in place",
            f"{where} changes its {'state' if len(given) == 1 else 'arguments'} in place",
            "compute a new tensor (`y * 0.5`, not `y *= 0.5`)",
        )
    if not repeats(function, value, arguments, repeated):
        return Finding(
            "random",
            f"{where} gives two values at one state: it draws random numbers or remembers calls",
            f"switch dropout off, and {noise}",
        )
    if len(given[0]) > 1 and (mixed := mixed_rows(function, arguments, value)) is not None:
        return Finding(
            "rows",
            f"{where} mixes the rows of its batch",
            f"{ROWS_REMEDY} (a row changes by {mixed:.2g} with other values in the others)",
        )
    if precision.operation is not None and torch.float64 in {a.dtype for a in arguments}:
        return Finding(
            "precision",
            f"{where} computes in {precision.dtype} inside torch.float64, in {precision.operation}",
            "remove the conversion, or convert the module by module.double()",
        )
    return None


def repeats(
    function: Function, value: Tensors, arguments: Tensors, limit: float | None = None
) -> bool:
    """Whether two more calls return `value` again, one of them with other random numbers.

    Args:
        function: of the arguments.
        value: what it returned.
        arguments: tensors, of which the function receives copies.
        limit: by how much calls may differ; None: 100 rounding units, as parallel sums may differ
            in their last digits.
    """
    with torch.no_grad():
        again = outputs_of(function(*(argument.clone() for argument in arguments)))
    with torch.no_grad(), _OtherNumbers():
        redrawn = outputs_of(function(*(argument.clone() for argument in arguments)))
    allowed = 100 * _rounding(value) if limit is None else limit
    return all(
        _same(a, b, allowed) for one in (again, redrawn) for a, b in zip(value, one, strict=True)
    )


def outputs_of(value: Any) -> Tensors:
    """What a function returned, as a tuple of tensors without gradient."""
    return tuple(part.detach() for part in ((value,) if torch.is_tensor(value) else value))


def mixed_rows(function: Function, arguments: Tensors, value: Tensors) -> float | None:
    """By how much rows change if the others are exchanged, or None if they do not.

    Half of the rows are exchanged, then the other half: the odd and the even ones, and two halves
    drawn at random, because rows of one sequence may lie an even number of places apart.
    """
    rows, worst = len(arguments[0]), None
    odd = torch.arange(rows) % 2 == 1
    drawn = torch.randperm(rows, generator=torch.Generator().manual_seed(0)) < rows // 2
    for half in (odd, ~odd, drawn, ~drawn):
        half = half.to(arguments[0].device)
        with torch.no_grad():
            changed = outputs_of(function(*(_exchanged(one, half) for one in arguments)))
        same = [(a[~half], b[~half]) for a, b in zip(changed, value, strict=True) if len(b) == rows]
        gap = _row_gap(tuple(a for a, _ in same), tuple(b for _, b in same))
        worst = gap if worst is None else max(worst, gap or 0.0)
    return worst


def batch_dependence(
    where: str, function: Function, arguments: Tensors, largest: bool
) -> Finding | None:
    """A row whose value is another one in a batch of two rows or, where `largest`, of many.

    Rows keep their places, because a function may look up what belongs to row i. One that does not
    take a batch of many rows is not asked for it.
    """
    value = outputs_of(function(*(argument.clone() for argument in arguments)))
    given, device = len(arguments[0]), arguments[0].device
    per_row = max(part.numel() for part in (*arguments, *value)) // given
    many = min(MANY_ROWS, MANY_NUMBERS // max(1, per_row))
    for rows in (min(2, given), many if largest and many > given else 0):
        if not rows:
            continue
        batch = torch.arange(rows, device=device) % given
        try:
            other = outputs_of(function(*(argument[batch] for argument in arguments)))
        except (RuntimeError, IndexError, ValueError):
            if rows == many:
                continue
            raise
        both = min(rows, given)
        now, before = (tuple(part[:both] for part in parts) for parts in (other, value))
        gap = _row_gap(now, before, floor=100 * _rounding(value))  # sums of other lengths
        if gap is not None:
            own = OWN * rounding_error(function, *(one.clone() for one in arguments))
            gap = _row_gap(now, before, floor=100 * _rounding(value), own=own)
        if gap is not None:
            return Finding(
                "rows",
                f"{where} gives a row another value (by {gap:.2g}) in a batch of {rows} than in "
                f"one of {given}",
                ROWS_REMEDY,
            )
    return None


def _row_gap(
    values: Tensors, expected: Tensors, floor: float = 0.0, own: float = 0.0
) -> float | None:
    """The greatest difference of two values of the same rows, or None where it is rounding.

    Rounding is the root of the rounding unit times the largest value, and at least `floor`; or
    `own`, up to a share `MOST_ROUNDING` of the largest value. A number that is infinite or nan in
    one value only differs by ∞. Values of other shapes are the business of the check of shapes.
    """
    worst: float | None = None
    for now, before in zip(values, expected, strict=True):
        if now.shape != before.shape or not now.numel():
            continue
        apart = (now.double() - before.double()).abs()
        alike = (now == before) | (now.isnan() & before.isnan())
        gap = float(torch.where(alike, 0.0, apart.nan_to_num(nan=torch.inf)).max())
        largest = float(before.double().nan_to_num(0.0, 0.0, 0.0).abs().max())
        rounding = max(_rounding(expected) ** 0.5 * largest, min(own, MOST_ROUNDING * largest))
        if gap > max(rounding, floor):
            worst = max(gap, worst or 0.0)
    return worst


def _exchanged(argument: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """The argument with other values in the rows marked in `half`.

    Where all rows are equal, these are shifted: exchanging them would show nothing.
    """
    other, alike = argument.clone(), not bool((argument != argument[0]).any())
    if not argument.is_floating_point():  # images
        other[half] = (255 - argument if alike else argument.roll(1, 0))[half]
        return other
    rolled = argument + 0.01 * (1.0 + argument.abs()) if alike else argument.roll(1, 0)
    other[half] = rolled[half] + (argument[half] - rolled[half]) * 0.25
    return other


def wrong_derivative(
    places: Sequence[str], functions: Callable[..., Tensors], point: Tensors
) -> Finding | None:
    """Automatic first and second derivatives of all functions, against central differences."""
    try:
        check_derivatives(places, functions, point)
    except ValueError as problem:
        message, _, remedy = str(problem).partition(": ")
        return Finding("derivatives", message, remedy.rstrip("."))
    return None


def _rounding(values: Tensors) -> float:
    return max((torch.finfo(v.dtype).eps for v in values if v.is_floating_point()), default=0.0)


def _same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 0.0) -> bool:
    """Whether they differ by at most `tolerance` times the largest number."""
    if a.shape != b.shape:
        return False
    largest = float(b.double().abs().nan_to_num(0.0, 0.0, 0.0).max()) if b.numel() else 0.0
    absolute = tolerance * largest
    return bool(torch.isclose(a, b, rtol=tolerance, atol=absolute, equal_nan=True).all())


class _OtherNumbers(TorchDispatchMode):
    """Mirrors what is drawn from a global generator, x to 1 − x or to the largest one − x.

    Two calls may agree by chance, as dropout of a small fraction does on a few numbers. Numbers
    whose mirror image changes nothing, such as noise of scale zero, are not looked for.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation itself, its random numbers mirrored."""
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        before = _streams()
        result = func(*args, **(kwargs or {}))
        drawn = result[0] if isinstance(result, tuple) else result
        if not isinstance(drawn, torch.Tensor) or not drawn.numel() or _streams() == before:
            return result
        if drawn.dtype == torch.bool:
            drawn.logical_not_()
        else:
            drawn.neg_().add_(1 if drawn.is_floating_point() else -drawn.min())
        return result


def _streams() -> list[bytes]:
    """States of torch's global generators."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    return [state.numpy().tobytes() for state in states]


class _Precision(TorchDispatchMode):
    """Notices the first conversion of float64 numbers to a lower floating-point precision."""

    def __init__(self) -> None:
        super().__init__()
        self.operation: str | None = None
        self.dtype: torch.dtype | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation itself; conversions are noted."""
        result = func(*args, **(kwargs or {}))
        if self.operation is None and isinstance(result, torch.Tensor) and args:
            before = args[0]
            if (
                isinstance(before, torch.Tensor)
                and before.dtype == torch.float64
                and before.dim() > 0
                and result.is_floating_point()
                and result.dtype != torch.float64
            ):
                self.operation, self.dtype = str(func), result.dtype
        return result
