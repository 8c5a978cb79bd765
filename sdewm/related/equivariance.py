"""Error under noise against the model's own clean output, and against the truth (arXiv 2202.10103).

With x̂(o) the observation decoded from the latent that filtered o, and noise ξ of standard deviation
0.2, the means over rows of

    own      ‖x̂(o + ξ) − x̂(o)‖²    local change of the output; also small for a flat, wrong model
    truth    ‖x̂(o + ξ) − o‖²        robust error
    clean    ‖x̂(o) − o‖²            accuracy

per component, in variances of the data; ln, then a mean over test episodes.
"""

from __future__ import annotations

import numpy as np

from sdewm.open_loop.errors import squared_error
from sdewm.related.filtered import filtered, recorded
from sdewm.related.quantity import Quantity
from sdewm.study.end_points import Measurement

NAME, PAPER = "equivariance", "2202.10103"
NOISE = 0.2


def log_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean over episodes of ln of the mean squared distance over rows; both (E, T, *shape).

    >>> round(log_distance(np.full((1, 3, 2), 2.0), np.zeros((1, 3, 2))), 4)  # ln 4
    1.3863
    """
    return float(np.log(squared_error(ours, theirs).mean(1)).mean())


def measure_own(given: Measurement) -> float:
    """Noisy against clean output."""
    return log_distance(filtered(given, NOISE).decoded, filtered(given, 0.0).decoded)


def measure_truth(given: Measurement) -> float:
    """Noisy output against the truth."""
    return log_distance(filtered(given, NOISE).decoded, recorded(given))


def measure_clean(given: Measurement) -> float:
    """Clean output against the truth."""
    return log_distance(filtered(given, 0.0).decoded, recorded(given))


QUANTITIES = (
    Quantity(
        f"{NAME}: own output",
        PAPER,
        "Noisy against clean output",
        "ln error",
        "ln distance of outputs with and without noise; low values alone are no gain",
        measure_own,
    ),
    Quantity(
        f"{NAME}: truth",
        PAPER,
        "",
        "ln error",
        "ln error under noise against the truth; lower is better",
        measure_truth,
    ),
    Quantity(
        f"{NAME}: clean",
        PAPER,
        "",
        "ln error",
        "ln error without noise; lower is better",
        measure_clean,
    ),
)
