"""Wrappers of every environment: action repeat, actions in [-1, 1], pixels, numbered episodes.

An episode is determined by three integers and its actions: its first state is drawn from the seed
`episode_seed(seed, index, episode)`. Its state at any time can be recovered by replaying the
recorded actions, also in another process. Simulators therefore need not save their state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs

from sdewm.base.checks import check_count
from sdewm.data.observations import FRAME_SHAPE, FRAME_SIZE, join

LARGEST_REWARD = float(np.finfo(np.float32).max)


def episode_seed(seed: int, index: int, episode: int) -> int:
    """Seed of one episode, below 2³¹ as every simulator accepts.

    Args:
        seed: seed of the run.
        index: index of the environment among the parallel ones.
        episode: number of the episode in that environment, from 0.

    >>> episode_seed(0, 0, 0), episode_seed(0, 1, 0), episode_seed(0, 0, 1)
    (2044266242, 1976665982, 1790637272)
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(index, episode))
    return int(sequence.generate_state(1)[0] >> 1)


class ActionRepeat(gymnasium.Wrapper, RecordConstructorArgs):
    """Applies an action `repeat` times, or until the episode ends, and sums the rewards.

    Raises:
        ValueError: `repeat` is not an integer of at least 1.
    """

    def __init__(self, env: gymnasium.Env, repeat: int) -> None:
        RecordConstructorArgs.__init__(self, repeat=repeat)
        gymnasium.Wrapper.__init__(self, env)
        self.repeat = check_count("action_repeat", repeat)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take `repeat` simulator steps; the observation is that of the last."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        total = float(reward)
        for _ in range(self.repeat - 1):
            if terminated or truncated:
                break
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
        return observation, total, terminated, truncated, info


