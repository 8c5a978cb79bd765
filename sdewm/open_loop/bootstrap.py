"""Intervals of anything computed from recorded episodes, by resampling whole episodes."""

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
    """A number with its interval.

    Attributes:
        value: of the recorded episodes; nan where it is not defined for them.
        low: lower end.
        high: upper end.
        undefined: share of the resamples for which the number is not defined (nan).
    """

    value: float
    low: float
    high: float
    undefined: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True, eq=False)
class Band:
    """An array of numbers, each with its own (pointwise) interval.

    Attributes:
        value: of the recorded episodes, any shape.
        low: lower ends, the same shape.
        high: upper ends.
        undefined: shares of undefined resamples.
        level: of the intervals.
        episodes: E.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    undefined: np.ndarray
    level: float
    episodes: int

    def at(self, *place: int) -> Interval:
        """One number with its interval."""
        parts = (self.value, self.low, self.high, self.undefined)
        return Interval(*(float(part[place]) for part in parts))


def episode_bootstrap(
    statistic: Callable[..., np.ndarray | float],
    *arrays: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Band:
    """Percentile bootstrap of a statistic, with episodes as units.

    The B resamples draw E of the E episodes with replacement, all their steps with them: steps of
    one episode depend on each other, episodes do not. Of the sorted statistics T_(0) ≤ … ≤
    T_(B−1) the ends are T_(⌊αB'⌋) and T_(⌈(1−α)B'⌉), α = (1 − level)/2, B' = B − 1. No value
    between two is made up, so infinite ones (a horizon that is never reached) are allowed. A
    resample whose statistic is nan counts as −∞ for the lower end and as +∞ for the upper: an end
    is finite only if it would be whatever the undefined values were. The interval of an array is
    pointwise: with level 0.95, about one point in 20 of a curve lies outside.

    The interval is too narrow for few episodes. Of the mean of normal numbers one of level 0.95
    covers it in 80 % (E = 4), 90 % (E = 10), 93 % (E = 20), 94 % (E = 50) of the cases (measured).

    Args:
        statistic: of arrays with any E, gives a number or an array of always the same shape.
        arrays: recorded, (E, …) each: `errors` of one model, or of two on the same episodes for
            an interval of their difference.
        seed: of the resampling.
        resamples: B.
        level: of the interval.

    Raises:
        ValueError: arrays with different E or with numbers that are not finite; fewer episodes
            than the least E with E^−E ≤ α, so that the resample of one episode E times is rarer
            than what an end leaves out (4 for level 0.95); fewer than 1/α resamples.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.

    >>> errors = np.random.default_rng(0).exponential(size=(100, 3))
    >>> band = episode_bootstrap(lambda e: e.mean(axis=0), errors, seed=0)
    >>> print(band.at(0))
    1.249 [1.03, 1.486]
    """
    level = check_finite_number("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: expected a number between 0 and 1.")
    tail = (1 - level) / 2
    resamples = check_count("resamples", resamples, minimum=math.ceil(1 / tail - 1e-6))
    if not arrays:
        raise ValueError("arrays: none given; expected recorded arrays (E, …).")
    given = [check_array(f"arrays[{i}]", x, "(E, …)") for i, x in enumerate(arrays)]
    episodes = len(given[0])
    if any(len(x) != episodes for x in given):
        raise ValueError(f"arrays with {[len(x) for x in given]} episodes: expected one number E.")
    least = episodes_needed(level)
    if episodes < least:
        raise ValueError(
            f"arrays: {episodes} episodes; an interval of level {level:g} needs at least {least}."
        )
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
        low[math.floor(tail * (resamples - 1) + 1e-9)],
        high[math.ceil((1 - tail) * (resamples - 1) - 1e-9)],
        undefined.mean(axis=0),
        level,
        episodes,
    )


def episodes_needed(level: float = LEVEL) -> int:
    """The least number E of episodes for an interval: E^−E ≤ (1 − level)/2.

    >>> [episodes_needed(level) for level in (0.9, 0.95, 0.99)]
    [3, 4, 4]
    """
    episodes = 2
    while episodes**-episodes > (1 - level) / 2:
        episodes += 1
    return episodes
