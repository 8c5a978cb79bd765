"""Soft worst case of the error under noise (arXiv 2408.09672, regularised robust learning).

Let e be the squared error of the observation decoded under noise of standard deviation 0.2. The
worst mean over laws Q of the noise, penalised by τ KL(Q ‖ P), is

    sup_Q E_Q e − τ KL(Q ‖ P) = τ ln E_P exp(e/τ).

Measured for each row of the windows of the test episodes with P the uniform law on 16 draws of the
noise, and τ = mean e, relative to the mean:

    ln [τ ln mean exp(e/τ)] − ln mean e,

a mean over rows, dimensionless. It is ≥ 0, and 0 for an error that does not depend on the draw. It
rises with the number of draws, and for the law of the noise itself it may be infinite: for the sum
of the squares of 4 independent normal numbers it is 0.25 at 16 draws, 0.30 at 96 and ln ln 4 = 0.33
in the limit; for a single square the limit is infinite.
"""

from __future__ import annotations

import numpy as np

from sdewm.open_loop.errors import squared_error
from sdewm.related.filtered import filtered, recorded
from sdewm.related.quantity import Quantity
from sdewm.study.end_points import Measurement

NAME, PAPER = "soft_worst_case", "2408.09672"
NOISE, DRAWS = 0.2, 16


def soft_worst_case(errors: np.ndarray, tau: np.ndarray | float) -> np.ndarray:
    """τ ln mean exp(e/τ) over the first axis of errors (J, …).

    Of a normal law it is mean + variance/(2 τ):

    >>> errors = np.random.default_rng(0).normal(5, 1, size=100000)
    >>> round(float(soft_worst_case(errors, 1.0)), 1)
    5.5
    """
    scaled = errors / tau
    largest = scaled.max(0)  # exp does not overflow
    return tau * (largest + np.log(np.exp(scaled - largest).mean(0)))


def measure(given: Measurement) -> float:
    """The soft worst case over the mean, ln."""
    truth = recorded(given)
    errors = np.stack(
        [squared_error(filtered(given, NOISE, draw).decoded, truth) for draw in range(DRAWS)]
    )  # (J, E, T)
    mean = errors.mean(0)
    return float((np.log(soft_worst_case(errors, mean)) - np.log(mean)).mean())


QUANTITIES = (
    Quantity(
        NAME,
        PAPER,
        "Soft worst case over mean error",
        "ln ratio",
        "ln ratio of soft worst case and mean of the error over 16 draws of noise",
        measure,
    ),
)
