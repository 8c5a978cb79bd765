"""Acting with a world model: filter the latent state along the rows, ask the actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sdewm.data.replay import Field
from sdewm.model.behaviour import Actor
from sdewm.model.rssm import RSSMConfig, State
from sdewm.model.world_model import WorldModel


class AgentPolicy:
    """A `sdewm.data.rollout.Policy`: the latent state is its memory.

    Args:
        world_model: filters the observations.
        actor: chooses actions from features.
        generator: noise of latents and actions.
        mode: "sample" draws actions, "mean" takes the mean.
        store_latents: return the latent state with every row, for the replay.
    """

    def __init__(
        self,
        world_model: WorldModel,
        actor: Actor,
        generator: torch.Generator,
        mode: Literal["sample", "mean"],
        store_latents: bool = False,
    ) -> None:
        self.world_model, self.actor = world_model, actor
        self.generator, self.mode, self.store_latents = generator, mode, store_latents

    def start(self, envs: int) -> dict[str, Tensor]:
        """The state before any row."""
        return self.world_model.rssm.initial(envs)._asdict()

    @torch.no_grad()
    def __call__(
        self, rows: Mapping[str, np.ndarray], state: Mapping[str, Tensor]
    ) -> tuple[np.ndarray, dict[str, Tensor], dict[str, Any]]:
        """Actions (N, A) in [−1, 1], the next state, and the latents of these rows if asked for."""
        device, rssm = self.generator.device, self.world_model.rssm
        count = len(rows["reward"])
        observation, action, is_first = (
            torch.as_tensor(rows[name], device=device)
            for name in ("observation", "previous_action", "is_first")
        )
        noise = rssm.latent.draw_noise((count,), self.generator)
        before = State(state["deter"], state["stoch"])
        embed = self.world_model.encoder(observation)
        now = rssm.observe_step(before, action, is_first, embed, noise)
        law = self.actor(now.features)
        chosen = law.mean
        if self.mode == "sample":
            chosen = law.sample(self.actor.law.draw_noise(tuple(law.mean.shape), self.generator))
        extras: dict[str, Any] = {}
        if self.store_latents:
            extras = {
                "deter": now.deter.to(torch.float16),
                "stoch": store_stoch(now.stoch, self.world_model.config.rssm),
            }
        return chosen.clamp(-1, 1).float().cpu().numpy(), now._asdict(), extras


def stored_fields(config: RSSMConfig) -> dict[str, Field]:
    """Fields of the replay that hold a latent state: deter in half precision, `store_stoch`."""
    stoch = (
        Field((config.groups,), torch.uint8, mutable=True)
        if config.latent == "categorical"
        else Field((config.gaussian_size,), torch.float32, mutable=True)
    )
    return {"deter": Field((config.deter,), torch.float16, mutable=True), "stoch": stoch}


def store_stoch(stoch: Tensor, config: RSSMConfig) -> Tensor:
    """A sample as it is kept in the replay: class numbers (…, S) of one-hot groups."""
    if config.latent == "gaussian":
        return stoch.float()
    return stoch.unflatten(-1, (config.groups, config.classes)).argmax(-1).to(torch.uint8)


def stored_stoch(stored: Tensor, config: RSSMConfig) -> Tensor:
    """The inverse of `store_stoch`: a flat sample (…, Z)."""
    if config.latent == "gaussian":
        return stored.float()
    return functional.one_hot(stored.long(), config.classes).float().flatten(-2)
