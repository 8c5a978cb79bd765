"""What the open-loop metrics need of the training episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sdewm.base.arrays import check_array
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import LatentModel
from sdewm.latent_sde.posterior_paths import clean_paths


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
