"""Effective rank of a set of latents."""

from __future__ import annotations

import numpy as np

from sdewm.base.arrays import check_array


def effective_rank(latents: np.ndarray) -> float:
    """exp(−Σ p_i log p_i), where p_i = σ_i/Σσ for the singular values σ of the centred latents.

    The mean of all rows is subtracted, so that it does not count as a direction (Roy and Vetterli's
    definition is for any matrix). The effective rank is D for equal variance in all directions and
    1 for latents on a line. It does not depend on the scale.

    Args:
        latents: (N, D), at least two rows. For N ≤ D the result is at most N − 1.

    Raises:
        ValueError: all rows equal, or values that are not finite.

    Source: Roy and Vetterli, The effective rank, EUSIPCO 2007.

    >>> cross = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> effective_rank(cross), effective_rank(cross[:2])
    (2.0, 1.0)
    """
    singular = _singular_values(latents)
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _singular_values(latents: np.ndarray) -> np.ndarray:
    rows = check_array("latents", latents, "(N, D)")
    if (rows == rows[0]).all():
        raise ValueError(f"latents {rows.shape}: all rows are equal; expected rows that vary.")
    centred = rows - rows.mean(axis=0)
    return np.linalg.svd(centred / np.abs(centred).max(), compute_uv=False)  # (min(N, D),)
