"""Empirical order of the remainder in the size of the error (acceptance rule c)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdewm.base.stats import Estimate
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict

_RESAMPLES = 2000
_RELATIVE_ERROR = 0.10  # largest relative standard error of a remainder used for a slope
_ROUNDING_FACTOR = 1e3  # smallest remainder used for a slope, in rounding errors of the loss
_FEW = 100  # batches or groups below which the interval is Student's: the bootstrap is too narrow
ORDER_BAND = 0.3  # around a whole order


@dataclass(frozen=True)
class RemainderOrder:
    """Slope of log|remainder| against log ε over the smallest sizes.

    Attributes:
        slope: least-squares slope over the three smallest sizes; nan if it was not measured.
        interval: for enumeration, the range of the slopes between neighbouring sizes; for Monte
            Carlo, a 95 % interval over batches or groups of paths: by the bootstrap from 100 of
            them on, below by Student's t of the slope linearised in the means.
        expected: the claimed order (3; in the even case 4).
        verdict: verdict on "the remainder is O(ε^expected)": holds if the interval lies above
            expected − 0.3, fails if it lies below, else undecided.
    """

    slope: float
    interval: tuple[float, float]
    expected: int
    verdict: Verdict


def remainder_order(
    epsilons: Sequence[float],
    remainders: Sequence[Estimate],
    replicates: np.ndarray | None,
    *,
    expected: int,
    scale: float,
    change: float,
    rounding: float,
    loss_rounding: float = 0.0,
    by_group: bool = False,
) -> RemainderOrder:
    """Order of the remainder, undecided if rounding or sampling errors are too large.

    It is undecided, too, if the remainder changes its sign: |remainder| then passes through 0, and
    its slope says nothing of an order.

    Groups of paths, such as episodes, may have remainders of the same order with very different
    constants, so that the mean over groups is imprecise. `by_group` therefore averages the slopes
    of the single groups, with a 95 % interval by Student's t.

    Args:
        epsilons: decreasing sizes.
        remainders: the remainder at each size.
        replicates: batch means `(K, E)` of the remainders, or None if the remainders are exact.
        expected: the claimed order.
        scale: size of the loss, |c0| + |c1| + |c2|.
        change: size of what the error changes at ε = 1 to second order, |c1| + |c2|.
        rounding: machine epsilon of the dtype.
        loss_rounding: rounding error of the loss, where it is above rounding · scale because larger
            numbers cancel.
        by_group: whether the replicates are means over groups, each of which has a slope.

    >>> exact = [Estimate(2 * e**3, 0.0) for e in (0.2, 0.1, 0.05)]
    >>> result = remainder_order(
    ...     (0.2, 0.1, 0.05), exact, None, expected=3, scale=1.0, change=1.0, rounding=2e-16
    ... )
    >>> round(result.slope, 6), result.verdict.outcome
    (3.0, 'holds')
    """
    floor = _ROUNDING_FACTOR * max(rounding * scale, loss_rounding)
    nothing = (math.nan, math.nan)
    values = np.array([remainder.value for remainder in remainders])
    if np.all(np.abs(values) <= floor) and epsilons[0] ** expected * change > 1e6 * floor:
        reason = f"the remainder is zero to rounding (below {floor:.1g}) up to ε = {epsilons[0]:g}"
        return RemainderOrder(math.nan, nothing, expected, Verdict(HOLDS, reason))
    tail = slice(-3, None)
    if np.any(np.abs(values[tail]) <= floor):
        reason = (
            f"a remainder is below {_ROUNDING_FACTOR:g} rounding errors of the loss ({floor:.1g}); "
            "take larger ε"
        )
        return RemainderOrder(math.nan, nothing, expected, Verdict(UNDECIDED, reason))
    if _changes_sign(values[tail]):
        reason = "the remainder changes its sign between the sizes; take others"
        return RemainderOrder(math.nan, nothing, expected, Verdict(UNDECIDED, reason))
    logs = np.log(np.asarray(epsilons, dtype=float)[tail])
    if replicates is None:
        pairwise = np.diff(np.log(np.abs(values[tail]))) / np.diff(logs)
        interval = (float(pairwise.min()), float(pairwise.max()))
    elif by_group:
        if not bool((np.abs(replicates[:, tail]) > floor).all()):
            reason = f"a group's remainder is below {floor:.1g}; take larger ε"
            return RemainderOrder(math.nan, nothing, expected, Verdict(UNDECIDED, reason))
        if _changes_sign(replicates[:, tail]):
            reason = "a group's remainder changes its sign between the sizes; take others"
            return RemainderOrder(math.nan, nothing, expected, Verdict(UNDECIDED, reason))
        interval = _students_interval(_slope(logs, np.log(np.abs(replicates[:, tail]))))
    else:
        relative = max(r.standard_error / abs(r.value) for r in remainders[tail])
        if not relative < _RELATIVE_ERROR:
            reason = (
                f"a remainder has relative standard error {relative:.2g} "
                f"(allowed {_RELATIVE_ERROR}); take more paths"
            )
            return RemainderOrder(math.nan, nothing, expected, Verdict(UNDECIDED, reason))
        if len(replicates) < _FEW:
            interval = _students_interval(_linearised_slopes(logs, replicates[:, tail]))
        else:
            interval = _bootstrap_interval(logs, replicates[:, tail])
    slope = float(_slope(logs, np.log(np.abs(values[tail]))))
    if by_group and replicates is not None:
        slope = 0.5 * (interval[0] + interval[1])
    text = f"slope {slope:.3f} in [{interval[0]:.3f}, {interval[1]:.3f}], claimed order {expected}"
    outcome = order_outcome(interval, expected, at_least=True)
    return RemainderOrder(slope, interval, expected, Verdict(outcome, text))


def order_outcome(interval: tuple[float, float], expected: float, *, at_least: bool = False) -> str:
    """Whether a slope with this interval is the order `expected` ± 0.3.

    "holds" if the interval lies inside the band, "fails" if it lies outside, else "undecided",
    also for nan. With `at_least` the band has no upper end: any higher order holds too.

    >>> [order_outcome(interval, 3) for interval in ((2.9, 3.1), (2.5, 3.1), (1.9, 2.1))]
    ['holds', 'undecided', 'fails']
    """
    low, high = interval
    least, most = expected - ORDER_BAND, math.inf if at_least else expected + ORDER_BAND
    if least <= low and high <= most:
        return HOLDS
    return FAILS if high < least or low > most else UNDECIDED


def _slope(logs: np.ndarray, values: np.ndarray) -> np.ndarray:
    centred = logs - logs.mean()
    return values @ centred / (centred @ centred)


def _changes_sign(remainders: np.ndarray) -> bool:
    """Whether remainders `(…, E)` of one row have both signs."""
    return bool((np.sign(remainders) != np.sign(remainders[..., :1])).any())


def _linearised_slopes(logs: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """Slopes `(K,)` whose mean is that of the means, and whose spread is that of its error.

    The logarithms of the means are linearised in each replicate.
    """
    means = replicates.mean(axis=0)
    return _slope(logs, np.log(np.abs(means)) + (replicates - means) / means)


def _students_interval(slopes: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean over independent units."""
    from scipy.special import stdtrit  # not every import of sdewm should pay for it

    half = stdtrit(len(slopes) - 1, 0.975) * slopes.std(ddof=1) / math.sqrt(len(slopes))
    return float(slopes.mean() - half), float(slopes.mean() + half)


def _bootstrap_interval(logs: np.ndarray, replicates: np.ndarray) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    picks = generator.integers(len(replicates), size=(_RESAMPLES, len(replicates)))
    means = replicates[picks].mean(axis=1)  # (resamples, E)
    low, high = np.quantile(_slope(logs, np.log(np.abs(means))), (0.025, 0.975))
    return float(low), float(high)
