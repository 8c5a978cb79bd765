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
    """How much of the drift the state tells.

    Attributes:
        drift: b̂ at each step (E, T, Z), by a regression that never saw the episode.
        explained: mean of |b|² − |b − b̂|² over episodes and steps, without bias; below 0 where b̂
            is worse than no drift at all.
        share: explained over mean |b|²; nan with one draw, or where |b|² is not positive.
        constant_share: the same for the mean of the other episodes in place of b̂.
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
    """Ridge regression of the shift Δm on the state, each episode by the others.

    b̂(x) = x W + c. As the shift of an episode does not depend on what b̂ was fitted to, and its mean
    over draws is b without bias, 2 b̂·mean Δm − |b̂|² estimates |b|² − |b − b̂|² without bias, noise
    of b̂ counted against it.

    Args:
        error: of any number of draws.
        states: (E, T, D), those at which it was measured: `clean_paths(...).predicted`.
        folds: from 2 to E.
        ridge: as in `fit_state_probe`.
        seed: of the dealing of episodes into folds.

    Raises:
        ValueError: another (E, T) than the error's, folds out of range, numbers that are not
            finite.

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
    nothing = np.zeros((*mean.shape[:2], 1))  # tells nothing: what is left is the mean
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
