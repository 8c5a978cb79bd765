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


def rank_correlation(
    x: Sequence[float], y: Sequence[float], groups: Sequence[str] | None = None
) -> Interval:
    """Spearman's ρ of pairs with its 95 % interval, over all of them or within groups.

    tanh(arctanh ρ ± 1.96 [(1 + ρ²/2)/(n − g − 2)]^½), by Bonett and Wright (2000), for n pairs in
    g groups. With several groups, x and y are taken less their means in the group, so that
    differences between groups do not count; these means are the g − 1 numbers by which n is less
    than it is with one group, as for a partial correlation (Fisher 1924).

    Args:
        x: values.
        y: the values they are paired with.
        groups: name of the group of each pair; None: all are one group.

    Raises:
        ValueError: sides of different lengths, fewer than four pairs more than groups, or one side
            does not vary.

    >>> rank_correlation([1, 2, 3, 4, 5], [1, 8, 27, 64, 125]).estimate
    1.0
    >>> x, y, groups = [1, 2, 3, 11, 12, 13], [3, 1, 2, 13, 11, 12], ["a"] * 3 + ["b"] * 3
    >>> [round(rank_correlation(x, y, own).estimate, 2) for own in (None, groups)]
    [0.66, -0.5]
    """
    names = ["all"] * len(x) if groups is None else list(groups)
    if not len(x) == len(y) == len(names):
        raise ValueError(
            f"x has {len(x)} values, y {len(y)}, groups {len(names)}; expected equally many."
        )
    extra = len({*names}) - 1
    if len(x) < 5 + extra:
        raise ValueError(
            f"x has {len(x)} values in {extra + 1} groups; expected at least {5 + extra} pairs."
        )
    sides = [_within(side, names) for side in (x, y)]
    if any(np.ptp(side) == 0 for side in sides):
        raise ValueError("x or y does not vary: it has no rank correlation.")
    rho = float(spearmanr(*sides).statistic)  # type: ignore[attr-defined]
    if abs(rho) > 1 - 1e-12:
        rho = math.copysign(1.0, rho)
        return Interval(rho, rho, rho)
    reach = NORMAL * math.sqrt((1 + rho**2 / 2) / (len(x) - 3 - extra))
    return Interval(rho, *(math.tanh(math.atanh(rho) + sign * reach) for sign in (-1, 1)))


def _within(values: Sequence[float], groups: Sequence[str]) -> np.ndarray:
    """Values less the mean of their group."""
    found, names = np.asarray(values, dtype=float), np.asarray(groups)
    return found - sum((names == group) * found[names == group].mean() for group in {*groups})
