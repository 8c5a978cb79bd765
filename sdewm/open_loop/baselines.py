"""Predictions that need no world model, to be scored by the metric of the model beside them.

A model is worth something at horizon k if its error is below those of copying and of the mean of
the data, and has lost the episode where it reaches that of two unrelated episodes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sdewm.base.arrays import check_array
from sdewm.base.checks import check_count

Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]


def copy_last(last: np.ndarray, horizon: int) -> np.ndarray:
    """The last observed row, at every horizon: (E, H, …) of (E, …).

    Raises:
        ValueError: a horizon below 1, or numbers that are not finite.

    >>> copy_last(np.array([3.0, 4.0]), 2)
    array([[3., 3.],
           [4., 4.]])
    """
    last = check_array("last", last, "(E, …)")
    horizon = check_count("horizon", horizon)
    return np.broadcast_to(last[:, None], (len(last), horizon, *last.shape[1:]))


def data_mean(data: np.ndarray, episodes: int, horizon: int) -> np.ndarray:
    """The mean of rows (N, …) of data, for every episode and horizon: (E, H, …).

    Of all constants it has the least squared error on the data; take training data.

    Raises:
        ValueError: no episode or horizon, or numbers that are not finite.
    """
    mean = check_array("data", data, "(N, …)").mean(axis=0)
    shape = (check_count("episodes", episodes), check_count("horizon", horizon))
    return np.broadcast_to(mean, (*shape, *mean.shape))


def unrelated_pairs(truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different episodes at the same steps: (P, H, …) twice, P = ⌊E/2⌋.

    The pairs are drawn without replacement, so each episode is in one at most and they are
    independent units for `episode_bootstrap`; with odd E one episode is left out. Both members are
    recorded: the ceiling is the same for every model. Squared errors of pairs average twice the
    variance at that step, the variance being the error of the mean.

    Args:
        truth: (E, H, …).
        seed: of the pairing.

    Raises:
        ValueError: fewer than two episodes, or numbers that are not finite.

    >>> first, second = unrelated_pairs(np.arange(4.0)[:, None], seed=0)
    >>> first.ravel(), second.ravel()
    (array([2., 0.]), array([1., 3.]))
    """
    truth = check_array("truth", truth, "(E, H, …)")
    if len(truth) < 2:
        raise ValueError("truth: E = 1; expected at least two episodes to pair.")
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
    """The metric of the four reference lines.

    Args:
        metric: (prediction, truth) -> errors (E, H), such as `squared_error`.
        truth: (E, H, …).
        last: the last observed row of each episode, (E, …).
        data: rows (N, …) whose mean is predicted.
        one_step: (E, H, …): at each step the prediction from the row before, observed. No rollout
            of this model is expected to do better: the floor.
        seed: of the pairing.

    Returns:
        "copy_last", "data_mean", "one_step": (E, H); "unrelated", the ceiling: (⌊E/2⌋, H).

    Raises:
        ValueError: as the functions above and the metric.

    >>> from sdewm.open_loop.errors import absolute_error
    >>> truth = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> lines = reference_errors(absolute_error, truth, last=np.array([0.0, 2.0]),
    ...     data=np.array([0.0, 4.0]), one_step=truth - 0.5, seed=0)
    >>> {name: errors.mean(axis=0).tolist() for name, errors in lines.items()}
    {'copy_last': [1.0, 2.0], 'data_mean': [1.0, 1.0], 'one_step': [0.5, 0.5],
     'unrelated': [2.0, 2.0]}
    """
    truth = check_array("truth", truth, "(E, H, …)")
    episodes, horizon = truth.shape[:2]
    return {
        "copy_last": metric(copy_last(last, horizon), truth),
        "data_mean": metric(data_mean(data, episodes, horizon), truth),
        "one_step": metric(one_step, truth),
        "unrelated": metric(*unrelated_pairs(truth, seed)),
    }
