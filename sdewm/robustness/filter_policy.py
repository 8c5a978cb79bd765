"""Filter, then act: one run's world model cleans what another run's agent acts on.

Returns of different world models then differ by what they make of a perturbed observation, without
the variance of reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdewm.model.rssm import State
from sdewm.model.world_model import WorldModel
from sdewm.train.policy import AgentPolicy

PREFIX = "filter_"


class FilterPolicy:
    """A policy that sees observations decoded from the posterior of another world model.

    At every row the world model updates its latent state by the observation, and its decoder's
    prediction takes the place of the observation: in units of the environment, images rounded.

    Args:
        world_model: filters and decodes.
        policy: acts on what it decodes.
        generator: of the world model's latent noise.

    Raises:
        ValueError: the two were made for different observations or actions.
    """

    def __init__(
        self, world_model: WorldModel, policy: AgentPolicy, generator: torch.Generator
    ) -> None:
        self.world_model, self.policy, self.generator = world_model, policy, generator

    def start(self, envs: int) -> dict[str, Tensor]:
        """The states of both before the first row."""
        own = self.world_model.rssm.initial(envs)._asdict()
        return {**self.policy.start(envs), **{PREFIX + name: own[name] for name in own}}

    @torch.no_grad()
    def __call__(
        self, rows: Mapping[str, np.ndarray], state: Mapping[str, Tensor]
    ) -> tuple[np.ndarray, dict[str, Tensor], Mapping[str, Any]]:
        """Actions on the decoded rows; nothing is to be stored."""
        rssm = self.world_model.rssm
        before = State(*(state[PREFIX + name] for name in State._fields))
        noise = rssm.latent.draw_noise((len(rows["reward"]),), self.generator)
        now = rssm.observe_step(
            before,
            torch.as_tensor(rows["previous_action"]),
            torch.as_tensor(rows["is_first"]),
            self.world_model.encoder(torch.as_tensor(rows["observation"])),
            noise,
        )
        seen = self.world_model.decoder.predict(now.features)
        if rows["observation"].dtype == np.uint8:
            seen = (255 * seen).clamp(0, 255).round().to(torch.uint8)
        inner = {name: value for name, value in state.items() if not name.startswith(PREFIX)}
        actions, after, _ = self.policy({**rows, "observation": seen.numpy()}, inner)
        own = now._asdict()
        return actions, {**after, **{PREFIX + name: own[name] for name in own}}, {}
