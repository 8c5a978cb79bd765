"""The coupled error of a reconstruction, and the Wasserstein distance of its law (S33)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance


def errors(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x − y| of each pair, (n,), for numbers `(n,)` or vectors `(n, N)`.

    >>> errors(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[3.0, 4.0], [1.0, 1.0]])).tolist()
    [5.0, 0.0]
    """
    return np.linalg.norm((x - y).reshape(len(x), -1), axis=1)


def wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    """W₁ of the empirical laws of two samples of equal size, `(n,)` or `(n, N)`, exactly.

    For numbers by scipy, for vectors by the best assignment: an extreme point of the couplings of
    two uniform laws on n points is a permutation (Birkhoff 1946).

    >>> wasserstein(np.array([0.0, 1.0]), np.array([1.5, 0.5]))
    0.5
    >>> wasserstein(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 2.0]]))
    1.0
    """
    if x.ndim == 1:
        return float(wasserstein_distance(x, y))
    cost = cdist(x, y)
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())
