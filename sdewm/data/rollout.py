"""Policies acting in parallel environments: rows for the replay memory, episodes for evaluation.

A row is one time step of one environment: `(observation, previous_action, reward, is_first,
is_last, is_terminal)`. `previous_action` led to the row, and `reward` was received on arrival.
The row before one with `is_first` has `is_last`, also where an episode was lost with its worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box

from sdewm.base.checks import check_count
from sdewm.data.one_hot import OneHotSpace
from sdewm.data.vector import EnvRows, EpisodeVector, first_rows, next_rows
from sdewm.data.wrappers import pack_positions, unpack_positions

PolicyState = dict[str, torch.Tensor]
# Policy steps of one episode; Atari, the longest in use, has 13 500 of two frames.
MOST_STEPS = 20_000


class Policy(Protocol):
    """A policy with state; it resets its state for an environment whose row has `is_first`."""

    def start(self, envs: int) -> PolicyState:
        """State before the first row: tensors whose first axis is the environment."""
        ...

    def __call__(
        self, rows: EnvRows, state: PolicyState
    ) -> tuple[np.ndarray, PolicyState, Mapping[str, np.ndarray]]:
        """Act on one row of each environment.

        Returns:
            Actions `(N, A)` float32 (clipped to [-1, 1] before the environment receives them), the
            next state, and further fields `(N, …)` to store with these rows.
        """
        ...


class RandomPolicy:
    """Uniform actions, determined by the seed and the number of the call.

    Continuous actions are uniform in [-1, 1], discrete ones over the classes of each group.

    Args:
        action_space: action space `(A,)` of one environment.
        seed: seed of the run.

    >>> policy = RandomPolicy(Box(-1, 1, (2,)), seed=0)
    >>> rows = {"reward": np.zeros(3)}
    >>> policy(rows, policy.start(3))[0].shape
    (3, 2)
    """

    def __init__(self, action_space: Box, seed: int) -> None:
        self.space = action_space
        self.seed = check_count("seed", seed, minimum=0)

    def start(self, envs: int) -> PolicyState:
        """Number of calls so far, once per environment."""
        return {"calls": torch.zeros(envs, dtype=torch.int64)}

    def __call__(
        self, rows: EnvRows, state: PolicyState
    ) -> tuple[np.ndarray, PolicyState, Mapping[str, np.ndarray]]:
        """Actions of this call."""
        actions = self.actions(len(rows["reward"]), int(state["calls"][0]))
        return actions, {"calls": state["calls"] + 1}, {}

    def actions(self, envs: int, call: int) -> np.ndarray:
        """Actions (N, A) of one call."""
        generator = np.random.default_rng((self.seed, call))
        if isinstance(self.space, OneHotSpace):
            groups = self.space.groups
            return self.space.from_indices(generator.integers(groups, size=(envs, len(groups))))
        return generator.uniform(-1.0, 1.0, (envs, *self.space.shape)).astype(np.float32)


class Collector:
    """Collects rows by letting a policy act, one step of all environments at a time.

    Args:
        vector: environments of `make_vector`.
        policy: the policy that acts in all of them.
        action_repeat: simulator steps per policy step, to count env_frames.

    Attributes:
        policy_steps: number of actions executed, summed over environments. Reset rows and actions
            lost with a worker are not counted.
        episodes: number of finished episodes.
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
        """The policy; it may be replaced at any time by one that starts from its initial state."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        if policy is not self._policy:
            self._policy, self._state = policy, policy.start(self.vector.num_envs)

    @property
    def finished(self) -> list[tuple[float, int]]:
        """Return and length in policy_steps of the episodes finished since the last call."""
        found, self._finished = self._finished, []
        return found

    def step(self) -> EnvRows:
        """Act on the pending rows and return them with the fields that the policy adds."""
        actions, self._state, extras = self._policy(self._rows, self._state)
        rows = {**self._rows, **extras}
        self._rows = next_rows(self.vector, actions)
        # An episode that was lost with its worker is cut off here, so that no target crosses it.
        rows["is_last"] = rows["is_last"] | self._rows["is_first"]
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
        """State for a bitwise exact continuation: arrays, tensors and integers."""
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
        """Continue from the point where `state_dict` was called, with the same kind of policy.

        The environments replay the recorded actions of their current episodes.

        Raises:
            ValueError: the replay does not lead to the saved rows, or the state does not fit.
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
    """Compare a replayed row with the saved one; frames may differ between rendering machines.

    Of obs="both" only the vector is replayed, which stands behind the frame.
    """
    observation, reward = place
    expected = saved["observation"][index]
    if expected.ndim == 1:
        expected = expected[len(expected) - len(observation) :]
    same = np.float32(reward) == saved["reward"][index]
    if expected.dtype != np.uint8:
        same = same and np.array_equal(observation, expected)
    if not same:
        raise ValueError(
            f"environment {index} replayed its episode and reached another row than the saved one "
            f"(reward {reward}, saved {saved['reward'][index]}): the simulator, its version or its "
            f"settings differ from those of the saved run."
        )


def _like(saved: Mapping[str, Any], fresh: PolicyState) -> PolicyState:
    if set(saved) != set(fresh):
        raise ValueError(
            f"state of the policy: saved {sorted(saved)}; expected {sorted(fresh)}. Set the "
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


class EndlessEpisodeError(ValueError):
    """An episode that must be complete did not end."""

    def __init__(self, env: str, number: int) -> None:
        super().__init__(
            f"env={env!r}: episode {number} has not ended after {MOST_STEPS} policy steps; "
            "evaluation and recording need episodes that end: give it a --time-limit (time_limit)."
        )


@dataclass(frozen=True)
class Episode:
    """One complete episode.

    Attributes:
        rows: fields `(T + 1, …)`: the first row and T policy steps.
        env: index of the environment.
        number: number of the episode in its environment.
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
    """Run the complete episodes 0, 1, … of each environment, the same ones at every call.

    Environment i of N runs ⌈(episodes − i)/N⌉ episodes, however long they take, so that short
    episodes are not over-represented.

    Args:
        vector: environments of `make_vector`.
        policy: the policy that acts in all of them.
        episodes: total number of episodes.
        progress: called at every step with the number of finished episodes; an exception that it
            raises ends the run.

    Returns:
        The episodes, ordered by number and then by environment. An episode cut off by the death of
        a worker is replaced by the next episode of its environment.

    Raises:
        EndlessEpisodeError: an episode does not end within 20 000 policy steps.
    """
    envs, open_rows, found = vector.num_envs, [[] for _ in range(vector.num_envs)], []
    missing = [
        (check_count("episodes", episodes) - index + envs - 1) // envs for index in range(envs)
    ]
    rows, state = first_rows(vector, {"episode": 0}), policy.start(envs)
    while any(left > 0 for left in missing):
        numbers = vector.episodes
        actions, state, extras = policy(rows, state)
        rows = {**rows, **extras}
        for index in range(envs):
            if missing[index] <= 0:
                continue
            if rows["is_first"][index]:
                open_rows[index] = []
            open_rows[index].append({name: value[index] for name, value in rows.items()})
            if len(open_rows[index]) > MOST_STEPS:
                raise EndlessEpisodeError(vector.name, numbers[index])
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
