"""Central differences as a guard: torch's nested forward mode is silently wrong in places.

Its rules for det, solve, cumprod at zero factors and others drop terms when they are differentiated
a second time (seen in torch 2.13), and straight-through estimators are wrong by intent. No
expansion is computed from such a derivative.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sdewm.base.taylor import Tensors, second_order

_STEPS = {torch.float64: 1e-3, torch.float32: 4e-2}
_TOLERANCES = {torch.float64: 1e-4, torch.float32: 5e-2}


def check_derivatives(name: str, function: Callable[..., Tensors], point: Tensors) -> None:
    """Compare first and second derivatives of `function` along one direction with differences.

    With D the automatic and D_h the central difference at step h, the derivative is refused where
    |D − D_{h/2}| exceeds ten times |D_h − D_{h/2}|, the size of the difference's own error, by a
    tolerance. Where the differences do not settle (a kink within h) nothing is concluded.

    Args:
        name: what the message calls the function.
        function: takes the tensors of `point`, returns a tuple of tensors.
        point: where to look.

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
    step, tolerance = _STEPS[point[0].dtype], _TOLERANCES[point[0].dtype]
    with torch.no_grad():
        value, (first,), mixed = second_order(function, point, [direction], {(0, 0): nothing})

        def at(h: float) -> Tensors:
            return function(*(p + h * d for p, d in zip(point, direction, strict=True)))

        ahead, behind = ([at(sign * h) for h in (step, step / 2)] for sign in (1, -1))
        for k in range(len(value)):
            slopes, curvatures = [], []
            for i, h in enumerate((step, step / 2)):
                slopes.append((ahead[i][k] - behind[i][k]) / (2 * h))
                curvatures.append((ahead[i][k] + behind[i][k] - 2 * value[k]) / (h * h))
            pairs = (("first", first[k], slopes), ("second", mixed[0, 0][k], curvatures))
            for order, automatic, (coarse, fine) in pairs:
                scale = 1.0 + fine.abs().amax()
                allowed = 10 * (coarse - fine).abs() + tolerance * scale
                wrong = ((automatic - fine).abs() > allowed) & torch.isfinite(fine)
                if bool(wrong.any()):
                    where = int(wrong.flatten().nonzero()[0])
                    raise ValueError(
                        f"the {order} derivative of {name} is wrong in automatic differentiation "
                        f"({float(automatic.flatten()[where]):.6g}, by central differences "
                        f"{float(fine.flatten()[where]):.6g}): write the operation concerned "
                        "(linear algebra, a straight-through estimator, a custom function) out in "
                        "elementary operations."
                    )
