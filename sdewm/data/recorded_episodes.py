"""Recorded episodes as tensors: windows of equal length, one for each episode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_count, check_place
from sdewm.data.dataset import read_dataset


@dataclass(frozen=True)
class Episodes:
    """Recorded episodes of equal length.

    Attributes:
        observations: (E, T, *shape), in the environment's units, images uint8.
        previous_actions: (E, T, A); row t is the action that led to observation t, row 0 is zero.
        rewards: (E, T); row t is the reward received with observation t.
    """

    observations: Tensor
    previous_actions: Tensor
    rewards: Tensor

    def __post_init__(self) -> None:
        for name in ("observations", "previous_actions", "rewards"):
            given = getattr(self, name)
            if not isinstance(given, Tensor):
                raise ValueError(
                    f"{name}={type(given).__name__}: expected a tensor (E, T, …), one row of time "
                    "after the other; torch.as_tensor converts arrays."
                )
            check_place(name, given)
            if given.dim() < 2 or given.numel() == 0:
                raise ValueError(f"{name} has shape {tuple(given.shape)}: expected (E, T, …).")
        lead = tuple(self.observations.shape[:2])
        for name in ("previous_actions", "rewards"):
            if tuple(getattr(self, name).shape[:2]) != lead:
                raise ValueError(
                    f"{name} has (E, T) = {tuple(getattr(self, name).shape[:2])}, observations "
                    f"{lead}: expected the same."
                )

    def first_rows(self, steps: int) -> Episodes:
        """The same episodes, truncated to their first `steps` rows."""
        return Episodes(
            self.observations[:, :steps], self.previous_actions[:, :steps], self.rewards[:, :steps]
        )


def check_rows(episodes: Episodes, needed: int) -> None:
    """Check that `episodes` is an `Episodes` of at least `needed` rows.

    Raises:
        ValueError: another type, or fewer rows.
    """
    if not isinstance(episodes, Episodes):
        raise ValueError(
            f"episodes={type(episodes).__name__}: expected a sdewm.Episodes, made by "
            "sdewm.Episodes(observations, previous_actions, rewards)."
        )
    if (there := episodes.observations.shape[1]) < needed:
        raise ValueError(f"episodes of {there} rows: expected at least {needed}.")


def read_episodes(
    directory: Path, *, steps: int, count: int | None = None, window_seed: int | None = None
) -> Episodes:
    """Windows of equal length from the episodes of a recorded dataset (`sdewm record`).

    Episodes that start from nearly the same state stay similar for a while and are not independent
    units during that time. With `window_seed`, each window therefore begins at a random row. A
    model filters from the zero state there, as in training, so the action before the window is set
    to zero.

    Args:
        directory: folder of the dataset.
        steps: rows T of each window; shorter episodes are omitted.
        count: number E of episodes, the first that are long enough; None: all.
        window_seed: seed of the random first rows; None: windows begin with their episodes.

    Raises:
        ValueError: the dataset is missing or damaged, or has too few episodes of `steps` rows.
    """
    check_count("steps", steps)
    wanted = None if count is None else check_count("count", count)
    generator = None if window_seed is None else np.random.default_rng(window_seed)
    windows: list[dict[str, Tensor]] = []
    for episode in read_dataset(directory):
        spare = len(episode["reward"]) - steps
        if spare >= 0 and len(windows) != wanted:
            first = 0 if generator is None else int(generator.integers(spare + 1))
            windows.append({name: rows[first : first + steps] for name, rows in episode.items()})
    if not windows or len(windows) < (wanted or 1):
        raise ValueError(
            f"{directory} has {len(windows)} episodes of at least {steps} rows; expected "
            f"{wanted or 1}."
        )
    observations, actions, rewards = (
        torch.stack([window[name] for window in windows])
        for name in ("observation", "previous_action", "reward")
    )
    actions[:, 0] = 0
    return Episodes(observations, actions, rewards)
