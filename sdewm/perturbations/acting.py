"""A policy that acts on perturbed observations, and what the perturbation really did to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sdewm.perturbations.draws import Realised, draw_seed
from sdewm.perturbations.observation import ObservationPerturbation


class PerturbedPolicy:
    """A policy behind a perturbation of what it sees; the environment is not changed.

    The draws are a function of task, perturbation, strength, environment, episode and, where the
    perturbation is drawn anew at every step, step: all policies meet the same ones. Strength 0 is
    the identity to the last bit.

    Args:
        policy: the policy.
        perturbation: what is done to its observations.
        task: name of the task.

    Attributes:
        realised: moments of the change so far.
    """

    def __init__(self, policy: Any, perturbation: ObservationPerturbation, task: str) -> None:
        self.policy, self.perturbation, self.task = policy, perturbation, task
        self.realised = Realised()

    def start(self, envs: int) -> dict[str, torch.Tensor]:
        """The policy's state, with number of the episode and step of each environment."""
        counters = {name: torch.zeros(envs, dtype=torch.int64) for name in ("episode", "step")}
        counters["episode"] -= 1
        return {**self.policy.start(envs), **counters}

    def __call__(
        self, rows: Mapping[str, np.ndarray], state: Mapping[str, torch.Tensor]
    ) -> tuple[np.ndarray, dict[str, torch.Tensor], Mapping[str, Any]]:
        """Act on the perturbed rows; the fields to store are those of the policy."""
        first = torch.as_tensor(rows["is_first"])
        episode = state["episode"] + first.to(torch.int64)
        step = torch.where(first, 0, state["step"] + 1)
        seen = np.stack(
            [
                self._perturbed(one, index, int(episode[index]), int(step[index]))
                for index, one in enumerate(rows["observation"])
            ]
        )
        inner = {name: value for name, value in state.items() if name not in ("episode", "step")}
        actions, after, extras = self.policy({**rows, "observation": seen}, inner)
        return actions, {**after, "episode": episode, "step": step}, extras

    def _perturbed(self, clean: np.ndarray, env: int, episode: int, step: int) -> np.ndarray:
        change = self.perturbation
        if change.strength == 0:
            self.realised.add(clean, clean)
            return clean
        facts = (self.task, change.name, change.held, change.strength, env, episode)
        generator = torch.Generator().manual_seed(
            draw_seed(*facts, step) if change.every_step else draw_seed(*facts)
        )
        seen = change(torch.as_tensor(clean)[None, None], generator)[0, 0].numpy()
        self.realised.add(clean, seen)
        return seen
