"""Robustness curves: returns against the strength of a perturbation, and what they amount to.

Of one family of perturbations with strengths 0 = s_0 < … < s_n and mean returns R(s):

    retention            R(s)/R(0)
    area                 (1/s_n) ∫ R(s)/R(0) ds, by the trapezoidal rule; 1: nothing is lost
    tolerated strength   the largest s up to which R stays above a target, between strengths by
                         linear interpolation; 0 if R(0) is below it (robust satisficing, arXiv
                         2408.09157)

Intervals are by the bootstrap of episodes, drawn anew for all strengths together, because these are
paired; a description, not a test. `sdewm evaluate --perturb` prints the areas and the worst family.
Tolerated strengths need a target, and are for users of the Python API: take the rows of
`sdewm.robustness.evaluation.perturbed_returns`, or those of one evaluation in evaluation.jsonl:

    [curve] = robustness_curves(rows)
    curve.tolerated(target=500.0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdewm.base.checks import check_count, check_finite_number
from sdewm.robustness.evaluation import FLOOR, NONE
from sdewm.robustness.statistics import Interval

Array = np.ndarray
DRAWS, LEVEL = 2000, 0.95


@dataclass(frozen=True)
class RobustnessCurve:
    """Returns of one agent under one family of perturbations.

    Attributes:
        family: name of the perturbation.
        strengths: rising, from 0: (S,).
        returns: of the same episodes at each strength: (S, E).
    """

    family: str
    strengths: Array
    returns: Array

    def retention(self) -> Array:
        """R(s)/R(0): (S,)."""
        return _retention(self.returns.mean(1))

    def area(self, seed: int = 0) -> Interval:
        """The area under the retention, with its interval."""
        return self._interval(lambda means: area(self.strengths, means), seed)

    def tolerated(self, target: float, seed: int = 0) -> Interval:
        """The tolerated strength at a target return, with its interval."""
        check_finite_number("target", target)
        return self._interval(lambda means: tolerated(self.strengths, means, target), seed)

    def _interval(self, statistic: Any, seed: int) -> Interval:
        source, count = np.random.default_rng(seed), self.returns.shape[1]
        drawn = [
            statistic(self.returns[:, source.integers(count, size=count)].mean(1))
            for _ in range(DRAWS)
        ]
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(float(statistic(self.returns.mean(1))), float(low), float(high))


def _retention(means: Array) -> Array:
    if not means[0] > 0:
        raise ValueError(
            f"returns: the unperturbed mean is {means[0]:g}, of all episodes or of a bootstrap "
            "draw; expected above 0."
        )
    return means / means[0]


def area(strengths: Array, means: Array) -> float:
    """The area under the retention over the range of strengths.

    >>> area(np.array([0.0, 1.0, 2.0]), np.array([100.0, 50.0, 0.0]))
    0.5
    """
    width = strengths[-1] - strengths[0]
    return float(np.trapezoid(_retention(means), strengths) / width)


def tolerated(strengths: Array, means: Array, target: float) -> float:
    """The largest strength up to which the mean return is at least the target.

    It is 0 as well if the unperturbed mean is below the target.

    >>> tolerated(np.array([0.0, 1.0, 2.0]), np.array([100.0, 50.0, 60.0]), 75.0)
    0.5
    >>> tolerated(np.array([0.0, 1.0]), np.array([70.0, 50.0]), 75.0)
    0.0
    """
    if means[0] < target:
        return 0.0
    for k in range(1, len(means)):
        if means[k] < target:
            share = (means[k - 1] - target) / (means[k - 1] - means[k])
            return float(strengths[k - 1] + share * (strengths[k] - strengths[k - 1]))
    return float(strengths[-1])


def robustness_curves(rows: Sequence[Mapping[str, Any]]) -> list[RobustnessCurve]:
    """The curves of an evaluation, one for each family of positive strengths.

    Args:
        rows: of `sdewm.robustness.evaluation.perturbed_returns`, or of evaluation.jsonl.

    Raises:
        ValueError: no unperturbed row, other numbers of episodes, or rows of two evaluations: one
            perturbation with different returns.
    """
    by_label: dict[str, Array] = {}
    for row in rows:
        label, returns = row["perturbation"], np.asarray(row["returns"], float)
        if not np.array_equal(by_label.setdefault(label, returns), returns):
            raise ValueError(
                f"rows: {label!r} is there twice, with different returns; expected rows of one "
                "evaluation."
            )
    if NONE not in by_label:
        raise ValueError(f"rows: expected one of perturbation {NONE!r}.")
    families: dict[str, dict[float, Array]] = {}
    for label, returns in by_label.items():
        if label in (NONE, FLOOR):
            continue
        check_count("episodes", len(returns))
        if len(returns) != len(by_label[NONE]):
            raise ValueError(
                f"rows: {label} has {len(returns)} episodes, {NONE!r} {len(by_label[NONE])}; "
                "expected as many."
            )
        family, _, strength = label.partition(":")
        if float(strength) > 0:
            families.setdefault(family, {})[float(strength)] = returns
    return [
        RobustnessCurve(
            family,
            np.array([0.0, *sorted(found)]),
            np.stack([by_label[NONE], *(found[s] for s in sorted(found))]),
        )
        for family, found in families.items()
    ]


def worst(curves: Sequence[RobustnessCurve]) -> RobustnessCurve:
    """The family with the least area."""
    if not curves:
        raise ValueError("curves: expected at least one family.")
    return min(curves, key=lambda curve: area(curve.strengths, curve.returns.mean(1)))
