"""Calibration of S sampled rollouts: spread, coverage and continuous ranked probability score.

All results have the shape of the truth, (E, H, …), so that quantities of different units are not
mixed. Average over further axes of one unit (pixels) before `episode_bootstrap`.
"""

from __future__ import annotations

import numpy as np

from sdewm.base.checks import check_finite_number


def sample_spread(samples: np.ndarray) -> np.ndarray:
    """Standard deviation over the samples, √(Σ_s (x_s − x̄)²/(S − 1)).

    Args:
        samples: (S, E, H, …), S ≥ 2.

    Returns:
        (E, H, …), in units of the input.

    >>> sample_spread(np.array([0.0, 2.0]).reshape(2, 1, 1)).round(4)
    array([[1.4142]])
    """
    return samples.std(axis=0, ddof=1)


def coverage(samples: np.ndarray, truth: np.ndarray, *, level: float) -> np.ndarray:
    """Indicator that the truth lies in the central prediction interval of a given level.

    The interval is [x_(j), x_(S+1−j)] of the sorted samples, j = (S + 1)(1 − level)/2. If truth and
    samples have the same continuous distribution given the state, all S + 1 ranks of the truth are
    equally likely, and the mean is exactly `level`. A smaller mean shows an overconfident model.

    Args:
        samples: (S, E, H, …).
        truth: (E, H, …).
        level: nominal coverage, such that j is an integer.

    Returns:
        (E, H, …), 1.0 inside the interval and 0.0 outside.

    Raises:
        ValueError: a level that S samples do not allow; the message lists those they do.

    >>> coverage(np.linspace(0.0, 1.0, 9).reshape(9, 1, 1), np.array([[0.3]]), level=0.8)
    array([[1.]])
    """
    level = check_finite_number("level", level)
    count = len(samples)
    rank = (count + 1) * (1 - level) / 2
    whole = round(rank)
    if abs(rank - whole) > 1e-9 or not 1 <= whole <= count // 2:
        levels = [1 - 2 * j / (count + 1) for j in range(1, count // 2 + 1)]
        listing = ", ".join(f"{value:.4g}" for value in levels)
        raise ValueError(f"level={level!r}: {count} samples allow {listing} (as 1 − 2j/(S + 1)).")
    ordered = np.sort(samples, axis=0)
    inside = (ordered[whole - 1] <= truth) & (truth <= ordered[count - whole])
    return inside.astype(np.float64)


def crps(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score, E|X − y| − ½ E|X − X'|, X and X' independent.

    It equals ∫(F(x) − 1{x ≥ y})² dx for the model's distribution function F. Its mean is smallest
    if F is the distribution of the truth y. For a model without spread it is |x − y|. The estimate

        (1/S) Σ_s |x_s − y| − 1/(2S(S − 1)) Σ_{s,t} |x_s − x_t|

    is unbiased for any S ("fair"), so that models with different S are comparable; a single value
    may be negative. The double sum is 2 Σ_i (2i − S − 1) x_(i) over the sorted samples.

    Args:
        samples: (S, E, H, …), S ≥ 2.
        truth: (E, H, …).

    Returns:
        (E, H, …), in units of the input.

    Source: Gneiting and Raftery, JASA 102 (2007), equation 21; Ferro, QJRMS 140 (2014).

    >>> crps(np.array([0.0, 2.0]).reshape(2, 1, 1), np.array([[3.0]]))
    array([[1.]])
    """
    count = len(samples)
    weights = 2.0 * np.arange(1, count + 1) - count - 1
    pairs = np.tensordot(weights, np.sort(samples, axis=0), axes=1)  # Σ_{s<t} |x_s − x_t|
    apart = np.subtract(samples, truth, dtype=np.float64)  # differences of bytes would wrap around
    return np.abs(apart).mean(axis=0) - pairs / (count * (count - 1))
