"""Spread of predictions from one context (arXiv 2505.16474, consistent world models).

With S sampled predictions x̂_s, 25 policy steps after the same context, in standard deviations of
the data,

    ln s,   s² = mean over components of the variance over samples (divisor S − 1),

a mean over test episodes. Small values mean consistent samples, not accurate ones.
"""

from __future__ import annotations

import numpy as np

from sdewm.related.quantity import Quantity
from sdewm.study.end_points import Measurement

NAME, PAPER = "sample_consistency", "2505.16474"
STEPS = 25


def log_spread(samples: np.ndarray) -> np.ndarray:
    """Logarithm of s of samples (S, E, D): (E,).

    >>> samples = np.random.default_rng(0).normal(0, 3, size=(20000, 1, 2))
    >>> np.exp(log_spread(samples)).round(1)
    array([3.])
    """
    variance = samples.var(0, ddof=1)  # (E, D)
    return 0.5 * np.log(variance.reshape(len(variance), -1).mean(1))


def measure(given: Measurement) -> float:
    """Mean of ln s over episodes."""
    samples = given.predicted.rollout.observations[:, :, STEPS - 1] / given.scale
    return float(log_spread(samples).mean())


QUANTITIES = (
    Quantity(
        NAME,
        PAPER,
        "Spread of predictions",
        "ln standard deviation",
        "ln spread of sampled predictions from one context; lower is more consistent",
        measure,
    ),
)
