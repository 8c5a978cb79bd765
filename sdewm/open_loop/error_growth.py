"""Growth rate, saturation level and predictability horizon of an open-loop error curve.

The curve E_1 … E_H is a mean over episodes, in any metric that is ≥ 0 and grows with the error. The
horizon k counts steps after the last observation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sdewm.base.arrays import check_array
from sdewm.base.checks import check_finite_number
from sdewm.open_loop.bootstrap import RESAMPLES, Interval, episode_bootstrap
from sdewm.open_loop.curve_fits import FEWEST_POINTS, akaike_difference, fit_power, fit_saturating

EARLY = 0.5  # fraction of the ceiling below which growth is not limited by saturation
GROWTH_METRICS = (
    *("saturation_level", "saturation_time", "power_coefficient", "power_exponent"),
    *("akaike_difference", "growth_rate", "predictability_horizon"),
    *("equilibrium_rate", "equilibrium_source", "stationary_value", "relaxation_time"),
)


def growth_rate(curve: np.ndarray, ceiling: np.ndarray | float) -> float:
    """Growth rate g per step: least-squares slope of log E_k on k, below half the ceiling.

    Only the steps before the error first exceeds half the ceiling are used. An error ε e^{gk}
    doubles every log(2)/g steps. The rate is nan if there are fewer than two such steps, or if an
    error among them is not positive.

    Args:
        curve: (H,), H ≥ 2.
        ceiling: error of unrelated episodes, a positive number or one per horizon (H,).

    >>> growth_rate(0.01 * np.exp(0.3 * np.arange(1, 21)), ceiling=1.0)
    0.3
    """
    early = curve[: _steps_until(curve, EARLY * np.asarray(ceiling))]
    if len(early) < 2 or (early <= 0).any():
        return math.nan
    centred = np.arange(len(early)) - (len(early) - 1) / 2
    return float(np.log(early) @ centred / (centred @ centred))


def predictability_horizon(
    curve: np.ndarray, ceiling: np.ndarray | float, *, theta: float
) -> float:
    """The first k with E_k > θ · ceiling_k; inf if there is none up to H.

    Args:
        curve: (H,).
        ceiling: as in `growth_rate`.
        theta: θ > 0, the fraction of the ceiling above which predictability is lost.

    >>> curve = np.array([0.1, 0.4, 0.9])
    >>> [predictability_horizon(curve, 1.0, theta=theta) for theta in (0.05, 0.4, 0.95)]
    [1.0, 3.0, inf]
    """
    steps = _steps_until(curve, theta * np.asarray(ceiling))
    return steps + 1.0 if steps < len(curve) else math.inf


@dataclass(frozen=True)
class Equilibrium:
    """The linear equation D' = a D + c, fitted to a curve sampled at every step.

    Attributes:
        rate: a per step; −inf if the curve relaxes within a step (α ≤ 0), nan if D is constant.
        source: c, in units of the curve per step.
        stationary: −c/a; inf if a ≥ 0, where the error grows without an equilibrium.
        relaxation_time: −1/a in steps; inf if a ≥ 0, 0 if a = −inf.
    """

    rate: float
    source: float
    stationary: float
    relaxation_time: float


def fit_equilibrium(curve: np.ndarray) -> Equilibrium:
    """Least-squares fit of D_{k+1} = α D_k + β; a = log α, c = β a/(α − 1).

    α = eᵃ and β = (eᵃ − 1) c/a are exact for D' = a D + c over one step. A saturating curve
    E_∞ (1 − exp(−k/τ)) therefore gives −c/a = E_∞ and −1/a = τ. The difference quotient
    D_{k+1} − D_k = a D_k + c would estimate α − 1 instead of a, with the same stationary value but
    a relaxation time half a step too long.

    Sampling error of the regressor D_k attenuates α towards 0, and −1/a with it, by the ratio of
    its variance to that of the D_k. The bootstrap interval does not include this bias. Measured:
    with independent noise of standard deviation 0.5 at every step on E_∞ = 2, τ = 7, H = 50, the
    mean of −1/a is 3.6, 5.9 and 6.7 for 10, 50 and 200 episodes, and the mean τ of
    `fit_saturating` is 7.1, 7.0 and 7.0.

    Args:
        curve: (H,), H ≥ 3.

    Source: ordinary least squares of a first-order autoregression; Hamilton, Time Series Analysis
    (1994), chapter 8.

    >>> fit = fit_equilibrium(2.0 * (1 - np.exp(-np.arange(1, 31) / 7.0)))
    >>> fit.stationary, fit.relaxation_time
    (2.0, 7.0)
    """
    before, after = curve[:-1], curve[1:]
    centred = before - before.mean()
    if np.ptp(before) <= 1e3 * np.finfo(float).eps * np.abs(curve).max():
        return Equilibrium(math.nan, math.nan, math.nan, math.nan)
    alpha = float(after @ centred / (centred @ centred))
    beta = float(after.mean() - alpha * before.mean())
    if alpha <= 0:
        level = beta / (1 - alpha) if alpha > -1 else math.inf
        return Equilibrium(-math.inf, math.copysign(math.inf, level), level, 0.0)
    rate = math.log(alpha)
    source = beta * (rate / (alpha - 1) if alpha != 1 else 1.0)
    if rate >= 0:
        return Equilibrium(rate, source, math.inf, math.inf)
    return Equilibrium(rate, source, -source / rate, -1 / rate)


def horizon_growth(
    errors: np.ndarray,
    ceiling: np.ndarray | float,
    *,
    theta: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Growth metrics of the mean curve of recorded errors, with intervals over episodes.

    All statistics, including the fitting windows, are recomputed from the mean curve of each
    resample of episodes. The ceiling is treated as known: estimate it from many pairs. An infinite
    upper limit of the predictability horizon means that more than the fraction `bootstrap.tail` of
    the resamples (0.6 % for 8 episodes, 1.9 % for 32) do not reach it within H steps. If `value` is
    infinite too, only the lower limit is informative. An infinite saturation level, stationary
    value or relaxation time means that none is detected. Statistics that are undefined in some
    resamples (`Interval.undefined`) have wider intervals, as described in `episode_bootstrap`.

    Args:
        errors: (E, H), H ≥ 3, ≥ 0: squared or absolute errors, distances, divergences; 1 − SSIM.
        ceiling: error of unrelated episodes, a positive number or one per horizon (H,).
        theta: fraction of the ceiling that ends the predictability horizon.
        seed: seed of the resampling.
        resamples: as in `episode_bootstrap`.

    Returns:
        "saturation_level" and "saturation_time" (`fit_saturating`), "power_coefficient" and
        "power_exponent" (`fit_power`), "akaike_difference" (below 0 for saturation),
        "growth_rate", "predictability_horizon", "equilibrium_rate", "equilibrium_source",
        "stationary_value" and "relaxation_time" (`fit_equilibrium`); times in steps.

    Raises:
        ValueError: errors that are negative or not finite, fewer than three horizons; θ or the
            ceiling is not positive, or the ceiling has another shape; or as `episode_bootstrap`.

    >>> size = np.random.default_rng(0).uniform(1, 3, size=(40, 1))
    >>> errors = size * (1 - np.exp(-np.arange(1, 31) / 7.0))
    >>> growth = horizon_growth(errors, ceiling=2.0, theta=0.8, seed=0, resamples=200)
    >>> print(growth["saturation_level"], "and", growth["predictability_horizon"])
    2.073 [1.874, 2.272] and 11 [9, 14]
    """
    errors = check_array("errors", errors, "(E, H)")
    if (errors < 0).any():
        raise ValueError(f"errors: smallest {errors.min():.4g}; expected no negative number.")
    theta = check_finite_number("theta", theta)
    if not theta > 0:
        raise ValueError(f"theta={theta!r}: expected a positive fraction of the ceiling.")
    ceiling = _checked_ceiling(ceiling, errors.shape[1])

    def metrics(part: np.ndarray) -> np.ndarray:
        curve = part.mean(axis=0)
        horizon = predictability_horizon(curve, ceiling, theta=theta)
        found = dict.fromkeys(GROWTH_METRICS, math.nan) | {"predictability_horizon": horizon}
        if curve.any():  # otherwise there is no error whose growth could be estimated
            found |= _growth_of(curve, ceiling)
        return np.array([found[name] for name in GROWTH_METRICS])

    band = episode_bootstrap(metrics, errors, seed=seed, resamples=resamples)
    return {name: band.at(place) for place, name in enumerate(GROWTH_METRICS)}


