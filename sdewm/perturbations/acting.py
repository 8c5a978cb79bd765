"""A policy that acts on perturbed observations, and what the perturbation really did to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sdewm.perturbations.observation import ObservationPerturbation


def draw_seed(*facts: object) -> int:
    """A seed from the facts that determine a draw; equal facts give equal draws everywhere.

    >>> draw_seed("task", "noise", 0.1, 3) == draw_seed("task", "noise", 0.1, 3)
    True
    """
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


class Realised:
    """Moments of the change of all entries: perturbed − clean, images in units of 255.

    Attributes:
        count: number of entries seen.
    """

    def __init__(self) -> None:
        self.count, self._sum, self._squares, self._changed = 0, 0.0, 0.0, 0

    def add(self, clean: np.ndarray, perturbed: np.ndarray) -> None:
        """Count the entries of one observation."""
        unit = 255.0 if clean.dtype == np.uint8 else 1.0
        change = (perturbed.astype(np.float64) - clean.astype(np.float64)) / unit
        self.count += change.size
        self._sum += float(change.sum())
        self._squares += float((change**2).sum())
        self._changed += int(np.count_nonzero(change))

    def summary(self) -> dict[str, float]:
        """Mean and standard deviation of the change, and the share of entries changed."""
        count = max(self.count, 1)
        mean = self._sum / count
        spread = max(self._squares / count - mean**2, 0.0) ** 0.5
        return {
            "realised_mean": mean,
            "realised_std": spread,
            "realised_share": self._changed / count,
        }


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
