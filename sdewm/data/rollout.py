"""Policies acting in parallel environments: rows for the replay memory, episodes for evaluation.

A row is one time step of one environment. Its action led to it, and its reward was received on
arriving there: `(observation, previous_action, reward, is_first, is_last, is_terminal)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box

from sdewm.base.checks import check_count
from sdewm.data.vector import EnvRows, EpisodeVector, first_rows, next_rows
from sdewm.data.wrappers import pack_positions, unpack_positions

PolicyState = dict[str, torch.Tensor]


class Policy(Protocol):
    """What acts. It forgets the past of an environment where its row has `is_first`."""

    def start(self, envs: int) -> PolicyState:
        """State before the first row: tensors whose first dimension is the environment."""
        ...

    def __call__(
        self, rows: EnvRows, state: PolicyState
    ) -> tuple[np.ndarray, PolicyState, Mapping[str, np.ndarray]]:
        """Act on one row of each environment.

        Returns:
            Actions `(N, A)` float32 (the environment gets them clipped to [-1, 1]), the next
            state, and fields `(N, …)` to add to the rows that were acted on.
        """
        ...


class RandomPolicy:
    """Actions uniform in [-1, 1], a function of the seed and the number of the call only.

    Args:
        action_space: of one environment, `(A,)`.
        seed: of the run.

    >>> policy = RandomPolicy(Box(-1, 1, (2,)), seed=0)
    >>> rows = {"reward": np.zeros(3)}
    >>> policy(rows, policy.start(3))[0].shape
    (3, 2)
    """

    def __init__(self, action_space: Box, seed: int) -> None:
        self.shape = action_space.shape
        self.seed = check_count("seed", seed, minimum=0)

    def start(self, envs: int) -> PolicyState:
        """Number of calls so far, once per environment."""
        return {"calls": torch.zeros(envs, dtype=torch.int64)}

    def __call__(
        self, rows: EnvRows, state: PolicyState
    ) -> tuple[np.ndarray, PolicyState, Mapping[str, np.ndarray]]:
        """Actions of this call."""
        envs = len(rows["reward"])
        generator = np.random.default_rng((self.seed, int(state["calls"][0])))
        actions = generator.uniform(-1.0, 1.0, (envs, *self.shape)).astype(np.float32)
        return actions, {"calls": state["calls"] + 1}, {}


class Collector:
    """Lets a policy act, one vector step at a time.

    Args:
        vector: environments of `make_vector`.
        policy: acts in all of them at once.
        action_repeat: of the environments, to count simulator steps.

    Attributes:
        policy_steps: actions carried out, each environment counted (reset rows and actions lost
            with a worker are none).
        episodes: finished ones.
    """

    def __init__(self, vector: EpisodeVector, policy: Policy, action_repeat: int) -> None:
        self.vector = vector
        self.action_repeat = check_count("action_repeat", action_repeat)
        self.policy_steps = self.episodes = 0
        self._policy, self._state = policy, policy.start(vector.num_envs)
        self._returns = np.zeros(vector.num_envs)
        self._lengths = np.zeros(vector.num_envs, np.int64)
        self._finished: list[tuple[float, int]] = []
        self._rows = first_rows(vector)

    @property
    def env_frames(self) -> int:
        """Simulator steps: policy_steps × action_repeat."""
        return self.policy_steps * self.action_repeat

    @property
    def policy(self) -> Policy:
        """What acts; another one may take its place at any time, and starts without memory."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        if policy is not self._policy:
            self._policy, self._state = policy, policy.start(self.vector.num_envs)

    @property
    def finished(self) -> list[tuple[float, int]]:
        """Return and length in policy steps of the episodes that ended since last asked."""
        found, self._finished = self._finished, []
        return found

    def step(self) -> EnvRows:
        """Act on the pending rows; these, with what the policy adds, are returned."""
        actions, self._state, extras = self._policy(self._rows, self._state)
        rows = {**self._rows, **extras}
        self._rows = next_rows(self.vector, actions)
        self._count()
        return rows

    def _count(self) -> None:
        acted = ~self._rows["is_first"]
        self.policy_steps += int(acted.sum())
        self._returns = np.where(acted, self._returns + self._rows["reward"], 0.0)
        self._lengths = np.where(acted, self._lengths + 1, 0)
        for index in np.flatnonzero(self._rows["is_last"]):
            self._finished.append((float(self._returns[index]), int(self._lengths[index])))
            self.episodes += 1

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on bitwise: arrays, tensors and whole numbers."""
        return {
            "rows": {name: value.copy() for name, value in self._rows.items()},
            "policy_state": {
                name: value.detach().to("cpu", copy=True) for name, value in self._state.items()
            },
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
            "finished": np.array(self._finished, np.float64).reshape(-1, 2),
            "policy_steps": self.policy_steps,
            "episodes": self.episodes,
            "positions": pack_positions(self.vector.positions),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was called, with the same kind of policy.

        The environments play their present episodes again.

        Raises:
            ValueError: if that does not lead to the saved rows, or the state does not fit.
        """
        saved = {name: np.array(value) for name, value in state["rows"].items()}
        if set(saved) != set(self._rows) or any(
            saved[name].shape != value.shape for name, value in self._rows.items()
        ):
            shapes = {name: value.shape for name, value in saved.items()}
            raise ValueError(
                f"rows of the saved state: {shapes}; expected "
                f"{ {name: value.shape for name, value in self._rows.items()} }."
            )
        found = self.vector.restore(unpack_positions(state["positions"]))
        for index, place in enumerate(found):
            if place is not None:
                _check_place(index, place, saved)
        self._state = _like(state["policy_state"], self._policy.start(self.vector.num_envs))
        self._rows = saved
        self._returns, self._lengths = np.array(state["returns"]), np.array(state["lengths"])
        self._finished = [(float(gain), int(length)) for gain, length in state["finished"]]
        self.policy_steps, self.episodes = int(state["policy_steps"]), int(state["episodes"])


