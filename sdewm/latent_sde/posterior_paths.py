"""States of a world model along recorded episodes, with z drawn from the posterior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdewm.data.recorded_episodes import Episodes, check_rows
from sdewm.latent_sde.inputs import recorded_embeds
from sdewm.latent_sde.models import LatentModel


@dataclass(frozen=True)
class CleanPaths:
    """States along recorded episodes, with z drawn from the posterior.

    Attributes:
        states: (E, T, D).
        predicted: (E, T, D), the predicted states from which the posterior of z was computed.
        noise: (E, T, …), the noise drawn.
        embeds: (E, T, F), embeds of the observations.
    """

    states: Tensor
    predicted: Tensor
    noise: Tensor
    embeds: Tensor


def clean_paths(model: LatentModel, episodes: Episodes, seed: int = 0) -> CleanPaths:
    """States of the model along the episodes, from its initial state, under its own noise."""
    check_rows(episodes, 1)
    embeds = recorded_embeds(model, episodes.observations).transpose(0, 1)
    count, steps = embeds.shape[:2]
    generator = torch.Generator(embeds.device).manual_seed(seed)
    noise = model.draw_noise((count, steps), generator)
    states, predicted = filter_states(model, episodes.previous_actions.double(), embeds, noise)
    return CleanPaths(states, predicted, noise, embeds)


@torch.no_grad()
def filter_states(
    model: LatentModel, actions: Tensor, embeds: Tensor, noise: Tensor, before: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """States and predicted states (N, T, D) along inputs (N, T, …).

    `before` (N, D) are the states before the first row; None: the model's initial state.
    """
    state = model.initial(len(embeds)).to(embeds) if before is None else before
    states, means = [], []
    for t in range(embeds.shape[1]):
        state, mean = model.sample(state, actions[:, t], embeds[:, t], noise[:, t])
        states.append(state)
        means.append(mean)
    return torch.stack(states, 1), torch.stack(means, 1)
