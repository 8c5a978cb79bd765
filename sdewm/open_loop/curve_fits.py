"""Least-squares fits of a saturating and a power law to a mean error curve, compared by AIC."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import leastsq

from sdewm.base.arrays import check_array

SHORTEST, LONGEST = 0.05, 100.0  # limits of τ, in steps and in H; beyond them τ is 0 or ∞
EXPONENTS = (-4.0, 12.0)
FEWEST_POINTS = 3  # two parameters and one residual

Basis = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SaturatingFit:
    """The saturating law E_k = E_∞ (1 − exp(−k/τ)).

    Attributes:
        level: E_∞; inf if the curve shows no saturation (τ above 100 H).
        time: τ in steps; inf if the curve shows no saturation; 0 if the curve is flat from k = 1 on
            (τ below 0.05).
        residual: Σ_k (E_k − fit)².
    """

    level: float
    time: float
    residual: float


@dataclass(frozen=True)
class PowerFit:
    """The power law E_k = c k^p.

    Attributes:
        coefficient: c, the error after one step.
        exponent: p, between −4 and 12.
        residual: Σ_k (E_k − fit)².
    """

    coefficient: float
    exponent: float
    residual: float


def fit_saturating(curve: np.ndarray) -> SaturatingFit:
    """Least-squares fit of E_∞ (1 − exp(−k/τ)), k = 1 … H.

    For given τ the optimal E_∞ is a projection, which leaves one unknown (variable projection,
    Golub and Pereyra 1973). The best τ of a grid starts a Levenberg–Marquardt search. The law is 0
    at k = 0: subtract a known floor from the curve first.

    Args:
        curve: mean errors (H,), H ≥ 3.

    Raises:
        ValueError: fewer than three horizons, all errors 0, or values that are not finite.

    >>> k = np.arange(1, 31)
    >>> fit = fit_saturating(2.0 * (1 - np.exp(-k / 7.0)))
    >>> fit.level, fit.time
    (2.0, 7.0)
    """
    curve, steps = _check_curve(curve)
    grid = np.linspace(math.log(SHORTEST), math.log(LONGEST * len(curve)), 80)  # of log τ

    def basis(log_time: np.ndarray) -> np.ndarray:
        return -np.expm1(-steps / np.exp(log_time))

    log_time, level, residual = _project(curve, basis, grid)
    if log_time <= grid[0]:
        flat, residual = _multiple(curve, np.ones_like(steps))
        return SaturatingFit(flat, 0.0, residual)
    if log_time >= grid[-1]:
        return SaturatingFit(math.inf, math.inf, _multiple(curve, steps)[1])
    return SaturatingFit(level, math.exp(log_time), residual)


def fit_power(curve: np.ndarray) -> PowerFit:
    """Least-squares fit of c k^p, k = 1 … H, to the errors themselves (not their logarithms).

    Its residual is comparable with that of `fit_saturating`. The search over p is the same as that
    over τ there.

    Args:
        curve: mean errors (H,), H ≥ 3.

    Raises:
        ValueError: as `fit_saturating`.

    >>> fit = fit_power(3.0 * np.arange(1, 21) ** 0.5)
    >>> fit.coefficient, fit.exponent
    (3.0, 0.5)
    """
    curve, steps = _check_curve(curve)

    def basis(exponent: np.ndarray) -> np.ndarray:
        return (steps / len(steps)) ** exponent

    exponent, last, residual = _project(curve, basis, np.linspace(*EXPONENTS, 65))
    return PowerFit(last * len(steps) ** -exponent, exponent, residual)


def akaike_difference(saturating: SaturatingFit, power: PowerFit, curve: np.ndarray) -> float:
    """AIC of the saturating law minus that of the power law; below 0, the saturating law is better.

    AIC = H log(residual/H) + 2·3 for normal errors of equal variance (two parameters and the
    variance). Both laws have equally many parameters, so that the difference is H log of the ratio
    of residuals. Residuals below the rounding error of the curve are replaced by it. Errors at
    neighbouring horizons are dependent, so the difference overstates the evidence: use its interval
    over episodes.

    >>> curve = 2.0 * np.arange(1, 11) ** 0.5
    >>> akaike_difference(fit_saturating(curve), fit_power(curve), curve) > 100
    True
    """
    least = _rounding(curve)
    ratio = max(saturating.residual, least) / max(power.residual, least)
    return len(curve) * math.log(ratio)


def _check_curve(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    curve = check_array("curve", curve, "(H,)")
    if len(curve) < FEWEST_POINTS:
        raise ValueError(f"curve: H = {len(curve)}; a fit needs at least {FEWEST_POINTS} horizons.")
    if not curve.any():
        raise ValueError("curve: all errors are 0; a fit needs positive errors.")
    return curve, np.arange(1.0, len(curve) + 1)


def _project(curve: np.ndarray, basis: Basis, grid: np.ndarray) -> tuple[float, float, float]:
    """The shape θ whose multiple is nearest to the curve, as `_multiple` of it."""
    columns = basis(grid[:, None])  # (G, H)
    explained = (columns @ curve) ** 2 / np.square(columns).sum(axis=1)  # (G,)
    best = min(max(int(explained.argmax()), 1), len(grid) - 2)  # its neighbours are on the grid
    scaled = curve / float(np.abs(curve).max())

    def shape_at(unknown: np.ndarray) -> np.ndarray:
        # The unknown is offset by 1, because MINPACK's steps and tolerances are relative to it;
        # clipped, because the search does not terminate towards a limit law.
        return np.clip(grid[best] + unknown - 1, grid[0], grid[-1])

    def residuals(unknown: np.ndarray) -> np.ndarray:
        column = basis(shape_at(unknown))
        return column * (column @ scaled) / (column @ column) - scaled

    found, _ = leastsq(residuals, np.ones(1), xtol=1e-12, ftol=1e-12)
    shape = shape_at(found)  # (1,)
    return (float(shape[0]), *_multiple(curve, basis(shape)))


def _multiple(curve: np.ndarray, column: np.ndarray) -> tuple[float, float]:
    """The multiple of the column that is nearest to the curve, and the squared distance."""
    factor = float(column @ curve / (column @ column))
    return factor, float(np.square(curve - factor * column).sum())


def _rounding(curve: np.ndarray) -> float:
    """Bound on the rounding error of squared distances of curves."""
    return len(curve) * (1e3 * np.finfo(float).eps * float(np.abs(curve).max())) ** 2
