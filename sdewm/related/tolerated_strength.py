"""The strongest noise that keeps the error below a target (arXiv 2408.09157, robust satisficing).

The target is a squared error of decoded observations of 0.05 variances of the data, a mean over
test episodes. The value is the largest standard deviation of the noise, in the observations' units,
up to which the error stays at or below it: on the grid 0, 0.05 … 0.4, by linear interpolation.
"""

from __future__ import annotations

import numpy as np

from sdewm.open_loop.errors import squared_error
from sdewm.related.filtered import filtered, recorded
from sdewm.related.quantity import Quantity
from sdewm.study.end_points import Measurement

NAME, PAPER = "tolerated_strength", "2408.09157"
TARGET, STRENGTHS = 0.05, np.linspace(0, 0.4, 9)


def tolerated(strengths: np.ndarray, errors: np.ndarray, target: float) -> float:
    """The largest strength up to which the error is at most the target; 0 if none, even without.

    >>> tolerated(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 2.0]), 2.0)
    0.5
    """
    above = np.flatnonzero(errors > target)
    if not len(above):
        return float(strengths[-1])
    k = int(above[0])
    if k == 0:
        return float(strengths[0])
    share = (target - errors[k - 1]) / (errors[k] - errors[k - 1])
    return float(strengths[k - 1] + share * (strengths[k] - strengths[k - 1]))


def measure(given: Measurement) -> float:
    """The tolerated strength of noise."""
    truth = recorded(given)
    errors = [squared_error(filtered(given, float(s)).decoded, truth).mean() for s in STRENGTHS]
    return tolerated(STRENGTHS, np.array(errors), TARGET)


QUANTITIES = (
    Quantity(
        NAME,
        PAPER,
        "Tolerated strength of noise",
        "standard deviation",
        f"strongest noise with an error of at most {TARGET:g} variances; higher is more robust",
        measure,
    ),
)
