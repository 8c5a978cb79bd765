"""Physical states and rewards of sampled rollouts: their errors, spread, coverage and CRPS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sdewm.base.ridge import cross_fitted_states, fit_state_probe
from sdewm.open_loop.baselines import reference_errors
from sdewm.open_loop.calibration import coverage, crps, sample_spread
from sdewm.open_loop.errors import squared_error
from sdewm.open_loop.predictions import OpenLoop
from sdewm.open_loop.scoring import Measured, compared, scored
from sdewm.open_loop.training_rows import TrainingRows

FOLDS = 5  # of training episodes, for residuals of the probe on episodes that it has not seen
LEVEL = 0.9  # nominal coverage; the nearest level that the number of samples allows is used


@dataclass(frozen=True, eq=False)
class Quantities:
    """Q quantities in one unit, so that they can be averaged.

    Attributes:
        what: their common name.
        unit: their common unit.
        rollout: (S, E, H, Q), open-loop samples.
        one_step: (S, E, H, Q), one-step predictions.
        truth: (E, H, Q), recorded values.
        last: (E, Q), values at the last observed row.
        mean: (Q,), mean of the training data.
        shuffled: (S, E, H, Q), training rows drawn at random.
        residuals: (R, Q), what a probe of the samples leaves of the truth; None without a probe.
    """

    what: str
    unit: str
    rollout: np.ndarray
    one_step: np.ndarray
    truth: np.ndarray
    last: np.ndarray
    mean: np.ndarray
    shuffled: np.ndarray
    residuals: np.ndarray | None = None


def physical_states(
    found: OpenLoop, training: TrainingRows, seed: int
) -> tuple[Quantities, np.ndarray] | None:
    """Physical states decoded from the latents by a linear probe fitted to training posteriors.

    The physical state is the vector of observations, without the components that are constant in
    training. Each component is divided by its standard deviation there. The residuals of the probe
    are those of training episodes, each decoded by a probe fitted to the others (`FOLDS` folds).

    Args:
        found: the predictions.
        training: training rows.
        seed: seed of the rows drawn at random.

    Returns:
        The quantities, and those decoded from the posterior of each row, (S, E, H, Q), which show
        the error of the probe. None for images, whose physical state is not known, and if nothing
        varies.
    """
    if found.observations.ndim > 3:
        return None
    moving = ~constant_components(training)
    if not moving.any():
        return None
    recorded = training.observations[..., moving]
    data = recorded.reshape(-1, recorded.shape[2])
    scale = data.std(axis=0)
    probe = fit_state_probe(training.latents, recorded)
    rollout, one_step, observed = (
        probe.predict(latents) / scale
        for latents in (found.rollout.latents, found.one_step.latents, found.latents)
    )
    unseen = cross_fitted_states(
        training.latents,
        recorded,
        training.latents,
        folds=min(FOLDS, len(training.latents)),
        seed=seed,
    )
    residuals = ((recorded - unseen) / scale).reshape(-1, data.shape[1])
    states = Quantities(
        "physical state",
        "standard deviations of the data",
        rollout,
        one_step,
        found.observations[..., moving] / scale,
        found.last_observation[..., moving] / scale,
        data.mean(axis=0) / scale,
        np.stack([*shuffled(recorded, found, training, seed)]) / scale,
        residuals,
    )
    return states, observed


def constant_components(training: TrainingRows) -> np.ndarray:
    """Which components of vector observations are constant in training (Q,); none of images."""
    if training.observations.ndim > 3:
        return np.zeros(0, dtype=bool)
    return (training.observations == training.observations[0, 0]).all(axis=(0, 1))


def shuffled(
    rows: np.ndarray, found: OpenLoop, training: TrainingRows, seed: int
) -> Iterator[np.ndarray]:
    """Random windows of training rows, as long as the rollout, one for each of its samples."""
    episodes, horizon = found.rewards.shape
    return training.windows(rows, len(found.latents), episodes, horizon, seed)


def reward_quantity(found: OpenLoop, training: TrainingRows, seed: int) -> Quantities:
    """The reward as the only quantity."""
    return Quantities(
        "reward",
        "reward",
        found.rollout.rewards[..., None],
        found.one_step.rewards[..., None],
        found.rewards[..., None],
        found.last_reward[:, None],
        training.rewards.mean(keepdims=True)[0],
        np.stack([*shuffled(training.rewards, found, training, seed)])[..., None],
    )


def state_error(states: Quantities, observed: np.ndarray, seed: int) -> Measured:
    """Mean squared error of quantities in units of their variances.

    The additional reference line "observed" is that of `observed` (S, E, H, Q), the quantities
    decoded from the posterior of the row itself.
    """
    measured = compared(
        "physical state error",
        "mean squared, in variances of the data",
        squared_error,
        rollout=states.rollout,
        one_step=states.one_step,
        truth=states.truth,
        last=states.last,
        mean=states.mean,
        shuffled=states.shuffled,
        seed=seed,
    )
    of_probe = scored(squared_error, observed, states.truth)
    return replace(measured, references=measured.references | {"observed": of_probe})


def sample_metrics(states: Quantities, seed: int) -> list[Measured]:
    """Spread, coverage and CRPS, averaged over quantities.

    A probe decodes the mean of a quantity given the latent, not the quantity. For the coverage a
    residual drawn at random from `states.residuals` is therefore added to every sample; without it
    even the samples of a perfect model would be too narrow.
    """
    generator = np.random.default_rng(seed)
    count = len(states.rollout)
    level = coverage_level(count)

    def over_quantities(values: np.ndarray) -> np.ndarray:
        return values.mean(axis=2)

    def inside(samples: np.ndarray) -> np.ndarray:
        if states.residuals is not None:
            picks = generator.integers(len(states.residuals), size=samples.shape[:3])
            samples = samples + states.residuals[picks]
        return over_quantities(coverage(samples, states.truth, level=level))

    def score(samples: np.ndarray) -> np.ndarray:
        return over_quantities(crps(samples, states.truth))

    def of_point(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return over_quantities(np.abs(prediction - truth))  # the CRPS of a point prediction

    points = reference_errors(
        of_point,
        states.truth,
        last=states.last,
        data=states.mean[None],
        one_step=states.one_step[0],
        seed=seed,
    )
    hits = inside(states.rollout)
    return [
        Measured(
            f"sample spread of the {states.what}",
            states.unit,
            over_quantities(sample_spread(states.rollout)),
            {
                "one_step": over_quantities(sample_spread(states.one_step)),
                "shuffled": over_quantities(sample_spread(states.shuffled)),
            },
        ),
        Measured(
            f"coverage of the {states.what}",
            "fraction",
            hits,
            {"one_step": inside(states.one_step), "nominal": np.full_like(hits, level)},
        ),
        Measured(
            f"CRPS of the {states.what}",
            states.unit,
            score(states.rollout),
            points | {"one_step": score(states.one_step), "shuffled": score(states.shuffled)},
        ),
    ]


def coverage_level(samples: int) -> float:
    """The level 1 − 2j/(S + 1), with integer j, that is nearest to 0.9.

    >>> [round(coverage_level(samples), 3) for samples in (2, 9, 16, 19)]
    [0.333, 0.8, 0.882, 0.9]
    """
    rank = max(1, round((samples + 1) * (1 - LEVEL) / 2))
    return 1 - 2 * rank / (samples + 1)
