"""Bootstrap intervals of statistics of recorded episodes, by resampling complete episodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sdewm.base.arrays import check_array
from sdewm.base.checks import check_count, check_finite_number

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A statistic with its interval.

    Attributes:
        value: the statistic of the recorded episodes; nan if it is undefined for them.
        low: lower limit.
        high: upper limit.
        undefined: fraction of the resamples for which the statistic is undefined (nan).
    """

    value: float
    low: float
    high: float
    undefined: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True, eq=False)
class Band:
    """An array of statistics with pointwise intervals.

    Attributes:
        value: statistics of the recorded episodes, of any shape.
        low: lower limits, the same shape.
        high: upper limits, the same shape.
        undefined: fractions of resamples with an undefined statistic, the same shape.
        level: nominal coverage of the intervals.
        episodes: number E of episodes.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    undefined: np.ndarray
    level: float
    episodes: int

    def at(self, *place: int) -> Interval:
        """The statistic at one index, with its interval."""
        parts = (self.value, self.low, self.high, self.undefined)
        return Interval(*(float(part[place]) for part in parts))


def episode_bootstrap(
    statistic: Callable[..., np.ndarray | float],
    *arrays: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Band:
    """Expanded percentile bootstrap of a statistic, with episodes as the independent units.

    Each of the B resamples draws E of the E episodes with replacement, with all their steps: steps
    of one episode are dependent, episodes are not. For the sorted statistics T_(0) ≤ … ≤ T_(B−1),
    the limits are T_(⌊αB'⌋) and T_(⌈(1−α)B'⌉), B' = B − 1. The tail α is that of `tail`. It is less
    than (1 − level)/2, because resamples of few episodes vary too little. There is no
    interpolation, so infinite values (a horizon that is never reached) are allowed. A resample
    whose statistic is nan counts as −∞ for the lower limit and as +∞ for the upper. A limit is
    therefore finite only if it would be so for any values of the undefined statistics. Intervals of
    an array are pointwise: at level 0.95, about one point in 20 of a curve lies outside.

    The coverage for few episodes is in figures/data/table_coverage.csv. At level 0.95 it is about
    94 % for normal and heavy-tailed means, but 90 % (E = 8) to 93 % (E = 32) for skewed ones.

    Args:
        statistic: function of arrays with any E that returns a number or an array of fixed shape.
        arrays: recorded arrays (E, …), such as the errors of one model, or those of two models on
            the same episodes for an interval of their difference.
        seed: seed of the resampling.
        resamples: number B of resamples.
        level: nominal coverage of the interval.

    Raises:
        ValueError: arrays with different E or with values that are not finite; a seed that is not a
            whole number of at least 0; fewer episodes than the least E with E^−E ≤ (1 − level)/2,
            for which a resample of one episode E times is rarer than this (4 for level 0.95); fewer
            than 2/(1 − level) resamples.

    Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3; for the
    tail, Hesterberg, What Teachers Should Know about the Bootstrap, The American Statistician 69
    (2015).

    >>> errors = np.random.default_rng(0).exponential(size=(100, 3))
    >>> band = episode_bootstrap(lambda e: e.mean(axis=0), errors, seed=0)
    >>> print(band.at(0))
    1.249 [1.027, 1.49]
    """
    level = check_finite_number("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: expected a number between 0 and 1.")
    least = math.ceil(2 / (1 - level) - 1e-6)
    resamples = check_count("resamples", resamples, minimum=least)
    seed = check_count("seed", seed, minimum=0)
    if not arrays:
        raise ValueError("arrays: none given; expected at least one array (E, …).")
    given = [check_array(f"arrays[{i}]", x, "(E, …)") for i, x in enumerate(arrays)]
    episodes = len(given[0])
    if any(len(x) != episodes for x in given):
        raise ValueError(f"arrays with {[len(x) for x in given]} episodes: expected equal numbers.")
    least = episodes_needed(level)
    if episodes < least:
        raise ValueError(
            f"arrays: {episodes} episodes; an interval of level {level:g} needs at least {least}."
        )
    alpha = tail(level, episodes)
    value = np.asarray(statistic(*given), dtype=float)
    draws = np.empty((resamples, *value.shape))
    generator = np.random.default_rng(seed)
    for draw in range(resamples):
        picks = generator.integers(episodes, size=episodes)
        draws[draw] = statistic(*(x[picks] for x in given))
    undefined = np.isnan(draws)
    low = np.sort(np.where(undefined, -np.inf, draws), axis=0)
    high = np.sort(np.where(undefined, np.inf, draws), axis=0)
    return Band(
        value,
        low[math.floor(alpha * (resamples - 1) + 1e-9)],
        high[math.ceil((1 - alpha) * (resamples - 1) - 1e-9)],
        undefined.mean(axis=0),
        level,
        episodes,
    )


def tail(level: float, episodes: int) -> float:
    """Probability α = Φ(−t √(E/(E − 1))) beyond each limit, t Student's quantile for E episodes.

    The mean of E resampled values has the variance (E − 1)/E s²/E, and a normal law: with this α
    its percentiles are about m ± t s/√E. The tail tends to (1 − level)/2 for many episodes.

    >>> [round(tail(0.95, episodes), 4) for episodes in (8, 32, 1000)]
    [0.0057, 0.0191, 0.0248]
    """
    from scipy.special import ndtr, stdtrit  # not every import of sdewm should pay for it

    quantile = float(stdtrit(episodes - 1, 0.5 + level / 2))
    return float(ndtr(-quantile * math.sqrt(episodes / (episodes - 1))))


def episodes_needed(level: float = LEVEL) -> int:
    """The smallest number E of episodes for an interval: E^−E ≤ (1 − level)/2.

    >>> [episodes_needed(level) for level in (0.9, 0.95, 0.99)]
    [3, 4, 4]
    """
    episodes = 2
    while episodes**-episodes > (1 - level) / 2:
        episodes += 1
    return episodes
