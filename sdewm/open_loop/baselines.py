"""Baseline predictions without a world model, scored by the same metrics as the model.

A model is useful at horizon k if its error is below those of copying the last row and of the data
mean. It carries no information where its error reaches that of unrelated episodes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]


def copy_last(last: np.ndarray, horizon: int) -> np.ndarray:
    """The last observed row (E, …), repeated at every horizon: (E, H, …).

    >>> copy_last(np.array([3.0, 4.0]), 2)
    array([[3., 3.],
           [4., 4.]])
    """
    return np.broadcast_to(last[:, None], (len(last), horizon, *last.shape[1:]))


def data_mean(data: np.ndarray, episodes: int, horizon: int) -> np.ndarray:
    """The mean of the rows (N, …) of training data, for every episode and horizon: (E, H, …).

    It is the constant prediction with the smallest squared error on the data. It is computed in
    float64, because a sum of millions of rows in float32 loses digits.
    """
    mean = data.mean(axis=0, dtype=np.float64)
    return np.broadcast_to(mean, (episodes, horizon, *mean.shape))


def unrelated_pairs(truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different episodes at the same steps: two arrays (P, H, …), P = ⌊E/2⌋.

    Pairs are drawn without replacement. Each episode is in at most one pair, so that pairs are
    independent units for `episode_bootstrap`; with odd E one episode is omitted. Both members are
    recorded, so the result does not depend on the model. The mean squared error of pairs is twice
    the variance at that step, and the variance is the squared error of the mean.

    Args:
        truth: (E, H, …), E ≥ 2.
        seed: seed of the pairing.

    >>> first, second = unrelated_pairs(np.arange(4.0)[:, None], seed=0)
    >>> first.ravel(), second.ravel()
    (array([2., 0.]), array([1., 3.]))
    """
    order = np.random.default_rng(seed).permutation(len(truth))
    pairs = len(truth) // 2
    return truth[order[:pairs]], truth[order[pairs : 2 * pairs]]


def reference_errors(
    metric: Metric,
    truth: np.ndarray,
    *,
    last: np.ndarray,
    data: np.ndarray,
    one_step: np.ndarray,
    seed: int,
) -> dict[str, np.ndarray]:
    """Errors of the four reference lines in a given metric.

    Args:
        metric: (prediction, truth) -> errors (E, H), such as `squared_error`.
        truth: (E, H, …).
        last: (E, …), the last observed row of each episode.
        data: (N, …), rows whose mean is predicted.
        one_step: (E, H, …), the prediction of each row from the previous observed row. It is the
            floor: no rollout of this model is expected to do better.
        seed: seed of the pairing.

    Returns:
        "copy_last", "data_mean", "one_step": (E, H); "unrelated", the ceiling: (⌊E/2⌋, H).

    >>> from sdewm.open_loop.errors import absolute_error
    >>> truth = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> lines = reference_errors(absolute_error, truth, last=np.array([0.0, 2.0]),
    ...     data=np.array([0.0, 4.0]), one_step=truth - 0.5, seed=0)
    >>> {name: errors.mean(axis=0).tolist() for name, errors in lines.items()}
    {'copy_last': [1.0, 2.0], 'data_mean': [1.0, 1.0], 'one_step': [0.5, 0.5],
     'unrelated': [2.0, 2.0]}
    """
    episodes, horizon = truth.shape[:2]
    return {
        "copy_last": metric(copy_last(last, horizon), truth),
        "data_mean": metric(data_mean(data, episodes, horizon), truth),
        "one_step": metric(one_step, truth),
        "unrelated": metric(*unrelated_pairs(truth, seed)),
    }
