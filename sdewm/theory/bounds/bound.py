"""What a bound on a divergence is: curves over time, constants, and what it may be called."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from sdewm.base.checks import UnknownName, check_key
from sdewm.sde.rates import Rates
from sdewm.theory.curve import NORMS, Curve

LINEAR_WITHIN = 0.05  # relative error up to which the linearised prediction is said to hold


@dataclass(frozen=True)
class GradeBound:
    """The bound of one grade over time.

    `bound[name]`, name in "mean", "mean_square", "sup", "sup_square", is a Curve; its standard
    errors are those of the moments of e, and of the reference paths for grade "linearised".

    Attributes:
        grade: its name.
        kind: "certificate": every constant is proven for all paths (grade "linearised": and path by
            path on the sampled reference, up to rounding of about 1e-12, so that only the
            mean over paths carries an error);
            "estimate": constants are suprema over samples; "recalled": no bound, see
            `double_exponential`.
        curves: name -> Curve.
        constants: what the bound is made of: α, β, λ, κ, ... at their largest over time.
    """

    grade: str
    kind: str
    curves: Mapping[str, Curve]
    constants: Mapping[str, float]

    def __getitem__(self, name: str) -> Curve:
        check_key("name", name, NORMS)
        if name not in self.curves:
            raise UnknownName(
                f"grade {self.grade!r} has no bound of {name!r}; it has {[*self.curves]}."
            )
        return self.curves[name]

    def tightness(self, measured: Mapping[str, Curve]) -> dict[str, Curve]:
        """The ratio bound / measured for each name that both have, on the grid, 1 being perfect.

        Args:
            measured: name -> Curve on the same grid, such as `rollout_divergence` gives.

        Raises:
            ValueError: the grids differ.
        """
        return {name: _ratio(bound, measured[name]) for name, bound in self.curves.items()}


@dataclass(frozen=True)
class LinearisedBound(GradeBound):
    """Grade "linearised", with the prediction D ≈ y it is built around.

    Attributes:
        prediction: name -> Curve of |y|, over all paths.
        remainder: bound of E|D − y|.
        range: E|e| up to which ½ E|w| ≤ 5 % of E|y| − ½ E|w| at all times, for errors of this
            shape: there E|y| is within 5 % of E|D| (up to third order; an estimate).
    """

    prediction: Mapping[str, Curve] = field(default_factory=dict)
    remainder: Curve | None = None
    range: float = math.inf


class RolloutBounds(Mapping[str, GradeBound]):
    """Result of `rollout_bounds`: grade -> GradeBound, in the order of the grades.

    Attributes:
        rates: what the bounds are made of.
        form: "step" or "sde".
        left_out: a grade that does not apply, or "certificate" -> why.
    """

    def __init__(
        self, bounds: dict[str, GradeBound], rates: Rates, form: str, left_out: dict[str, str]
    ) -> None:
        self._bounds, self.rates, self.form = bounds, rates, form
        self.left_out: Mapping[str, str] = left_out

    def __getitem__(self, grade: str) -> GradeBound:
        check_key("grade", grade, self._bounds)
        return self._bounds[grade]

    def __contains__(self, grade: object) -> bool:
        return grade in self._bounds

    def __iter__(self) -> Iterator[str]:
        return iter(self._bounds)

    def __len__(self) -> int:
        return len(self._bounds)


def added(excess: dict[str, Curve], prediction: dict[str, Curve]) -> dict[str, Curve]:
    """The sums of curves with the same names; the sum of their errors bounds that of the sum."""
    return {
        name: Curve(
            curve.times,
            curve.values + excess[name].values,
            curve.standard_errors + excess[name].standard_errors,
        )
        for name, curve in prediction.items()
    }


def widened(
    prediction: dict[str, Curve], remainder: np.ndarray, supremum: np.ndarray
) -> dict[str, Curve]:
    """The curves of |y| with ‖D − y‖₂, or ‖sup|D − y|‖₂, added in L² (S18)."""
    curves = {}
    for name, curve in prediction.items():
        more = supremum if name.startswith("sup") else remainder
        values, errors = curve.values + more, curve.standard_errors
        if name.endswith("square"):
            root = np.sqrt(curve.values)
            values = (root + more) ** 2
            errors = errors * (1.0 + np.divide(more, root, out=np.zeros_like(root), where=root > 0))
        curves[name] = Curve(curve.times, values, errors)
    return curves


def linear_range(first: torch.Tensor, bend: torch.Tensor, size: float) -> float:
    """Mean size of the error up to which E|y| is said to be within 5 % of E|D| (S18).

    Args:
        first: E|y| over the grid, for errors of mean size `size`.
        bend: ½ E|w|, likewise.
        size: E|e|.

    >>> linear_range(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1 / 21]), 2.0)
    2.0
    """
    there = first > 0
    share = float((bend[there] / first[there]).amax()) if bool(there.any()) else 0.0
    return LINEAR_WITHIN / (1.0 + LINEAR_WITHIN) / share * size if share > 0 else math.inf


def named_constants(rates: Rates) -> dict[str, float]:
    """The rates at their largest over time, under the names of the statements."""
    return {
        "alpha": float(rates.drift.max()),
        "beta": float(rates.noise.max()),
        "lambda_1": float(rates.log_norm[0].max()),
        "lambda_2": float(rates.log_norm[1].max()),
        "kappa": float(rates.radial.max()),
        "step": float(rates.step.max()),
        "curvature": float(rates.curvature.max()),
        "noise_curvature": float(rates.noise_curvature.max()),
    }


def _ratio(bound: Curve, measured: Curve) -> Curve:
    if len(bound) != len(measured) or not np.allclose(bound.times, measured.times):
        raise ValueError(
            f"measured has {len(measured)} times up to {measured.times[-1]:g}, the bound "
            f"{len(bound)} up to {bound.times[-1]:g}; measure with the same t0, t1 and steps."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(bound.values == measured.values, 1.0, bound.values / measured.values)
        relative = np.hypot(
            bound.standard_errors / bound.values, measured.standard_errors / measured.values
        )
        errors = values * np.nan_to_num(relative)  # nan where the bound overflows
    return Curve(bound.times, values, errors)
