"""Means, quantiles and ratios over time, with episodes as the independent units.

Paths and copies of one episode share its initial state and its actions, so they are not
independent. All functions take values (E, …, N + 1) of E episodes with equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sdewm.base.stats import Estimate, kurtosis, mean_and_error
from sdewm.theory.curve import Curve

Times = np.ndarray | Sequence[float]


def mean_estimate(values: np.ndarray) -> Estimate:
    """Mean of values (E,), one per episode, with its standard error and the values' kurtosis."""
    mean, error = mean_and_error(values)
    return Estimate(float(mean), float(error), float(kurtosis(values)), len(values))


def mean_curve(times: Times, values: np.ndarray) -> Curve:
    """Mean over episodes of values (E, N + 1), as a Curve."""
    return Curve(np.asarray(times), *mean_and_error(values))


def pooled_quantile(times: Times, values: np.ndarray, level: float) -> Curve:
    """The quantile of the pooled values (E, P, N + 1), with Woodruff's standard error.

    It is the ⌈nq⌉-th smallest of the n = E·P values. The fraction of values up to it is a mean over
    episodes with a standard error s. The standard error of the quantile is half the distance of the
    order statistics at q ± s (Woodruff 1952), or nan where these lie outside the sample.

    >>> values = np.arange(8.0).reshape(2, 4, 1)
    >>> pooled_quantile([0.0], values, 0.5).values
    array([3.])
    """
    count = values.shape[0] * values.shape[1]
    ordered = np.sort(values.reshape(count, -1), axis=0)
    found = ordered[math.ceil(count * level - 1e-9) - 1]  # (N + 1,)
    shares = (values <= found).mean(1)  # (E, N + 1)
    spread = mean_and_error(shares)[1]
    # Rounding must not push a whole n q to the next order statistic.
    low, high = (np.ceil(count * (level + s * spread) - 1e-9).astype(int) - 1 for s in (-1, 1))
    inside = (low >= 0) & (high < count)
    columns = np.arange(len(found))
    ends = [ordered[np.clip(place, 0, count - 1), columns] for place in (low, high)]
    errors = np.where(inside, 0.5 * (ends[1] - ends[0]), math.nan)
    return Curve(np.asarray(times), found, errors)


def ratio_curve(times: Times, above: np.ndarray, below: np.ndarray) -> Curve:
    """Σ above / Σ below over episodes, for values (E, N + 1); 1 where both are zero.

    With R the ratio and b̄ the mean of `below`, the standard error is that of the mean of
    above − R·below, divided by b̄ (delta method).

    >>> ratio_curve([0.0], np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]]))
    Curve(times=array([0.]), values=array([0.5]), standard_errors=array([0.]))
    """
    means = above.mean(0), below.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(means[0] == means[1], 1.0, means[0] / means[1])
        errors = mean_and_error(above - ratio * below)[1] / means[1]
    return Curve(np.asarray(times), ratio, np.where(means[1] > 0, errors, 0.0))


def ratio(above: np.ndarray, below: np.ndarray) -> Estimate:
    """Σ above / Σ below over episodes (E,), (E,), with its standard error by the delta method."""
    total = below.mean()
    if not total > 0:
        return Estimate(math.nan, math.nan)
    value = above.mean() / total
    residual = (above - value * below) / total
    return Estimate(float(value), float(residual.std(ddof=1) / math.sqrt(len(residual))))
