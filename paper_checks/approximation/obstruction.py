"""Codes of a circle by one number: two antipodes with one code, by bisection (S31)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Code = Callable[[np.ndarray], np.ndarray]  # angles (n,) -> codes (n,)
BISECTIONS = 80


def plane(angle: np.ndarray) -> np.ndarray:
    """(cos θ, sin θ): (n, 2)."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def angle_code(gap: float) -> Code:
    """The angle in (−π, π] where |θ| ≤ π − gap; between these ends it falls linearly through 0.

    Continuous on the circle for every gap > 0. With the decoder `plane` the error is 0 up to
    |θ| = π − gap, at most 2 beyond, and 2 at θ = π.
    """
    edge = math.pi - gap

    def code(angle: np.ndarray) -> np.ndarray:
        theta = np.arctan2(np.sin(angle), np.cos(angle))
        past = np.mod(angle, 2.0 * np.pi) - edge  # from the left end of the gap, in [0, 2 gap]
        return np.where(np.abs(theta) <= edge, theta, edge * (1.0 - past / gap))

    return code


def double_code(angle: np.ndarray) -> np.ndarray:
    """2|θ| for θ in (−π, π]: continuous; decoded by `plane` it keeps the uniform law."""
    return 2.0 * np.abs(np.arctan2(np.sin(angle), np.cos(angle)))


def antipodes_of_one_code(code: Code) -> float:
    """An angle θ in [0, π] at which the codes of θ and θ + π agree, if the code is continuous.

    c(θ) − c(θ + π) changes sign between 0 and π, since it is odd under θ → θ + π. For a code that
    jumps, the place of a change of sign.
    """

    def difference(angle: float) -> float:
        first, second = code(np.array([angle, angle + math.pi]))
        return float(first - second)

    low, high = 0.0, math.pi
    start = difference(low)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if difference(middle) * start > 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
