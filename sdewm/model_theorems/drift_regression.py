"""The drift of an encoder's error as a function of the state, by cross-fitted regression (S28)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdewm.base.ridge import RIDGE, cross_fitted_states
from sdewm.base.stats import Estimate
from sdewm.model_theorems.episode_statistics import mean_estimate, ratio
from sdewm.model_theorems.error_statistics import ErrorStatistics

FOLDS = 4


@dataclass(frozen=True, eq=False)
class DriftRegression:
    """The part of the drift that is a linear function of the state.

    Attributes:
        drift: b̂ at each step (E, T, Z), from a regression that was not fitted to the episode.
        explained: unbiased mean of |b|² − |b − b̂|² over episodes and steps; negative where b̂
            predicts worse than zero drift.
        share: the fraction explained/mean |b|²; nan with one draw, or where mean |b|² is not
            positive.
        constant_share: that fraction for the mean drift of the other episodes instead of b̂.
    """

    drift: np.ndarray
    explained: Estimate
    share: Estimate
    constant_share: Estimate


def regress_drift(
    error: ErrorStatistics,
    states: np.ndarray,
    *,
    folds: int = FOLDS,
    ridge: float = RIDGE,
    seed: int = 0,
) -> DriftRegression:
    """Ridge regression of the shift Δm on the state, cross-fitted over episodes.

    b̂(x) = x W + c. The shift of an episode is independent of the data to which b̂ was fitted, and
    its mean over draws is an unbiased estimate of b. Hence 2 b̂·mean Δm − |b̂|² is an unbiased
    estimate of |b|² − |b − b̂|², in which the sampling noise of b̂ counts against it.

    Args:
        error: the measured error, with any number of draws.
        states: (E, T, D), the states at which it was measured: `clean_paths(...).predicted`.
        folds: number of folds, from 2 to E.
        ridge: as in `fit_state_probe`.
        seed: seed of the assignment of episodes to folds.

    Raises:
        ValueError: (E, T) differs from that of the error, folds are out of range, or states are
            not finite.

    >>> generator = np.random.default_rng(0)
    >>> x = generator.normal(size=(20, 10, 2))
    >>> shift = 0.5 * x[:, None, :, :1] + generator.normal(size=(20, 8, 10, 1))
    >>> one = np.ones((20, 10, 1))
    >>> found = regress_drift(ErrorStatistics(shift, one[:, None].repeat(8, 1), one), x)
    >>> found.share.deviation_from(1.0) < 4, abs(found.constant_share.value) < 0.1
    (True, True)
    """
    mean = error.shift.mean(1)  # (E, T, Z)
    how = {"folds": folds, "ridge": ridge, "seed": seed}
    drift = cross_fitted_states(states, mean, states, **how)
    nothing = np.zeros((*mean.shape[:2], 1))  # an uninformative regressor: only c is fitted
    constant = cross_fitted_states(nothing, mean, nothing, **how)
    explained, of_constant = (_explained(fitted, mean) for fitted in (drift, constant))
    nan = Estimate(float("nan"), float("nan"))
    share = constant_share = nan
    if error.draws > 1:
        squares = error.drift_squares.mean(1)
        share, constant_share = ratio(explained, squares), ratio(of_constant, squares)
    return DriftRegression(drift, mean_estimate(explained), share, constant_share)


def _explained(fitted: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return (2 * fitted * mean - fitted**2).sum(-1).mean(1)
