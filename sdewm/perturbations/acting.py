"""A policy that acts on perturbed observations, and what the perturbation really did to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sdewm.perturbations.draws import EpisodeCounter, Realised, draw_seed
from sdewm.perturbations.observation import ObservationPerturbation


class PerturbedPolicy:
    """A policy behind a perturbation of what it sees; the environment is not changed.

    The draws are a function of task, perturbation, strength, number of the episode and, where the
    perturbation is drawn anew at every step, step: all policies meet the same ones. Episode k of
    environment i of N has the number i + k·N. Strength 0 is the identity to the last bit.

    Args:
        policy: the policy.
        perturbation: what is done to its observations.
        task: name of the task.

    Attributes:
        realised: moments of the change so far.
    """

    def __init__(self, policy: Any, perturbation: ObservationPerturbation, task: str) -> None:
        self.policy, self.perturbation, self.task = policy, perturbation, task
        self.realised, self._places = Realised(), EpisodeCounter()

    def start(self, envs: int) -> dict[str, torch.Tensor]:
        """The policy's state; the next rows are the first ones."""
        self._places = EpisodeCounter()
        return self.policy.start(envs)

    def __call__(
        self, rows: Mapping[str, np.ndarray], state: Mapping[str, torch.Tensor]
    ) -> tuple[np.ndarray, dict[str, torch.Tensor], Mapping[str, Any]]:
        """Act on the perturbed rows; the fields to store are those of the policy."""
        places = self._places(rows["is_first"])
        pairs = zip(rows["observation"], places, strict=True)
        seen = np.stack([self._perturbed(one, *place) for one, place in pairs])
        return self.policy({**rows, "observation": seen}, state)

    def _perturbed(self, clean: np.ndarray, episode: tuple[int, int], step: int) -> np.ndarray:
        change = self.perturbation
        if change.strength == 0:
            self.realised.add(clean, clean)
            return clean
        facts = (self.task, change.name, change.held, change.strength, *episode)
        generator = torch.Generator().manual_seed(
            draw_seed(*facts, step) if change.every_step else draw_seed(*facts)
        )
        seen = change(torch.as_tensor(clean)[None, None], generator)[0, 0].numpy()
        self.realised.add(clean, seen)
        return seen
