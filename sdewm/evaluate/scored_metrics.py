"""Errors of samples of a prediction and of the reference lines, and the data that these need.

Scored are single samples: the error of each of the S rollouts, then its mean over them. So the
expected error does not depend on S, and that of a rollout that has forgotten everything is the
error of recorded rows drawn at random, "shuffled": the ceiling. One-step predictions and the
ceiling are scored in the same way; the constant references have one prediction only. (The mean of
many samples would end at the error of the data mean, for squared errors half the ceiling.)

The ceiling takes other steps of other episodes. Under a policy with little randomness the same step
of another episode, "unrelated", may be a good prediction: shown beside the ceiling, it says how
much of the task is the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from sdewm.evaluate.episodes import Episodes
from sdewm.evaluate.recorded_arrays import check_array
from sdewm.evaluate.reference_lines import Metric, reference_errors
from sdewm.evaluate.representation_error import clean_paths
from sdewm.latent_sde.models import LatentModel

Change = Callable[[np.ndarray], np.ndarray]


def themselves(errors: np.ndarray) -> np.ndarray:
    """For metrics that grow with the error as they are."""
    return errors


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric of a model and of its reference lines.

    Attributes:
        panel: its name.
        unit: of the numbers.
        errors: of the model, (E, H).
        references: the same by name, (E, H); of "unrelated" (⌊E/2⌋, H).
        reduce: the curve (H,) of errors (E, H); the mean over episodes unless said otherwise.
        growth: makes of errors numbers ≥ 0 that grow with the error and whose ceiling is the
            reference "shuffled"; None for a metric whose growth says nothing.
    """

    panel: str
    unit: str
    errors: np.ndarray
    references: dict[str, np.ndarray]
    reduce: Change = field(default=lambda errors: errors.mean(axis=0))
    growth: Change | None = None


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """What the metrics need of the model's training episodes.

    Attributes:
        observations: (N, T, *shape), images uint8.
        latents: posterior features, (N, T, F).
        rewards: (N, T).
        physics: (N, T, Q), or None if the physical state is not known.
    """

    observations: np.ndarray
    latents: np.ndarray
    rewards: np.ndarray
    physics: np.ndarray | None

    def mean_observation(self) -> np.ndarray:
        """Over all rows, (*shape), images in [0, 1]."""
        return in_units(self.observations.mean(axis=(0, 1)), self.observations.dtype)

    def windows(
        self, rows: np.ndarray, samples: int, episodes: int, horizon: int, seed: int
    ) -> Iterator[np.ndarray]:
        """S times E windows (E, H, …) of H consecutive rows, episode and first row at random.

        Equal for equal seeds: windows of two arrays are of the same rows.

        Args:
            rows: (N, T, …), an attribute or something made of it.
            samples: S.
            episodes: E.
            horizon: H.
            seed: of the draws.
        """
        generator, steps = np.random.default_rng(seed), np.arange(horizon)
        for _ in range(samples):
            which = generator.integers(len(rows), size=episodes)
            first = generator.integers(rows.shape[1] - horizon + 1, size=episodes)
            yield in_units(rows[which[:, None], first[:, None] + steps], rows.dtype)


def in_units(observations: np.ndarray, recorded: np.dtype) -> np.ndarray:
    """Observations that were recorded as uint8 in [0, 1], others as they are."""
    return observations / 255 if recorded == np.uint8 else observations


def training_rows(
    model: LatentModel, episodes: Episodes, *, physics: np.ndarray | None = None, seed: int
) -> TrainingRows:
    """Posterior latents, rewards and physical states of training episodes.

    Args:
        model: as `RSSMModel`.
        episodes: from their first row, best whole: the ceiling draws windows of H rows from all of
            their rows, and of episodes little longer than H it knows the first steps only.
        physics: states (N, T, Q), an angle as cosine and sine. None: of vectors the observations
            themselves, of images none.
        seed: of the posterior's draws.

    Raises:
        ValueError: physics of another shape or not finite, or as `clean_paths`.
    """
    seen = episodes.observations.cpu().numpy()
    if seen.dtype != np.uint8:
        seen = seen.astype(np.float64)
        physics = seen if physics is None else physics
    if physics is not None:
        physics = check_array("physics", physics, "(N, T, Q)")
        if physics.shape[:2] != seen.shape[:2]:
            raise ValueError(f"physics {physics.shape}: expected (N, T) = {seen.shape[:2]}.")
    latents = clean_paths(model, episodes, seed).states.cpu().numpy()
    return TrainingRows(seen, latents, episodes.rewards.double().cpu().numpy(), physics)


def scored(metric: Metric, predicted: Iterable[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Mean over samples of the metric of each, (E, H)."""
    return np.mean([metric(sample, truth) for sample in predicted], axis=0)


def compared(
    panel: str,
    unit: str,
    metric: Metric,
    *,
    rollout: np.ndarray,
    one_step: np.ndarray,
    truth: np.ndarray,
    last: np.ndarray,
    mean: np.ndarray,
    shuffled: Iterable[np.ndarray],
    seed: int,
    growth: Change | None = themselves,
) -> Measured:
    """A metric of samples (S, E, H, …) against one truth (E, H, …), with all reference lines.

    The last observed row (E, …) and the mean of the data (…) are copied to every k.
    """
    lines = reference_errors(
        metric, truth, last=last, data=mean[None], one_step=one_step[0], seed=seed
    )
    lines["one_step"] = scored(metric, one_step, truth)
    lines["shuffled"] = scored(metric, shuffled, truth)
    errors = scored(metric, rollout, truth)
    return Measured(panel, unit, errors, lines, growth=growth)
