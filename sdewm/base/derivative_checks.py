"""Comparison of automatic derivatives with central differences.

torch's nested forward mode is silently wrong for some operations: its rules for det, solve and
cumprod at zero factors, among others, drop terms when differentiated a second time (seen in torch
2.13). Straight-through estimators are wrong by design. An expansion is therefore refused if its
derivatives fail this check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sdewm.base.taylor import Tensors, second_order

_STEPS = {torch.float64: 1e-3, torch.float32: 4e-2}
_FINE = 1e-3  # of the largest number, beyond which it sets the step
_TOLERANCES = {torch.float64: 1e-4, torch.float32: 5e-2}


def check_derivatives(
    name: str | Sequence[str], function: Callable[..., Tensors], point: Tensors
) -> None:
    """Compare first and second derivatives of `function` along one direction with differences.

    Let D be the automatic derivative and D_h the central difference at step h. The derivative is
    refused if |D − D_{h/2}| > 10 |D_h − D_{h/2}| + tolerance · (1 + max|D_{h/2}|) + rounding, where
    |D_h − D_{h/2}| estimates the discretisation error of the difference, and rounding is that of
    the values that are subtracted. Rates of a slow system are small: with the largest value in
    place of 1, and the largest |D_h − D_{h/2}|, the derivative has to pass as well. If the
    differences do not converge (for instance at a kink within h), the check is inconclusive and
    passes. It is also inconclusive where the second derivative jumps next to the point, as that of
    ELU does at 0, and the automatic one lies between those of both sides. h grows with numbers
    above 1000, so that rounding does not hide the difference.

    Args:
        name: name of the function in error messages, or of each of its outputs.
        function: takes the tensors of `point`, returns a tuple of tensors.
        point: the point at which the derivatives are compared.

    Raises:
        ValueError: the derivatives disagree.

    >>> x = torch.eye(2, dtype=torch.float64) + 0.3
    >>> check_derivatives("sin", lambda x: (torch.sin(x),), (x,))
    >>> check_derivatives("det", lambda x: (torch.linalg.det(x),), (x,))
    Traceback (most recent call last):
    ...
    ValueError: the second derivative of det is wrong in automatic differentiation ...
    """
    generator = torch.Generator().manual_seed(0)
    direction = tuple(
        torch.randn(p.shape, dtype=p.dtype, generator=generator).to(p.device) for p in point
    )
    nothing = tuple(torch.zeros_like(p) for p in point)
    size = max(1.0, *(_FINE * float(p.abs().amax()) for p in point if p.numel()))
    step, tolerance = size * _STEPS[point[0].dtype], _TOLERANCES[point[0].dtype]
    with torch.no_grad():
        value, (first,), mixed = second_order(function, point, [direction], {(0, 0): nothing})

        def at(h: float) -> Tensors:
            return function(*(p + h * d for p, d in zip(point, direction, strict=True)))

        ahead, behind = ([at(sign * h) for h in (step, step / 2)] for sign in (1, -1))
        for k in (k for k in range(len(value)) if value[k].numel()):
            slopes, curvatures = [], []
            for i, h in enumerate((step, step / 2)):
                slopes.append((ahead[i][k] - behind[i][k]) / (2 * h))
                curvatures.append((ahead[i][k] + behind[i][k] - 2 * value[k]) / (h * h))
            largest = torch.stack([_largest(part[k]) for part in (value, *ahead, *behind)]).amax()
            rounding = 8 * torch.finfo(point[0].dtype).eps * largest
            pairs = (
                ("first", first[k], slopes, rounding / step),
                ("second", mixed[0, 0][k], curvatures, 4 * rounding / step / step),
            )
            for order, automatic, (coarse, fine), lost in pairs:
                unsteady, slope = 10 * (coarse - fine).abs(), _largest(fine)
                loose = unsteady + tolerance * (1.0 + slope) + lost
                tight = _largest(unsteady) + tolerance * (largest + slope) + lost
                allowed = loose.clamp(max=tight)
                finite = torch.isfinite(fine) & torch.isfinite(automatic)
                wrong = ((automatic - fine).abs() > allowed) & finite
                if order == "second" and bool(wrong.any()):
                    wrong &= ~_between_sides(automatic, at, value, k, step, allowed)
                if bool(wrong.any()):
                    where = int(wrong.flatten().nonzero()[0])
                    what = name if isinstance(name, str) else name[k]
                    raise ValueError(
                        f"the {order} derivative of {what} is wrong in automatic differentiation "
                        f"({float(automatic.flatten()[where]):.6g}; central differences give "
                        f"{float(fine.flatten()[where]):.6g}): rewrite the operation concerned "
                        "(linear algebra, a straight-through estimator, a custom function) in "
                        "elementary operations."
                    )


def _largest(values: torch.Tensor) -> torch.Tensor:
    """The largest finite number."""
    return values.abs().nan_to_num(0.0, 0.0, 0.0).amax()


def _between_sides(
    automatic: torch.Tensor,
    at: Callable[[float], Tensors],
    value: Tensors,
    k: int,
    step: float,
    allowed: torch.Tensor,
) -> torch.Tensor:
    """Where a second derivative is one between the differences of both sides of the point."""
    sides = [(at(2 * h)[k] - 2 * at(h)[k] + value[k]) / (step * step) for h in (step, -step)]
    low, high = torch.minimum(*sides), torch.maximum(*sides)
    return (automatic >= low - allowed) & (automatic <= high + allowed)
