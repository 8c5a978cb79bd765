"""Three indicators of latent features (arXiv 2401.14027).

For the features [h, z] of all rows of one window of each test episode, centred, with singular
values σ_i:

    entropy         −Σ p_i ln p_i, p_i = σ_i/Σσ, in nats
    largest share   Σ_{i ≤ 4} σ_i² / Σ σ_i², the share of the variance in the four largest
    centroid        ‖mean of noisy − mean of clean features‖ in standard deviations of the clean
                    ones, (total variance)^½; the noise on observations has standard deviation 0.2

All are dimensionless, of features in their own units. h lies between −1 and 1; z has no fixed
scale, and where it grows against h, as under the penalty, the entropy falls, the share rises, and
the centroid falls, without a change of the directions in h or in z alone. The paper proposes them
as indicators of generalisation, so their rank correlation with the error under noise over runs
belongs to them.
"""

from __future__ import annotations

import math

import numpy as np

from sdewm.open_loop.effective_rank import effective_rank
from sdewm.related.filtered import filtered
from sdewm.related.quantity import Quantity
from sdewm.study.end_points import Measurement

NAME, PAPER = "features", "2401.14027"
LARGEST, NOISE = 4, 0.2


def singular_value_entropy(features: np.ndarray) -> float:
    """Entropy of the normalised singular values of features (N, F), in nats.

    >>> cross = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(singular_value_entropy(cross), 4)  # ln 2
    0.6931
    """
    return math.log(effective_rank(features))


def largest_share(features: np.ndarray, largest: int) -> float:
    """Share of the variance of features (N, F) in the largest singular values.

    >>> cross = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> largest_share(cross, 1)
    0.8
    """
    squares = np.square(np.linalg.svd(features - features.mean(0), compute_uv=False))
    return float(squares[:largest].sum() / squares.sum())


def centroid_distance(clean: np.ndarray, noisy: np.ndarray) -> float:
    """Distance of the means of two sets of features (N, F), in standard deviations of the first.

    >>> clean = np.array([[1.0, 1.0], [-1.0, -1.0]])
    >>> round(centroid_distance(clean, clean + [2.0, 0.0]), 4)  # 2/√2
    1.4142
    """
    apart = noisy.mean(0) - clean.mean(0)
    return float(np.linalg.norm(apart) / math.sqrt(clean.var(0).sum()))


def features_of(given: Measurement, strength: float) -> np.ndarray:
    """Features of all rows: (N, F)."""
    return filtered(given, strength).features.flatten(0, 1).numpy()


def measure_entropy(given: Measurement) -> float:
    """Of clean features."""
    return singular_value_entropy(features_of(given, 0.0))


def measure_largest_share(given: Measurement) -> float:
    """Of clean features."""
    return largest_share(features_of(given, 0.0), LARGEST)


def measure_centroid(given: Measurement) -> float:
    """Between clean and noisy features."""
    return centroid_distance(features_of(given, 0.0), features_of(given, NOISE))


QUANTITIES = (
    Quantity(
        f"{NAME}: singular-value entropy",
        PAPER,
        "Singular-value entropy",
        "nats",
        "entropy of the singular values of [h, z]; it falls, too, where z grows against h",
        measure_entropy,
    ),
    Quantity(
        f"{NAME}: share of the {LARGEST} largest",
        PAPER,
        f"Variance in {LARGEST} directions",
        "share",
        f"share of the variance of [h, z] in the {LARGEST} largest; it rises where z grows",
        measure_largest_share,
    ),
    Quantity(
        f"{NAME}: centroid under noise",
        PAPER,
        "Shift of features under noise",
        "standard deviations",
        "distance of the means of clean and noisy [h, z] in standard deviations, which grow with z",
        measure_centroid,
    ),
)
