"""Result types of divergence bounds: curves over time, constants, certificate or estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from sdewm.base.checks import UnknownName, check_key
from sdewm.sde.rates import Rates
from sdewm.theory.curve import NORMS, Curve, NormCurves
from sdewm.theory.origin import Origin

LINEAR_WITHIN = 0.05  # relative error that defines the range of the linearised prediction


@dataclass(frozen=True)
class GradeBound:
    """The bound of one grade over time.

    `bound[name]`, name in "mean", "mean_square", "sup", "sup_square", is a Curve. Its standard
    errors are those of the moments of e and, for grade "linearised", of the sampled paths.

    Attributes:
        grade: name of the grade.
        kind: "certificate": at least the expectation, with every constant proven and no mean over
            samples, up to rounding of about 1e-12; "estimate": constants are suprema over samples,
            or a mean over samples enters; "recalled": not a bound, see
            `formulas.double_exponential`.
        curves: name -> Curve.
        constants: the constants α, β, λ, κ, … of the bound, each at its maximum over time.
        origin: the system, start and error that it bounds; None if unknown.
    """

    grade: str
    kind: str
    curves: Mapping[str, Curve]
    constants: Mapping[str, float]
    origin: Origin | None = field(default=None, kw_only=True, repr=False)

    def __getitem__(self, name: str) -> Curve:
        check_key("name", name, NORMS)
        if name not in self.curves:
            raise UnknownName(
                f"grade {self.grade!r} has no bound of {name!r}; it has {[*self.curves]}."
            )
        return self.curves[name]

    def tightness(self, measured: Mapping[str, Curve]) -> dict[str, Curve]:
        """The ratio bound / measured on the grid, for each curve of the bound; 1 is optimal.

        Args:
            measured: name -> Curve on the same grid, as returned by `rollout_divergence`. Plain
                curves without an `origin` are compared in their grid only.

        Raises:
            ValueError: the measurement is of another system, start, error or grid, or has not the
                curves of the bound.
        """
        missing = (
            [name for name in self.curves if name not in measured]
            if isinstance(measured, Mapping)
            else list(self.curves)
        )
        if missing:
            raise ValueError(
                f"measured={type(measured).__name__} has no curve {missing[0]!r}; expected the "
                f"curves {list(self.curves)}, as returned by rollout_divergence."
            )
        ratios = {name: _ratio(bound, measured[name]) for name, bound in self.curves.items()}
        if isinstance(measured, NormCurves) and self.origin is not None:
            if measured.origin is not None and (what := self.origin.difference(measured.origin)):
                raise ValueError(
                    f"measured is of another {what} than the bound of grade {self.grade!r}; "
                    "expected a measurement with the same system, x0 and error."
                )
        return ratios


@dataclass(frozen=True)
class LinearisedBound(GradeBound):
    """Bound of grade "linearised", with the prediction D ≈ y on which it is based.

    Attributes:
        prediction: name -> Curve of |y|, over all paths.
        remainder: bound of E|D − y|.
        range: the largest E|e| with ½ E|w| ≤ 5 % of E|y| − ½ E|w| at all times, for errors of this
            shape. Up to this size E|y| is within 5 % of E|D| (up to third order; an estimate).
    """

    prediction: Mapping[str, Curve] = field(default_factory=dict)
    remainder: Curve | None = None
    range: float = math.inf


class RolloutBounds(Mapping[str, GradeBound]):
    """Result of `rollout_bounds`: grade -> GradeBound, in the order of the grades.

    Attributes:
        rates: the rates from which the bounds are computed.
        form: "step" or "sde".
        left_out: name -> reason, for each grade that does not apply, and for "certificate" if no
            rates are proven.
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
    """Sums of curves with the same names; standard errors are added, an upper bound."""
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
    """Bounds of |D| from curves of |y| and ‖D − y‖₂ or ‖sup|D − y|‖₂, added in L² (S18)."""
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
    """Largest mean size of the error for which E|y| is estimated to be within 5 % of E|D| (S18).

    It is 0 where E|y| vanishes at a time at which E|w| does not, and nan where one is no number.

    Args:
        first: E|y| over the grid, for errors of mean size `size`.
        bend: ½ E|w| over the grid, for the same errors.
        size: E|e|.

    >>> linear_range(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1 / 21]), 2.0)
    2.0
    """
    there = ~(bend == 0)
    share = float((bend[there] / first[there]).amax()) if bool(there.any()) else 0.0
    return LINEAR_WITHIN / (1.0 + LINEAR_WITHIN) / share * size if share != 0 else math.inf


def named_constants(rates: Rates) -> dict[str, float]:
    """Maxima of the rates over time, under the names used in the statements."""
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
