"""Recorded episodes as tensors: windows of equal length, one for each episode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_count, check_real_tensor
from sdewm.data.dataset import read_dataset
from sdewm.data.episode_arrays import EpisodeRows, ObservationForm, episode_rows, split_episodes


@dataclass(frozen=True)
class Episodes:
    """Recorded episodes of equal length; `from_arrays` makes them of what others store.

    All numbers are finite.

    Attributes:
        observations: (E, T, *shape), in the environment's units: vectors (D,), or images (H, W, C)
            uint8 of any size.
        previous_actions: (E, T, A); row t is the action that led to observation t, row 0 is zero.
        rewards: (E, T); row t is the reward received with observation t.
    """

    observations: Tensor
    previous_actions: Tensor
    rewards: Tensor

    def __post_init__(self) -> None:
        axes = {"observations": "(E, T, *shape)", "previous_actions": "(E, T, A)",
                "rewards": "(E, T)"}  # fmt: skip
        for name, expected in axes.items():
            given = getattr(self, name)
            if not isinstance(given, Tensor):
                raise ValueError(
                    f"{name}={type(given).__name__}: expected a tensor (E, T, …), one row of time "
                    "after the other; torch.as_tensor converts arrays."
                )
            check_real_tensor(name, given)
            dims = expected.count(",") + 1
            fits = given.dim() == dims or (name == "observations" and given.dim() > dims)
            if not fits or given.numel() == 0:
                raise ValueError(f"{name} has shape {tuple(given.shape)}: expected {expected}.")
            if given.is_floating_point() and not bool((finite := torch.isfinite(given)).all()):
                place = (~finite).nonzero()[0].tolist()
                raise ValueError(
                    f"{name}: {given[tuple(place)].item()} at {place}: expected finite numbers."
                )
        lead = tuple(self.observations.shape[:2])
        for name in ("previous_actions", "rewards"):
            if tuple(getattr(self, name).shape[:2]) != lead:
                raise ValueError(
                    f"{name} has (E, T) = {tuple(getattr(self, name).shape[:2])}, observations "
                    f"{lead}: expected the same."
                )

    @classmethod
    def from_arrays(
        cls,
        observations: Any,
        actions: Any,
        rewards: Any,
        *,
        convention: str,
        keys: str | Sequence[str] | None = None,
        channels: str | None = None,
        pixel_max: int | None = None,
        steps: int | None = None,
        window_seed: int | None = None,
    ) -> Episodes:
        """Episodes from NumPy arrays, torch tensors, or mappings of these.

        Each of the first three arguments is an array (E, T, …), or a list with one array (T_e, …)
        an episode. Whether episodes ended for good is not needed: no analysis uses it.

        Args:
            observations: vectors (T, D) or images an episode, or a mapping of names to them. Images
                have one of the shapes (T, H, W), (T, H, W, C), (T, C, H, W) and, with K stacked
                frames, (T, K, H, W, C) or (T, K, C, H, W). They become uint8 (T, H, W, C), where
                stacked frames follow one another in the channels; values that are not uint8 are
                scaled by 255/pixel_max and rounded. Vectors are not scaled.
            actions: (T, A), one-hot if discrete.
            rewards: (T,).
            convention: "previous" if row t holds the action that led to observation t and the
                reward received with it, as DreamerV2 and dreamerv3-torch store them; "next" if it
                holds the action taken after observation t and the reward of that action, as
                Gymnasium and D4RL store them. (danijar/dreamerv3 stores actions as "next", rewards
                as "previous": move its actions down by a row.) With "next", T − 1 rows are enough,
                and a last one is left out, as the observation after it is not recorded. The action
                of row 0 becomes zero.
            keys: names of the observations that the model gets, if a mapping has more than one.
                Vectors are concatenated in this order. One image may be among them: it is divided
                by 255, flattened, and stands before the vectors.
            channels: "first" or "last"; None if the shape tells it: one end of (a, b, c) is less
                than half of both other axes.
            pixel_max: value of the brightest pixel, 1 or 255, of images that are not uint8.
            steps: rows of the window that is taken from each episode, shorter episodes being left
                out; None for episodes of equal length.
            window_seed: seed of the first rows of windows, as in `read_episodes`; None: windows
                begin with their episodes.

        Raises:
            ValueError: a name, shape, type or value that does not fit; the message names the
                argument and the episode.

        >>> frames = np.zeros((2, 5, 3, 8, 8), np.uint8)  # channels first
        >>> Episodes.from_arrays(frames, np.zeros((2, 5, 1)), np.zeros((2, 5)),
        ...                      convention="previous").observations.shape
        torch.Size([2, 5, 8, 8, 3])
        >>> states = {"position": [np.zeros((4, 2)), np.zeros((6, 2))],
        ...           "velocity": [np.ones((4, 2)), np.ones((6, 2))]}
        >>> found = Episodes.from_arrays(
        ...     states, [np.ones((3, 1)), np.ones((5, 1))], [np.ones(3), np.ones(5)],
        ...     convention="next", keys=["position", "velocity"], steps=4)
        >>> found.observations[0, 0].tolist(), found.previous_actions[0, :, 0].tolist()
        ([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0])
        """
        names = (keys,) if isinstance(keys, str) else None if keys is None else tuple(keys)
        form = ObservationForm(names, channels, pixel_max)
        parts = split_episodes(observations, actions, rewards)
        rows = [
            episode_rows(*part, convention=convention, form=form, name=f"episode {number}")
            for number, part in enumerate(parts)
        ]
        lengths = [len(one.rewards) for one in rows]
        least, most = min(lengths), max(lengths)
        if steps is None and least < most:
            raise ValueError(
                f"the episodes have {least} to {most} rows: give steps, the length of the windows "
                f"that are taken; steps={least} takes one of each episode."
            )
        found = _windows(rows, steps=most if steps is None else steps, window_seed=window_seed)
        if not found:
            raise ValueError(f"steps={steps}: the episodes have {least} to {most} rows.")
        return _stacked(found)

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
    model filters from its initial state there, as in training, so the action before it is set
    to zero.

    Args:
        directory: folder of the dataset.
        steps: rows T of each window; shorter episodes are omitted.
        count: number E of episodes, the first that are long enough; None: all.
        window_seed: seed of the random first rows; None: windows begin with their episodes.

    Raises:
        ValueError: the dataset is missing or damaged, or has too few episodes of `steps` rows.
    """
    wanted = None if count is None else check_count("count", count)
    recorded = (
        EpisodeRows(one["observation"], one["previous_action"], one["reward"])
        for one in read_dataset(directory)
    )
    windows = _windows(recorded, steps=steps, count=wanted, window_seed=window_seed)
    if not windows or len(windows) < (wanted or 1):
        raise ValueError(
            f"{directory} has {len(windows)} episodes of at least {steps} rows; expected "
            f"{wanted or 1}."
        )
    return _stacked(windows)


