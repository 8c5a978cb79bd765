"""What averaging the predictions of several models gains (arXiv 2506.01901).

For M models of one arm with predictions x̂_m of the observation 25 policy steps ahead (each the mean
over its samples),

    ln [ ‖x̄ − x‖² / mean_m ‖x̂_m − x‖² ],   x̄ = mean_m x̂_m,

with both errors as means over test episodes, in variances of the data. By

    mean_m ‖x̂_m − x‖² = ‖x̄ − x‖² + mean_m ‖x̂_m − x̄‖²

the ratio is 0 if the models agree, −ln M for errors that are independent with mean zero, and below
that for errors of opposite signs. A running mean of weights is another ensemble: see the arm
`average` of the study cartpole_comparators.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdewm.open_loop.predictions import open_loop
from sdewm.study.end_points import CONTEXT, SAMPLES, Measurement

NAME, PAPER = "ensemble", "2506.01901"
STEPS, MODELS = 25, 2
TITLE, UNIT = "Two models over single error", "ln ratio"
MEANING = "ln error of the mean prediction of two seeds over that of one; lower: more is variance"


def ensemble_ratio(predictions: np.ndarray, truth: np.ndarray) -> float:
    """The ln ratio of predictions (M, E, D) of truth (E, D).

    >>> errors = np.random.default_rng(0).normal(size=(2, 10000, 3))
    >>> round(float(np.exp(ensemble_ratio(errors, np.zeros((10000, 3))))), 1)
    0.5
    """
    together = np.square(predictions.mean(0) - truth).mean()
    single = np.square(predictions - truth).mean()
    return float(np.log(together / single))


def mean_prediction(given: Measurement) -> tuple[np.ndarray, np.ndarray]:
    """The mean over samples of the prediction, and the truth: each (E, *shape)."""
    found = open_loop(
        given.model,
        given.episodes,
        context=CONTEXT,
        horizon=STEPS,
        samples=SAMPLES,
        seed=given.seed,
    )
    predicted = found.rollout.observations[:, :, -1].mean(0)
    return predicted / given.scale, found.observations[:, -1] / given.scale


def measure(group: Sequence[Measurement]) -> float:
    """The ln ratio of a group of runs of one arm, with the same test episodes."""
    found = [mean_prediction(one) for one in group]
    return ensemble_ratio(np.stack([predicted for predicted, _ in found]), found[0][1])
