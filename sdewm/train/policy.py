"""The policy of an agent: filters the latent state along the rows and applies the actor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sdewm.model.behaviour import Actor
from sdewm.model.rssm import State
from sdewm.model.world_model import WorldModel
from sdewm.train.latent_storage import pack_stoch


class AgentPolicy:
    """A `sdewm.data.rollout.Policy` whose state is the latent state of the world model.

    Args:
        world_model: model that filters the observations.
        actor: actor that maps features to actions.
        generator: generator of the noise of latents and actions.
        mode: "sample" draws actions, "mean" takes their mean; of one-hot actions the likeliest.
        store_latents: whether to return the latent state with every row, for the replay.
        autocast: a new context in which the networks compute.

    Attributes:
        latent_error: None, or a function of stoch (N, Z) and is_first (N,) whose result takes the
            place of stoch before the actor sees it.
    """

    def __init__(
        self,
        world_model: WorldModel,
        actor: Actor,
        generator: torch.Generator,
        mode: Literal["sample", "mean"],
        store_latents: bool = False,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.world_model, self.actor = world_model, actor
        self.generator, self.mode, self.store_latents = generator, mode, store_latents
        self.autocast = autocast
        self.latent_error: Callable[[Tensor, Tensor], Tensor] | None = None

    def start(self, envs: int) -> dict[str, Tensor]:
        """The state before the first row."""
        return self.world_model.rssm.initial(envs)._asdict()

    @torch.no_grad()
    def __call__(
        self, rows: Mapping[str, np.ndarray], state: Mapping[str, Tensor]
    ) -> tuple[np.ndarray, dict[str, Tensor], dict[str, Any]]:
        """Actions (N, A) in [−1, 1], the next state, and latents of these rows if requested."""
        rssm, count = self.world_model.rssm, len(rows["reward"])
        observation, action, is_first = self._on_device(rows)
        noise = rssm.latent.draw_noise((count,), self.generator)
        before = State(state["deter"], state["stoch"])
        with self.autocast():
            embed = self.world_model.encoder(observation)
            now = rssm.observe_step(before, action, is_first, embed, noise)
            if self.latent_error is not None:
                now = State(now.deter, self.latent_error(now.stoch, is_first))
            law = self.actor(now.features)
        if self.mode == "sample":
            chosen = law.sample(self.actor.draw_noise((count,), self.generator))
        else:
            chosen = law.mode
        extras: dict[str, Any] = {}
        if self.store_latents:
            extras = {
                "deter": now.deter.to(torch.float16),
                "stoch": pack_stoch(now.stoch, self.world_model.config.rssm),
            }
        return chosen.clamp(-1, 1).float().cpu().numpy(), now._asdict(), extras

    def _on_device(self, rows: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        """Observation, previous action and is_first; numbers of one type travel in one array."""
        device, observation = self.generator.device, rows["observation"]
        parts = [rows["previous_action"], rows["is_first"].astype(np.float32)[:, None]]
        if observation.dtype == np.float32:
            parts.append(observation)
        packed = torch.as_tensor(np.concatenate(parts, 1)).to(device)
        size = parts[0].shape[1]
        action, is_first = packed[:, :size], packed[:, size] != 0
        if observation.dtype == np.float32:
            return packed[:, size + 1 :], action, is_first
        return torch.as_tensor(observation).to(device), action, is_first