def windows_of(
    episodes: Episodes, *, steps: int, count: int | None = None, window_seed: int | None = None
) -> Episodes:
    """Windows of given episodes, chosen as `read_episodes` does; no window leaves its episode.

    Raises:
        ValueError: too few episodes, or rows.
    """
    there, rows = episodes.rewards.shape[:2]
    check_rows(episodes, check_count("steps", steps))
    if count is not None and check_count("count", count) > there:
        raise ValueError(f"{there} episodes of {rows} rows; expected {count}.")
    each = (EpisodeRows(*(part[number] for part in _parts(episodes))) for number in range(there))
    return _stacked(_windows(each, steps=steps, count=count, window_seed=window_seed))


def _parts(episodes: Episodes) -> tuple[Tensor, Tensor, Tensor]:
    return episodes.observations, episodes.previous_actions, episodes.rewards


def _windows(
    episodes: Iterable[EpisodeRows],
    *,
    steps: int,
    count: int | None = None,
    window_seed: int | None = None,
) -> list[EpisodeRows]:
    """A window of `steps` rows of each of the first `count` episodes that are long enough."""
    check_count("steps", steps)
    generator = None
    if window_seed is not None:
        generator = np.random.default_rng(check_count("window_seed", window_seed, minimum=0))
    windows: list[EpisodeRows] = []
    for episode in episodes:
        spare = len(episode.rewards) - steps
        if spare >= 0 and len(windows) != count:
            first = 0 if generator is None else int(generator.integers(spare + 1))
            windows.append(EpisodeRows(*(part[first : first + steps] for part in episode)))
    return windows


def _stacked(windows: Sequence[EpisodeRows]) -> Episodes:
    """Windows of equal length as `Episodes`, the action before each window being zero.

    Raises:
        ValueError: windows of different shapes.
    """
    for name in EpisodeRows._fields:
        shapes = [tuple(getattr(window, name).shape[1:]) for window in windows]
        if other := next((n for n, shape in enumerate(shapes) if shape != shapes[0]), None):
            raise ValueError(
                f"{name} of a row have the shape {shapes[0]} in the first episode and "
                f"{shapes[other]} in another: expected one shape."
            )
    observations, actions, rewards = (
        torch.stack([window[place] for window in windows]) for place in range(3)
    )
    actions[:, 0] = 0
    return Episodes(observations, actions, rewards)
