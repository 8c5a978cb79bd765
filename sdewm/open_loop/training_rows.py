"""Training data of the open-loop metrics: observations, posterior latents and rewards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sdewm.base.arrays import require_array
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import LatentModel
from sdewm.latent_sde.posterior_paths import clean_paths


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Rows of the model's training episodes, as used by the metrics.

    Attributes:
        observations: (N, T, *shape), images uint8.
        latents: (N, T, F), posterior features; not all equal.
        rewards: (N, T).

    Raises:
        ValueError: arrays of other shapes, values that are not finite, or equal latents.
    """

    observations: np.ndarray
    latents: np.ndarray
    rewards: np.ndarray

    def __post_init__(self) -> None:
        if self.observations.dtype != np.uint8:
            require_array("observations", self.observations, "(N, T, D)")
        latents = require_array("latents", self.latents, "(N, T, F)")
        lead = require_array("rewards", self.rewards, "(N, T)").shape
        for name in ("observations", "latents"):
            if (shape := getattr(self, name).shape)[:2] != lead:
                raise ValueError(f"{name} {shape}: expected (N, T) = {lead} as the rewards.")
        if (latents == latents[0, 0]).all():  # not var() == 0: rounding makes that positive
            raise ValueError("latents: all rows are equal; expected latents that vary.")

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


def training_rows(model: LatentModel, episodes: Episodes, *, seed: int) -> TrainingRows:
    """Observations, posterior latents and rewards of training episodes.

    Args:
        model: any `LatentModel` that takes observations.
        episodes: complete if they are equally long, else parts of them at random places. The
            ceiling draws windows of H rows from all of their rows; of first rows alone it would
            know only first steps.
        seed: seed of the posterior samples.

    Raises:
        ValueError: as `TrainingRows` and `clean_paths`.
    """
    seen = episodes.observations.cpu().numpy()
    if seen.dtype != np.uint8:
        seen = seen.astype(np.float64)
    latents = clean_paths(model, episodes, seed).states.cpu().numpy()
    return TrainingRows(seen, latents, episodes.rewards.double().cpu().numpy())
