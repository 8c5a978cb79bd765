"""Recorded episodes as the measurements take them: equal windows, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.data.dataset import read_dataset


@dataclass(frozen=True)
class Episodes:
    """Recorded episodes of equal length.

    Attributes:
        observations: (E, T, *shape), in the environment's units, images uint8.
        previous_actions: (E, T, A), row t the action that led to observation t; row 0 zero.
        rewards: (E, T), row t the reward that came with observation t.
    """

    observations: Tensor
    previous_actions: Tensor
    rewards: Tensor

    def __post_init__(self) -> None:
        lead = tuple(self.observations.shape[:2])
        for name in ("previous_actions", "rewards"):
            if tuple(getattr(self, name).shape[:2]) != lead:
                raise ValueError(
                    f"{name} has (E, T) = {tuple(getattr(self, name).shape[:2])}, observations "
                    f"{lead}: expected the same."
                )

    def first_rows(self, steps: int) -> Episodes:
        """The same episodes, cut after so many rows."""
        return Episodes(
            self.observations[:, :steps], self.previous_actions[:, :steps], self.rewards[:, :steps]
        )


def check_rows(episodes: Episodes, needed: int) -> None:
    """Refuse anything but episodes of at least `needed` rows.

    Raises:
        ValueError: other things, or fewer rows.
    """
    if not isinstance(episodes, Episodes):
        raise ValueError(f"episodes={type(episodes).__name__}: expected a sdewm.Episodes.")
    if (there := episodes.observations.shape[1]) < needed:
        raise ValueError(f"episodes of {there} rows: expected at least {needed}.")


def read_episodes(directory: Path, *, steps: int, count: int | None = None) -> Episodes:
    """The first rows of the episodes of a recorded dataset (`sdewm record`).

    Args:
        directory: of the dataset.
        steps: rows T of each, counted from the first; episodes that are shorter are left out.
        count: episodes E; None: all.

    Raises:
        ValueError: no dataset, a damaged one, or fewer episodes of that length than asked for.
    """
    check_count("steps", steps)
    wanted = None if count is None else check_count("count", count)
    windows: list[dict[str, Tensor]] = []
    for episode in read_dataset(directory):
        if len(episode["reward"]) >= steps and len(windows) != wanted:
            windows.append({name: rows[:steps] for name, rows in episode.items()})
    if not windows or len(windows) < (wanted or 1):
        raise ValueError(
            f"{directory} has {len(windows)} episodes of at least {steps} rows; expected "
            f"{wanted or 1}."
        )
    observations, actions, rewards = (
        torch.stack([window[name] for window in windows])
        for name in ("observation", "previous_action", "reward")
    )
    return Episodes(observations, actions, rewards)
