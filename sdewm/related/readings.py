"""What intervals say: one sentence of effects over weights, and rank correlations over runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

from sdewm.robustness.statistics import Interval

NORMAL = 1.959964  # quantile of a 95 % interval


def reading(effects: Mapping[str, Interval], holding: Collection[str], word: str = "at") -> str:
    """Which treatments raise or lower a value, by whether their intervals exclude zero.

    Args:
        effects: differences to no treatment, by the name of the treatment.
        holding: the treatments whose difference holds among all that were looked at; of the others
            the sentence says "perhaps".
        word: stands before the names.

    >>> up, none = Interval(1.0, 0.5, 1.5), Interval(0.1, -0.2, 0.4)
    >>> reading({"0.01": none, "0.1": up}, ["0.1"])
    'raised at 0.1; no measurable change at 0.01'
    >>> reading({"0.01": none, "0.1": up}, [])
    'perhaps raised at 0.1; no measurable change at 0.01'
    """
    found: dict[str, list[str]] = {}
    for name, one in effects.items():
        way = "raised" if one.low > 0 else "lowered" if one.high < 0 else ""
        sure = way if name in holding else f"perhaps {way}"
        found.setdefault(sure if way else "no measurable change", []).append(name)
    order = ("raised", "lowered", "perhaps raised", "perhaps lowered", "no measurable change")
    found = {text: found.get(text, []) for text in order}
    return "; ".join(f"{text} {word} {_joined(names)}" for text, names in found.items() if names)


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> Interval:
    """Spearman's ρ of pairs with its 95 % interval.

    tanh(arctanh ρ ± 1.96 [(1 + ρ²/2)/(n − 3)]^½), by Bonett and Wright (2000).

    Raises:
        ValueError: fewer than five pairs, or one side does not vary.

    >>> rank_correlation([1, 2, 3, 4, 5], [1, 8, 27, 64, 125]).estimate
    1.0
    """
    if len(x) != len(y) or len(x) < 5:
        raise ValueError(f"x has {len(x)} values, y {len(y)}; expected at least five pairs.")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ValueError("x or y does not vary: it has no rank correlation.")
    rho = float(spearmanr(x, y).statistic)  # type: ignore[attr-defined]
    if abs(rho) > 1 - 1e-12:
        rho = math.copysign(1.0, rho)
        return Interval(rho, rho, rho)
    reach = NORMAL * math.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    return Interval(rho, *(math.tanh(math.atanh(rho) + sign * reach) for sign in (-1, 1)))


def within_groups(values: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Values less the mean of their group, so that differences between groups do not count.

    >>> within_groups([1.0, 3.0, 10.0, 14.0], ["a", "a", "b", "b"])
    [-1.0, 1.0, -2.0, 2.0]
    """
    means = {
        group: np.mean([v for v, own in zip(values, groups, strict=True) if own == group])
        for group in set(groups)
    }
    return [float(v - means[group]) for v, group in zip(values, groups, strict=True)]
