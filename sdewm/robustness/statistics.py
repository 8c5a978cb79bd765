"""Statistics of a few training runs: comparisons of arms, aggregates of scores, tails.

Decisions rest on paired t intervals with Holm's correction and on the exact sign-flip test. The
percentile bootstrap describes: with five runs its nominal .95 interval of a mean covers .79, while
Student's t covers .95 for normal scores and about .91 to .93 for skewed ones.

Sources: Agarwal et al. 2021 (arXiv 2108.13264; interquartile mean, stratified bootstrap,
probability of improvement, performance profiles), Holm 1979, Hill 1975, Wilson 1927.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from sdewm.base.checks import check_count, check_finite_number

Array = np.ndarray
EXACT_UP_TO, DRAWN = 20, 2**16  # differences whose 2ⁿ signs are all tried; signs drawn beyond


class Interval(NamedTuple):
    """An estimate with the ends of its interval."""

    estimate: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Paired differences between two arms.

    Attributes:
        difference: mean difference with its t interval.
        t_p: p-value of the paired t test.
        sign_p: p-value of the exact sign-flip test.
        pairs: number of pairs.
    """

    difference: Interval
    t_p: float
    sign_p: float
    pairs: int


def _real(name: str, values: object, expected: str) -> Array:
    """The numbers as an array; bool, complex and text are refused, as are uneven rows."""
    try:
        found = np.asarray(values)
    except ValueError:  # rows of several lengths
        raise ValueError(f"{name} has rows of several lengths; expected {expected}.") from None
    if found.dtype.kind not in "iuf":
        what = type(values).__name__ if found.dtype.kind == "O" else f"{found.dtype} numbers"
        raise ValueError(f"{name} is {what}; expected real numbers {expected}.")
    return found.astype(float)


def _sample(name: str, values: Sequence[float] | Array, least: int = 2) -> Array:
    found = _real(name, values, f"(n,) with n ≥ {least}")
    if found.ndim != 1 or len(found) < least:
        raise ValueError(f"{name} has shape {found.shape}; expected (n,) with n ≥ {least}.")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} holds {found[~np.isfinite(found)][0]}; expected finite numbers.")
    return found


def _scores(name: str, values: Sequence[Sequence[float]] | Array) -> Array:
    found = _real(name, values, "(runs, tasks)")
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"{name} has shape {found.shape}; expected (runs, tasks).")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} holds {found[~np.isfinite(found)][0]}; expected finite numbers.")
    return found


def _level(level: float) -> float:
    if not 0 < check_finite_number("level", level) < 1:
        raise ValueError(f"level={level!r}: expected a number between 0 and 1.")
    return level


def t_interval(values: Sequence[float] | Array, level: float = 0.95) -> Interval:
    """Mean with Student's interval, mean ± t_{n−1}·s/√n.

    >>> [round(end, 3) for end in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    sample = _sample("values", values)
    mean, error = float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(len(sample))
    reach = float(stats.t.ppf((1 + _level(level)) / 2, len(sample) - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """Two-sided p-value of the sign-flip test of symmetry about 0.

    By all 2ⁿ signs it is exact for symmetric differences, whatever their law, and never below
    2^{1−n}. For more than 20 differences 2¹⁶ signs are drawn, and the sample's own counts as one.

    >>> sign_flip_p([1.0, 2.0, 3.0])
    0.25
    """
    sample = _sample("differences", differences, 1)
    if len(sample) > EXACT_UP_TO:
        source, seen = np.random.default_rng(0), abs(float(sample.sum()))
        signs = 2.0 * source.integers(2, size=(DRAWN, len(sample))) - 1.0
        as_large = np.abs(signs @ sample) >= seen - 1e-12 * float(np.abs(sample).sum())
        return float((1 + as_large.sum()) / (1 + DRAWN))
    sums = np.zeros(1)
    for value in sample:  # all sums of ± values, by doubling
        sums = np.concatenate([sums - value, sums + value])
    seen = abs(float(sample.sum()))
    return float(np.mean(np.abs(sums) >= seen - 1e-12 * float(np.abs(sample).sum())))


def compare(
    ours: Sequence[float] | Array, theirs: Sequence[float] | Array, level: float = 0.95
) -> Comparison:
    """Paired comparison of two arms; entry i of both has the same seed.

    Differences of logarithms compare ratios. For many comparisons divide 1 − level by their number
    or use `holm` on the p-values.

    >>> found = compare([1.0, 2.0, 4.0], [0.0, 0.0, 1.0])
    >>> found.difference.estimate, found.sign_p, found.pairs
    (2.0, 0.25, 3)
    """
    a, b = _sample("ours", ours), _sample("theirs", theirs)
    if len(a) != len(b):
        raise ValueError(f"theirs has {len(b)} numbers, ours {len(a)}; expected pairs.")
    differences = a - b
    if differences.std() == 0:  # the t statistic would be 0/0 or infinite
        t_p = 1.0 if differences[0] == 0 else 0.0
    else:
        t_p = float(stats.ttest_1samp(differences, 0.0).pvalue)  # type: ignore[attr-defined]
    return Comparison(t_interval(differences, level), t_p, sign_flip_p(differences), len(a))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted by Holm's step-down method; each below α holds family-wise at α.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    if not isinstance(p_values, Mapping):
        raise ValueError(f"p_values={type(p_values).__name__}: expected names with their p-values.")
    for name, p in p_values.items():
        if not 0 <= check_finite_number(f"p_values[{name!r}]", p) <= 1:
            raise ValueError(f"p_values[{name!r}]={p!r}: expected a number from 0 to 1.")
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def interquartile_mean(scores: Sequence[Sequence[float]] | Array) -> float:
    """Mean of the middle half of all scores (runs, tasks) together, the 25 % trimmed mean.

    >>> interquartile_mean([[0.0], [1.0], [2.0], [30.0]])
    1.5
    """
    ordered = np.sort(_scores("scores", scores), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def bootstrap_interval(
    scores: Sequence[Sequence[float]] | Array,
    statistic: Callable[[Array], float] = interquartile_mean,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic of scores (runs, tasks), runs drawn anew in each task.

    A description: with fewer than 16 runs it covers less than its level.
    """
    table = _scores("scores", scores)
    source = np.random.default_rng(check_count("seed", seed, minimum=0))
    if not callable(statistic) or np.ndim(statistic(table)) != 0:
        raise ValueError(f"statistic={statistic!r}: expected a function (runs, tasks) -> number.")
    runs, tasks = table.shape
    found = [
        statistic(np.take_along_axis(table, source.integers(runs, size=(runs, tasks)), 0))
        for _ in range(check_count("draws", draws))
    ]
    low, high = np.quantile(found, [(1 - _level(level)) / 2, (1 + level) / 2])
    return Interval(float(statistic(table)), float(low), float(high))


