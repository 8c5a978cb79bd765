"""Open-loop error with weights over the horizon (arXiv 2310.08442, debiased diffusion training).

The squared error e_k of the observation k policy steps ahead (in variances of the data, a mean over
samples) varies most where it is largest. With weights w_k = 1/Var e_k, the variance over test
episodes of the same model, every step counts by its precision:

    ln [ Σ_k w_k mean e_k / Σ_k w_k ],   k = 1 … 80.

Mean and variance of one step are estimated from the same episodes, so that the estimate is too low
for skewed errors: by 0.04 in the logarithm for independent lognormal errors of 128 episodes with
σ = 1, by 0.4 with σ = 2.
"""

from __future__ import annotations

import numpy as np

from sdewm.open_loop.errors import squared_error
from sdewm.related.quantity import Quantity
from sdewm.study.end_points import Measurement

NAME, PAPER = "weighted_error", "2310.08442"


def weighted_mean(errors: np.ndarray) -> float:
    """Mean over horizons of the mean errors (E, H), with weights 1/variance over episodes.

    >>> weighted_mean(np.array([[1.0, 10.0], [3.0, 14.0]]))  # weights 1/2 and 1/8
    4.0
    """
    weights = 1 / errors.var(0, ddof=1)
    return float(weights @ errors.mean(0) / weights.sum())


def measure(given: Measurement) -> float:
    """Logarithm of the weighted error."""
    found, scale = given.predicted, given.scale
    truth = found.observations / scale
    errors = [squared_error(one / scale, truth) for one in found.rollout.observations]
    return float(np.log(weighted_mean(np.mean(errors, 0))))


QUANTITIES = (
    Quantity(
        NAME,
        PAPER,
        "Open-loop error by precision",
        "ln error",
        "ln open-loop error with weights 1/variance, mostly of the first steps; lower is better",
        measure,
    ),
)