class UnitActions(gymnasium.ActionWrapper, RecordConstructorArgs):
    """Actions in [-1, 1], scaled to the bounds of the environment and cast to its dtype.

    The environment receives low + (a + 1)/2·(high − low), which is a itself for bounds ±1, and of
    whole numbers the nearest.

    Raises:
        ValueError: the action space is not a one-dimensional Box with finite bounds.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.ActionWrapper.__init__(self, env)
        box = env.action_space
        if not isinstance(box, Box) or len(box.shape) != 1 or not box.shape[0]:
            raise ValueError(
                f"actions {box}: expected a one-dimensional Box, Discrete or MultiDiscrete."
            )
        if not (np.isfinite(box.low).all() and np.isfinite(box.high).all()):
            raise ValueError(
                f"actions {box}: expected finite bounds, because actions of a policy in [-1, 1] "
                f"are scaled to them."
            )
        self.low, self.high = box.low.astype(np.float64), box.high.astype(np.float64)
        self.dtype = np.dtype(box.dtype)
        self.unit = bool((self.low == -1).all() and (self.high == 1).all())
        self.action_space = Box(-1.0, 1.0, box.shape, np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """The action that the environment receives."""
        if self.unit and self.dtype.kind == "f":
            return np.asarray(action, dtype=self.dtype)
        stretched = self.low + (np.asarray(action, np.float64) + 1) / 2 * (self.high - self.low)
        if self.dtype.kind != "f":
            stretched = stretched.round()  # a cast would leave 0.99999999 at 0
        return np.clip(stretched, self.low, self.high).astype(self.dtype)


@dataclass(frozen=True)
class Position:
    """Position of an environment: sufficient to restore it by replay.

    Attributes:
        seed: seed of the run.
        episode: number of the episode; -1 before the first.
        actions: `(T, A)` float32 in [-1, 1], all actions of the episode so far.
        over: whether the next step starts the next episode.
    """

    seed: int
    episode: int
    actions: np.ndarray
    over: bool


def pack_positions(positions: Sequence[Position]) -> dict[str, np.ndarray]:
    """Positions as arrays for a checkpoint; the actions of all positions are concatenated."""
    return {
        "seed": np.array([position.seed for position in positions], np.int64),
        "episode": np.array([position.episode for position in positions], np.int64),
        "over": np.array([position.over for position in positions], bool),
        "taken": np.array([len(position.actions) for position in positions], np.int64),
        "actions": np.concatenate([position.actions for position in positions]),
    }


def unpack_positions(packed: Mapping[str, np.ndarray]) -> list[Position]:
    """The inverse of `pack_positions`.

    >>> actions = np.ones((2, 1), np.float32)
    >>> positions = [Position(0, 3, actions, False), Position(0, 5, actions[:0], True)]
    >>> [len(position.actions) for position in unpack_positions(pack_positions(positions))]
    [2, 0]
    """
    parts = np.split(np.asarray(packed["actions"]), np.cumsum(packed["taken"])[:-1])
    return [
        Position(int(seed), int(episode), actions, bool(over))
        for seed, episode, over, actions in zip(
            packed["seed"], packed["episode"], packed["over"], parts, strict=True
        )
    ]


class SeededEpisodes(gymnasium.Wrapper, RecordConstructorArgs):
    """Numbers the episodes, seeds each one, and restores a position by replay.

    `reset()` starts the next episode, `reset(options={"episode": k})` episode k,
    `reset(seed=s)` episode 0 of the run with seed s. A step after the end of an episode starts
    the next one, with reward 0. The info of a row that starts an episode is {"is_first": True};
    that of any other row is empty.

    Args:
        env: an environment with one-dimensional vector observations.
        seed: seed of the run.
        index: index of this environment among the parallel ones.
        sharing: number N of environments that share the sequence of episodes of a single one:
            episode k of this environment is number index + k·N of it. None: each has its own.
    """

    def __init__(
        self, env: gymnasium.Env, seed: int, index: int, sharing: int | None = None
    ) -> None:
        RecordConstructorArgs.__init__(self, seed=seed, index=index, sharing=sharing)
        gymnasium.Wrapper.__init__(self, env)
        self.seed = check_count("seed", seed, minimum=0)
        self.index = check_count("index", index, minimum=0)
        self.sharing = None if sharing is None else check_count("sharing", sharing)
        self.episode, self.steps, self.over = -1, 0, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the next episode, or the one selected by `seed` or `options`."""
        if seed is not None:
            self.seed, self.episode = check_count("seed", seed, minimum=0), -1
        if options is not None and "episode" in options:
            self.episode = check_count("options['episode']", options["episode"], minimum=0) - 1
        self.episode, self.steps, self.over = self.episode + 1, 0, False
        place = self.index, self.episode
        if self.sharing is not None:
            place = 0, self.index + self.sharing * self.episode
        observation, _ = self.env.reset(seed=episode_seed(self.seed, *place))
        return self._checked(observation), {"is_first": True}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One policy step, or the first row of the next episode if the current one is over."""
        if self.over:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        observation, gain, terminated, truncated, _ = self.env.step(action)
        self.steps += 1
        self.over, reward = terminated or truncated, float(gain)
        if not abs(reward) <= LARGEST_REWARD:
            raise ValueError(
                f"reward {reward} at {self._place()}: expected a finite number of at most "
                f"{LARGEST_REWARD:.3g} in size, because rewards are stored as float32."
            )
        return self._checked(observation), reward, terminated, truncated, {}

    def restore(self, positions: list[Position]) -> tuple[Any, float] | None:
        """Restore this environment's position, given those of all parallel environments.

        Returns:
            Observation and reward of the current row; None if the next step starts an episode.

        Raises:
            ValueError: the episode ends before its recorded actions do, or with the last of them.
        """
        position = positions[self.index]
        self.seed, self.episode, self.over = position.seed, position.episode, True
        if position.over:
            return None
        (observation, _), reward = self.reset(options={"episode": position.episode}), 0.0
        for action in position.actions:
            observation, reward, _, _, _ = self.step(action)
            if self.over:
                raise ValueError(
                    f"{len(position.actions)} actions were recorded that do not end the episode, "
                    f"but the replayed one ended at {self._place()}: the simulator is not the "
                    "recorded one."
                )
        return observation, reward

    def _place(self) -> str:
        place = f"episode {self.episode}, step {self.steps} of environment {self.index}"
        spec = self.unwrapped.spec
        return place if spec is None else f"{place} ({spec.id})"

    def _checked(self, observation: np.ndarray) -> np.ndarray:
        if observation.dtype != np.uint8 and not np.isfinite(observation).all():
            raise ValueError(f"an observation at {self._place()} is not finite: {observation}.")
        return observation


class Pixels(gymnasium.Wrapper):
    """Replaces each observation by a frame, or puts a frame before it.

    It is the outermost wrapper, so that repeated actions and replayed episodes render nothing.

    Args:
        env: any environment with vector observations.
        draw: function that returns the current frame, `(64, 64, 3)` uint8.
        both: whether the vector remains, as in obs="both".
    """

    def __init__(
        self, env: gymnasium.Env, draw: Callable[[], np.ndarray], both: bool = False
    ) -> None:
        super().__init__(env)
        self.draw, self.both = draw, both
        self.observation_space = Box(0, 255, FRAME_SHAPE, np.uint8)
        if both:
            size = FRAME_SIZE + int(np.prod(env.observation_space.shape or ()))
            self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the environment and render a frame."""
        vector, info = self.env.reset(seed=seed, options=options)
        return self._seen(vector), info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Step the environment and render a frame."""
        vector, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(vector), reward, terminated, truncated, info

    def _seen(self, vector: np.ndarray) -> np.ndarray:
        return join(self.draw(), vector) if self.both else self.draw()
