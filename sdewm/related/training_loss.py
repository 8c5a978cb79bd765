"""The loss of a world model as a function of its weights, without penalty or comparators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdewm.data.recorded_episodes import Episodes
from sdewm.model.world_model import ReplayRows, WorldModel, total_loss


class TrainingLoss(nn.Module):
    """L(θ) = Σ weight · loss over the terms of `WorldModel.losses`, for given rows and noise.

    Args:
        world_model: has the weights θ; a module of its own, for `torch.func.functional_call`.
        stop_gradients: as in training, where the KL divergence moves prior and posterior by terms
            of their own. Their sum is then no gradient of a function; without, it is that of L.
    """

    def __init__(self, world_model: WorldModel, stop_gradients: bool) -> None:
        super().__init__()
        self.world_model, self.stop_gradients = world_model, stop_gradients

    def forward(self, rows: ReplayRows, noise: Tensor) -> Tensor:
        """The loss of rows (B, T, …)."""
        model = self.world_model
        seen = model.observe(rows, noise)
        losses = model.losses(rows, seen)
        if not self.stop_gradients:
            kl, free = model.rssm.latent.kl(seen.posterior, seen.prior), model.config.free_nats
            if model.config.free_nats_on == "state":
                kl = kl.clamp(min=free)
            losses["dyn"] = losses["rep"] = kl.mean().clamp(min=free)
        return total_loss(losses, model.weights())

    def weights(self) -> dict[str, Tensor]:
        """θ by name."""
        return {name: weight.detach() for name, weight in self.named_parameters()}


def replay_rows(episodes: Episodes) -> ReplayRows:
    """Episodes that neither begin nor end within their rows, as a batch of training in float64."""
    rewards = episodes.rewards.double()
    never = torch.zeros(rewards.shape, dtype=torch.bool)
    actions, seen = episodes.previous_actions.double(), episodes.observations
    seen = seen.double() if seen.is_floating_point() else seen
    return ReplayRows(seen, actions, rewards, never, never, never)
