"""Latents and decoded observations of a model that filters observations with noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.study.end_points import SETTLED, Measurement


class Filtered(NamedTuple):
    """What a model makes of the test episodes, without the first `SETTLED` rows of each.

    Attributes:
        features: [h, z], the input of every head: (E, T, F).
        means: of the posterior: (E, T, Z).
        decoded: observations, in standard deviations of the data: (E, T, *shape).
    """

    features: Tensor
    means: Tensor
    decoded: np.ndarray


@torch.no_grad()
def filtered(given: Measurement, strength: float, draw: int = 0) -> Filtered:
    """Filter the test episodes with white noise on the observations.

    The noise of the latents is the same for all strengths and draws, so that differences are due to
    the observations alone.

    Args:
        given: the run.
        strength: standard deviation of the noise, in the observations' units.
        draw: number of the draw of the noise.
    """
    clean, model = given.episodes.observations, given.model
    seen = clean
    if strength:
        generator = torch.Generator().manual_seed(given.seed + 1 + draw)
        seen = ObservationPerturbation("noise", strength)(clean, generator)
    shape = tuple(clean.shape[:2])
    state, posterior = model.rssm.filter(
        model.embed(seen),
        given.episodes.previous_actions.double(),
        torch.zeros(shape, dtype=torch.bool),
        model.draw_noise(shape, torch.Generator().manual_seed(given.seed)),
    )
    features = state.features[:, SETTLED:]
    decoded = model.world_model.decoder.predict(features).numpy() / given.scale
    return Filtered(features, model.rssm.latent.mean(posterior)[:, SETTLED:], decoded)


def recorded(given: Measurement) -> np.ndarray:
    """The observations that `Filtered.decoded` should equal: (E, T, *shape)."""
    return given.episodes.observations[:, SETTLED:].double().numpy() / given.unit
