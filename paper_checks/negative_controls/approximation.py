"""Negative controls of the checks on the approximation theorem (S31 to S33)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np


def jumping_code(code: Any) -> Any:
    """The code is the angle itself, which jumps at one point of the circle (S31)."""
    return lambda gap: lambda angle: np.arctan2(np.sin(angle), np.cos(angle))


def wrong_smoothness(target: Any) -> Any:
    """The smoothness of a target is overstated by a quarter (S32)."""

    def overstated(exponent: float) -> Any:
        true = target(exponent)
        return replace(true, smoothness=true.smoothness + 0.25)

    return overstated


def sorted_pairs(errors: Any) -> Any:
    """Both samples are sorted before they are compared, so their laws are compared (S33)."""
    return lambda x, y: errors(np.sort(x, axis=0), np.sort(y, axis=0))