def _growth_of(curve: np.ndarray, ceiling: np.ndarray | float) -> dict[str, float]:
    """All growth metrics except the predictability horizon."""
    saturating, power, settled = fit_saturating(curve), fit_power(curve), fit_equilibrium(curve)
    return {
        "saturation_level": saturating.level,
        "saturation_time": saturating.time,
        "power_coefficient": power.coefficient,
        "power_exponent": power.exponent,
        "akaike_difference": akaike_difference(saturating, power, curve),
        "growth_rate": growth_rate(curve, ceiling),
        "equilibrium_rate": settled.rate,
        "equilibrium_source": settled.source,
        "stationary_value": settled.stationary,
        "relaxation_time": settled.relaxation_time,
    }


def _steps_until(curve: np.ndarray, limit: np.ndarray) -> int:
    """Number of steps before the first one that exceeds the limit; H if none does."""
    above = curve > limit
    return int(above.argmax()) if above.any() else len(curve)


def _checked_ceiling(ceiling: np.ndarray | float, horizons: int) -> np.ndarray:
    if horizons < FEWEST_POINTS:
        raise ValueError(f"errors: H = {horizons}; expected at least {FEWEST_POINTS} horizons.")
    limit = check_array("ceiling", np.asarray(ceiling, dtype=float), "(…)")
    if limit.shape not in ((), (horizons,)):
        raise ValueError(
            f"ceiling {limit.shape}: expected a number or one per horizon {(horizons,)}."
        )
    if (limit <= 0).any():
        raise ValueError(f"ceiling: {limit.min():.4g}; expected positive numbers.")
    return limit
