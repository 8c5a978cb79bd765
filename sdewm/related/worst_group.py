"""Error of the worst group of starts over the mean of groups (arXiv 2501.13273).

Test episodes of the cart-pole are grouped by the pole's angle at the last observed row: up, to
either side, or down, four quadrants centred there. With ē_g the mean over a group of the squared
error of the observation predicted 15 policy steps ahead, in variances of the data,

    ln [ max_g ē_g / mean_g ē_g ],

dimensionless: ln of the number of groups if one has all the error. The largest of few means lies
above their mean by chance: the test episodes of the studies have groups of 98, 12, 13 and 5, for
which labels at random give 0.5 to 0.65, as they do for lognormal errors with σ = 1.5 to 2. Only a
difference of two models means something.
"""

from __future__ import annotations

import numpy as np

from sdewm.open_loop.errors import squared_error
from sdewm.related.quantity import Quantity
from sdewm.study.end_points import Measurement

NAME, PAPER = "worst_group", "2501.13273"
STEPS, COSINE, SINE = 15, 1, 2  # [position, cos, sin, velocity, angular velocity]
TASK = "dmc:cartpole_swingup"


def quadrants(cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """The quadrant of each angle: 0 around 0, then by quarter turns.

    >>> quadrants(np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.1, 1.0, -0.1, -1.0]))
    array([0, 1, 2, 3])
    """
    return np.round(np.arctan2(sine, cosine) / (np.pi / 2)).astype(int) % 4


def worst_over_mean(errors: np.ndarray, groups: np.ndarray) -> float:
    """Logarithm of the largest mean error of a group over the mean of the groups; both (E,).

    >>> worst = worst_over_mean(np.array([1.0, 1.0, 1.0, 3.0]), np.array([0, 0, 0, 1]))
    >>> round(float(np.exp(worst)), 6)  # 3/2: a group counts once, whatever its size
    1.5
    """
    means = [errors[groups == group].mean() for group in np.unique(groups)]
    return float(np.log(np.max(means) / np.mean(means)))


def measure(given: Measurement) -> float:
    """The logarithm for the model's predictions."""
    if given.config.env != TASK or given.episodes.observations.dim() != 3:
        raise ValueError(f"env={given.config.env!r}: expected vectors of {TASK}, for the angle.")
    found, scale = given.predicted, given.scale
    truth, at = found.observations / scale, slice(STEPS - 1, STEPS)
    errors = [squared_error(x[:, at] / scale, truth[:, at]) for x in found.rollout.observations]
    last = found.last_observation
    return worst_over_mean(np.mean(errors, 0)[:, 0], quadrants(last[:, COSINE], last[:, SINE]))


QUANTITIES = (
    Quantity(
        NAME,
        PAPER,
        "Worst start over mean of starts",
        "ln ratio",
        "ln error of the worst quadrant of the pole's angle over the mean; by chance 0.5 to 0.65",
        measure,
    ),
)
