"""The trend of an end point over a setting that doubles from arm to arm, such as the batch size.

A trend has two sides: it says whether the setting matters, not whether one arm gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sdewm.study.declaration import Study
from sdewm.study.rows import arms_of


def arms_over(study: Study, setting: str) -> dict[str, dict[float, str]]:
    """The arms by the value of a setting, grouped by their other settings, in words.

    Raises:
        ValueError: an arm does not have the setting, or no group has two values of it.
    """
    groups: dict[str, dict[float, str]] = {}
    for arm, settings in study.arms.items():
        if setting not in settings:
            raise ValueError(f"arm={arm!r} of the study {study.name!r} has no {setting!r}.")
        others = {name: value for name, value in settings.items() if name != setting}
        label = ", ".join(f"{name}={value}" for name, value in others.items()) or "no penalty"
        groups.setdefault(label, {})[float(settings[setting])] = arm
    if all(len(arms) < 2 for arms in groups.values()):
        raise ValueError(f"the study {study.name!r} has no two arms that differ in {setting!r}.")
    return groups


def slopes_per_doubling(
    rows: Sequence[dict[str, str]], arms: Mapping[float, str], end_point: str, updates: int
) -> dict[int, float]:
    """The least-squares slope over log₂ of the setting, for each seed that all arms have.

    Args:
        rows: of the study.
        arms: by the value of the setting.
        end_point: whose values are fitted.
        updates: number of updates after which it was measured.
    """
    values = [arms_of(rows, arm, end_point, updates) for arm in arms.values()]
    seeds = sorted(set.intersection(*map(set, values)))
    sizes = np.log2([*arms])
    return {
        seed: float(np.polyfit(sizes, [of_arm[seed] for of_arm in values], 1)[0]) for seed in seeds
    }
