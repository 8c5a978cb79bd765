"""All metrics of open-loop predictions: errors per episode and horizon, for curves and growth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sdewm.open_loop.baselines import reference_errors
from sdewm.open_loop.errors import (
    absolute_error,
    normalised_distance,
    psnr,
    return_error,
    squared_error,
)
from sdewm.open_loop.physical_states import (
    physical_states,
    reward_quantity,
    sample_metrics,
    shuffled,
    state_error,
)
from sdewm.open_loop.predictions import OpenLoop
from sdewm.open_loop.scoring import Measured, compared, themselves
from sdewm.open_loop.ssim import ssim
from sdewm.open_loop.training_rows import TrainingRows


def open_loop_metrics(found: OpenLoop, training: TrainingRows, *, seed: int) -> list[Measured]:
    """Every metric of the rollouts.

    Args:
        found: result of `open_loop`; metrics of the fields that it left out are left out.
        training: result of `training_rows` for the same model.
        seed: seed of the pairing of episodes.

    Returns:
        Errors of observation, reward, return, physical state and latent, and the KL divergence; for
        images also SSIM and the PSNR of the mean squared error over episodes; spread, coverage and
        CRPS of the samples. Vectors of observations are the physical state; of images it is not
        known, and the samples are those of the reward. Components of vectors that are constant in
        training are no part of the physical state.
    """
    metrics: list[Measured] = []
    sampled = None
    if "observations" not in found.left_out:
        metrics += _of_observation(found, training, seed)
    if "rewards" not in found.left_out:
        metrics += _of_reward(found, training, seed)
        sampled = reward_quantity(found, training, seed)
    if (known := physical_states(found, training, seed)) is not None:
        sampled, observed = known
        metrics.append(state_error(sampled, observed, seed))
    metrics += _of_latent(found, training, seed)
    return metrics if sampled is None else [*metrics, *sample_metrics(sampled, seed)]


def _of_observation(found: OpenLoop, training: TrainingRows, seed: int) -> list[Measured]:
    images = found.observations.ndim == 5
    given = {
        "rollout": found.rollout.observations,
        "one_step": found.one_step.observations,
        "truth": found.observations,
        "last": found.last_observation,
        "mean": training.mean_observation(),
        "seed": seed,
    }

    def other() -> Iterator[np.ndarray]:
        return shuffled(training.observations, found, training, seed)

    square = compared("observation error", "mean squared", squared_error, shuffled=other(), **given)
    if not images:
        return [square]
    noise = Measured(
        "PSNR",
        "dB",
        square.errors,
        square.references,
        reduce=lambda errors: psnr(errors.mean(axis=0), peak=1.0),
    )
    similar = compared(
        "SSIM", "1: equal", ssim, shuffled=other(), **given, growth=lambda errors: 1 - errors
    )
    return [square, noise, similar]


def _of_reward(found: OpenLoop, training: TrainingRows, seed: int) -> list[Measured]:
    given = {
        "rollout": found.rollout.rewards,
        "one_step": found.one_step.rewards,
        "truth": found.rewards,
        "last": found.last_reward,
        "mean": training.rewards.mean(),
        "seed": seed,
    }
    metrics = (
        ("reward error", "absolute", absolute_error),
        ("return error", "absolute, of the sum from 1 to k", return_error),
    )
    return [
        compared(*names, shuffled=shuffled(training.rewards, found, training, seed), **given)
        for names in metrics
    ]


def _of_latent(found: OpenLoop, training: TrainingRows, seed: int) -> list[Measured]:
    data = training.latents.reshape(-1, training.latents.shape[2])

    def distance(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return normalised_distance(prediction, truth, data)

    paths = [  # each sample has its own posterior path
        {"model": distance(rollout, truth), "shuffled": distance(other, truth)}
        | reference_errors(distance, truth, last=last, data=data, one_step=step, seed=seed)
        for rollout, truth, last, step, other in zip(
            found.rollout.latents,
            found.latents,
            found.last_latent,
            found.one_step.latents,
            shuffled(training.latents, found, training, seed),
            strict=True,
        )
    ]
    lines = {name: np.mean([path[name] for path in paths], axis=0) for name in paths[0]}
    apart = lines.pop("model")
    square = Measured(
        "latent distance",
        "squared, in variances of the data",
        apart,
        lines,
        growth=themselves,
    )
    if "kl" in found.left_out:
        return [square]
    divergence = found.rollout.kl.mean(axis=0)
    nearest = {
        "one_step": found.one_step.kl.mean(axis=0),
        "shuffled": found.shuffled_kl.mean(axis=0),
    }
    return [Measured("latent KL", "nats", divergence, nearest, growth=themselves), square]