def _check_place(index: int, place: tuple[Any, float], saved: EnvRows) -> None:
    """Compare a replayed row with the saved one; frames may differ between drawing machines."""
    observation, reward = place
    expected = saved["observation"][index]
    same = np.float32(reward) == saved["reward"][index]
    if expected.dtype != np.uint8:
        same = same and np.array_equal(observation, expected)
    if not same:
        raise ValueError(
            f"environment {index} played its episode again and got to another row than the saved "
            f"one (reward {reward}, saved {saved['reward'][index]}): the simulator, its version "
            f"or its settings are not those of the saved run."
        )


def _like(saved: Mapping[str, Any], fresh: PolicyState) -> PolicyState:
    if set(saved) != set(fresh):
        raise ValueError(
            f"state of the policy: saved {sorted(saved)}; this one's is {sorted(fresh)}. Set the "
            f"collector's policy to the kind that was saved before loading."
        )
    loaded = {}
    for name, value in fresh.items():
        tensor = torch.as_tensor(saved[name])
        if tensor.shape != value.shape:
            raise ValueError(
                f"state {name!r} of the policy: saved shape {tuple(tensor.shape)}; expected "
                f"{tuple(value.shape)}."
            )
        loaded[name] = tensor.to(device=value.device, dtype=value.dtype, copy=True)
    return loaded


@dataclass(frozen=True)
class Episode:
    """One complete episode.

    Attributes:
        rows: fields `(T + 1, …)`: T policy steps and the first row.
        env: index of the environment.
        number: of the episode in its environment.
    """

    rows: EnvRows
    env: int
    number: int

    @property
    def total_reward(self) -> float:
        """Sum of the rewards."""
        return float(self.rows["reward"].sum(dtype=np.float64))

    @property
    def length(self) -> int:
        """Number of policy steps."""
        return len(self.rows["reward"]) - 1


def run_episodes(
    vector: EpisodeVector,
    policy: Policy,
    episodes: int,
    *,
    progress: Callable[[int], None] | None = None,
) -> list[Episode]:
    """Complete episodes 0, 1, … of each environment, the same ones at every call.

    Environment i of N runs ⌈(episodes − i)/N⌉ of them, however long they take, so short episodes
    are not favoured.

    Args:
        vector: environments of `make_vector`.
        policy: acts in all of them at once.
        episodes: how many in all.
        progress: called at every step with the number of episodes that are finished; what it
            raises ends the run.

    Returns:
        The episodes, by number and then by environment. One that was cut off by the death of a
        worker is replaced by the next one of its environment.
    """
    envs, open_rows, found = vector.num_envs, [[] for _ in range(vector.num_envs)], []
    missing = [
        (check_count("episodes", episodes) - index + envs - 1) // envs for index in range(envs)
    ]
    rows, state = first_rows(vector, {"episode": 0}), policy.start(envs)
    while any(left > 0 for left in missing):
        numbers = [position.episode for position in vector.positions]
        actions, state, extras = policy(rows, state)
        rows = {**rows, **extras}
        for index in range(envs):
            if missing[index] <= 0:
                continue
            if rows["is_first"][index]:
                open_rows[index] = []
            open_rows[index].append({name: value[index] for name, value in rows.items()})
            if rows["is_last"][index]:
                steps = open_rows[index]
                stacked = {name: np.stack([row[name] for row in steps]) for name in rows}
                found.append(Episode(stacked, index, numbers[index]))
                missing[index] -= 1
        if progress is not None:
            progress(len(found))
        if any(left > 0 for left in missing):
            rows = next_rows(vector, actions)
    return sorted(found, key=lambda episode: (episode.number, episode.env))