def probability_of_improvement(
    ours: Sequence[Sequence[float]] | Array, theirs: Sequence[Sequence[float]] | Array
) -> float:
    """Chance that a run of ours beats one of theirs, ties counted half, averaged over tasks.

    >>> probability_of_improvement([[1.0], [3.0]], [[0.0], [2.0]])
    0.75
    """
    a, b = _scores("ours", ours), _scores("theirs", theirs)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"theirs has {b.shape[1]} tasks, ours {a.shape[1]}; expected as many.")
    gaps = np.sign(a[:, None] - b[None])  # (runs of ours, runs of theirs, tasks)
    return float(((1 + gaps) / 2).mean())


def performance_profile(
    scores: Sequence[Sequence[float]] | Array, thresholds: Sequence[float] | Array
) -> Array:
    """Share of all scores above each threshold: (K,).

    >>> performance_profile([[0.2], [0.6]], [0.0, 0.5, 1.0])
    array([1. , 0.5, 0. ])
    """
    table = _scores("scores", scores)
    return np.array([(table > each).mean() for each in _sample("thresholds", thresholds, 1)])


def levene_p(groups: Sequence[Sequence[float]]) -> float:
    """p-value of equal variances of the groups, by Levene's test with medians (Brown–Forsythe).

    Both values of a group of two are equally far from their median: such groups say nothing.
    """
    if not isinstance(groups, Sequence) or isinstance(groups, str):
        raise ValueError(f"groups={type(groups).__name__}: expected samples (n,) with n ≥ 3.")
    samples = [_sample(f"groups[{i}]", group, 3) for i, group in enumerate(groups)]
    if all(np.ptp(sample) == 0 for sample in samples):
        raise ValueError("groups: no value differs from the others of its group.")
    if len(samples) < 2:
        raise ValueError(f"groups has {len(samples)} groups; expected at least 2.")
    return float(stats.levene(*samples, center="median").pvalue)


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """A share with Wilson's interval, which is right for shares near 0 and 1.

    >>> [round(end, 3) for end in wilson_interval(0, 10)]
    [0.0, 0.0, 0.278]
    """
    trials = check_count("trials", trials)
    successes = check_count("successes", successes, minimum=0)
    if successes > trials:
        raise ValueError(f"successes={successes}: expected at most trials={trials}.")
    found = stats.binomtest(successes, trials).proportion_ci(_level(level), method="wilson")
    return Interval(successes / trials, float(found.low), float(found.high))


def hill_index(values: Sequence[float] | Array, largest: int | None = None) -> tuple[float, float]:
    """Hill's tail index α of |values| from the k largest, with its standard error α/√k.

    1/α = mean of ln(X_i / X_{k+1}) over the k largest X_1 ≥ … ≥ X_k. A finite variance needs α > 2.

    Args:
        values: the sample.
        largest: k; None: ⌊√n⌋.

    >>> pareto = (np.arange(1, 10001) / 10001) ** (-1 / 3)  # P(X > x) = x⁻³
    >>> round(hill_index(pareto, 500)[0], 1)
    3.0
    """
    sample = np.sort(np.abs(_sample("values", values, 4)))[::-1]
    count = math.isqrt(len(sample)) if largest is None else check_count("largest", largest)
    if count >= len(sample):
        raise ValueError(f"largest={count}: expected fewer than the {len(sample)} values.")
    if sample[count] == 0:
        raise ValueError(f"values: only {int((sample > 0).sum())} are not 0; expected > {count}.")
    mean = float((np.log(sample[:count]) - np.log(sample[count])).mean())
    alpha = math.inf if mean == 0 else 1 / mean
    return alpha, alpha / math.sqrt(count)
