"""Training data of the open-loop metrics: posterior latents, rewards and physical states."""

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
    """Rows of the model's training episodes, as used by the metrics.

    Attributes:
        observations: (N, T, *shape), images uint8.
        latents: (N, T, F), posterior features.
        rewards: (N, T).
        physics: (N, T, Q), or None if the physical state is not known.
    """

    observations: np.ndarray
    latents: np.ndarray
    rewards: np.ndarray
    physics: np.ndarray | None

    def mean_observation(self) -> np.ndarray:
        """Mean over all rows, (*shape); images in [0, 1]."""
        return in_units(self.observations.mean(axis=(0, 1)), self.observations.dtype)

    def windows(
        self, rows: np.ndarray, samples: int, episodes: int, horizon: int, seed: int
    ) -> Iterator[np.ndarray]:
        """S arrays (E, H, …), each of E windows of H consecutive rows at random places.

        Episode and first row of every window are drawn uniformly. Equal seeds select equal rows in
        different arrays.

        Args:
            rows: (N, T, …), an attribute or an array derived from one.
            samples: S.
            episodes: E.
            horizon: H.
            seed: seed of the draws.
        """
        generator, steps = np.random.default_rng(seed), np.arange(horizon)
        for _ in range(samples):
            which = generator.integers(len(rows), size=episodes)
            first = generator.integers(rows.shape[1] - horizon + 1, size=episodes)
            yield in_units(rows[which[:, None], first[:, None] + steps], rows.dtype)


def in_units(observations: np.ndarray, recorded: np.dtype) -> np.ndarray:
    """Observations recorded as uint8 scaled to [0, 1]; others unchanged."""
    return observations / 255 if recorded == np.uint8 else observations


def training_rows(
    model: LatentModel, episodes: Episodes, *, physics: np.ndarray | None = None, seed: int
) -> TrainingRows:
    """Posterior latents, rewards and physical states of training episodes.

    Args:
        model: the world model as an `RSSMModel`.
        episodes: episodes from their first row, complete if possible. The ceiling draws windows of
            H rows from all of their rows; in truncated episodes it would know only first steps.
        physics: states (N, T, Q), an angle as cosine and sine. None: the observations themselves
            if they are vectors, no physical state for images.
        seed: seed of the posterior samples.

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
