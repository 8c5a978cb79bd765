"""Sources of the training rows of a run: environments, or a recorded dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box

from sdewm.base.fields import later_defaults
from sdewm.data.dataset import UNKNOWN, Dataset, fill, read_dataset
from sdewm.data.envs import make_env
from sdewm.data.one_hot import OneHotSpace
from sdewm.data.replay import Field, Replay
from sdewm.data.rollout import Collector, Policy, RandomPolicy
from sdewm.data.vector import EpisodeVector, make_vector
from sdewm.train.config import Config, check_config

# Fields of a configuration that a dataset stores, because they determine its episodes.
RECORDED = ("env", "env_kwargs", "time_limit", "obs", "action_repeat")


class Source(Protocol):
    """Interface of a source of rows to the training loop."""

    replay: Replay

    @property
    def spaces(self) -> tuple[Box, Box]:
        """Observation and action space of one environment."""
        ...

    @property
    def step_name(self) -> str:
        """Name of the counter that measures the progress of the run."""
        ...

    @property
    def total(self) -> int:
        """Value of that counter at the end of the run."""
        ...

    @property
    def planned_updates(self) -> int:
        """Number of updates in the whole run."""
        ...

    @property
    def env_frames(self) -> int:
        """Simulator steps so far, summed over environments."""
        ...

    @property
    def policy_steps(self) -> int:
        """Policy steps so far, summed over environments."""
        ...

    def attach(self, policy: Policy, latent_fields: Mapping[str, Field]) -> None:
        """Create the replay; the policy acts after the prefill."""
        ...

    def done(self, updates: int) -> int:
        """Value of the counter `step_name` after `updates` updates."""
        ...

    def due_updates(self) -> int:
        """Number of updates due so far."""
        ...

    def collect(self) -> list[tuple[float, int]]:
        """One step of all environments into the replay; (return, length) of finished episodes."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """State of the source without the replay."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`; the continuation is bitwise exact."""
        ...

    def refill(self) -> None:
        """Fill a replay whose saved rows are lost, as far as there is something to fill it with."""
        ...

    def close(self) -> None:
        """Free the environments."""
        ...


def configured_vector(
    config: Config,
    envs: int,
    seed: int,
    change: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
    *,
    shared: bool = False,
) -> EpisodeVector:
    """`envs` parallel environments of the run; a single one runs without a worker.

    Changed simulators stay in this process, where what was changed can be read back. Whether the
    environments share one sequence of episodes is said in `make_vector`.
    """
    return make_vector(
        config.env,
        envs=envs,
        workers=config.workers and envs > 1 and change is None,
        obs=config.obs,
        action_repeat=config.action_repeat,
        render=config.render,
        seed=seed,
        time_limit=config.time_limit,
        env_kwargs=config.env_kwargs,
        change=change,
        shared=shared,
    )


class EnvironmentSource:
    """Rows of parallel environments in which the agent's policy acts.

    With `random_prefill`, the actions of the first `prefill_policy_steps` are uniformly random.
    After p policy steps, ⌊(p − prefill)·train_ratio/(batch_size·batch_length)⌋ updates are due.

    Raises:
        ValueError: the run would end before its first update.
    """

    step_name = "env_frames"

    def __init__(self, config: Config) -> None:
        _check_learns(config)
        self.config, self.total = config, config.env_frames
        self.planned_updates = self._due(config.env_frames // config.action_repeat)
        self.vector = configured_vector(config, config.envs, config.seed)
        observation, action = self.vector.single_observation_space, self.vector.single_action_space
        assert isinstance(observation, Box) and isinstance(action, Box)
        self.spaces: tuple[Box, Box] = observation, action

    def attach(self, policy: Policy, latent_fields: Mapping[str, Field]) -> None:
        """Create the replay and the collector; the policy acts after the prefill."""
        config, self.policy = self.config, policy
        fields = _fields(*self.spaces)
        self.replay = _replay(config, {**fields, **latent_fields}, config.envs)
        # Rows of the random policy have no latent states yet.
        self._blank = {
            name: torch.zeros((config.envs, *field.shape), dtype=field.dtype)
            for name, field in latent_fields.items()
        }
        first = policy
        if config.random_prefill:
            first = RandomPolicy(self.spaces[1], seed=config.seed)
        self.collector = Collector(self.vector, first, config.action_repeat)

    @property
    def env_frames(self) -> int:
        """Simulator steps so far, summed over environments."""
        return self.collector.env_frames

    @property
    def policy_steps(self) -> int:
        """Policy steps so far, summed over environments."""
        return self.collector.policy_steps

    def done(self, updates: int) -> int:
        """Simulator steps so far, summed over environments."""
        return self.collector.env_frames

    def due_updates(self) -> int:
        """Number of updates due so far."""
        enough = self.replay.can_sample(self.config.batch_length + self.config.context)
        return self._due(self.collector.policy_steps) if enough else 0

    def _due(self, policy_steps: int) -> int:
        config = self.config
        fresh, batch = (
            policy_steps - config.prefill_policy_steps,
            config.batch_size * config.batch_length,
        )
        return max(0, math.floor(fresh * config.train_ratio / batch))

    def collect(self) -> list[tuple[float, int]]:
        """One step of all environments into the replay; (return, length) of finished episodes."""
        if self.collector.policy_steps >= self.config.prefill_policy_steps:
            self.collector.policy = self.policy
        self.replay.add({**self._blank, **self.collector.step()})
        return self.collector.finished

    def state_dict(self) -> dict[str, Any]:
        """The environments' positions and the policy's state."""
        acts = self.collector.policy is self.policy
        return {"collector": self.collector.state_dict(), "agent_acts": acts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`; the continuation is bitwise exact."""
        if state["agent_acts"]:
            self.collector.policy = self.policy
        self.collector.load_state_dict(state["collector"])

    def refill(self) -> None:
        """Nothing: the policy collects new rows, and no update is made before there are enough."""

    def close(self) -> None:
        """Close the environments."""
        self.vector.close()


class DatasetSource:
    """Rows of a recorded dataset, all loaded into the replay at the start."""

    step_name = "updates"
    env_frames = policy_steps = 0

    def __init__(self, config: Config, data: Path) -> None:
        self.config, self.total = config, config.updates
        self.planned_updates = config.updates
        self.dataset = read_dataset(data)
        self.spaces: tuple[Box, Box] = recorded_spaces(self.dataset)

    def attach(self, policy: Policy, latent_fields: Mapping[str, Field]) -> None:
        """Create the replay and fill it; the policy is not used."""
        fields = _fields(*self.spaces)
        self.replay = _replay(self.config, {**fields, **latent_fields}, 1, self.dataset.rows)
        fill(self.replay, self.dataset)
        window = self.config.batch_length + self.config.context
        if not self.replay.can_sample(window):
            raise ValueError(
                f"batch_length={self.config.batch_length}: sequences of {window} rows, including "
                f"the context, cannot be drawn from a dataset of {self.dataset.rows} rows."
            )

    def done(self, updates: int) -> int:
        """The number of updates."""
        return updates

    def due_updates(self) -> int:
        """All updates of the run."""
        return self.total

    def collect(self) -> list[tuple[float, int]]:
        """Nothing is collected."""
        raise AssertionError("a recorded dataset collects nothing")

    def state_dict(self) -> dict[str, Any]:
        """What identifies the episodes; apart from them, only the replay changes."""
        return {"episodes": self.dataset.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that the episodes are those of the saved state.

        Raises:
            ValueError: they are not.
        """
        if state.get("episodes", self.dataset.digest) != self.dataset.digest:
            raise ValueError(
                f"data={str(self.dataset.directory)!r} holds other episodes than those that the "
                "run was trained on."
            )

    def refill(self) -> None:
        """Fill the replay with the episodes of the dataset."""
        fill(self.replay, self.dataset)

    def close(self) -> None:
        """Nothing to do."""


def recorded_spaces(dataset: Dataset) -> tuple[Box, Box]:
    """Observation and action space of the rows of a dataset."""
    observation, action = (dataset.fields[name] for name in ("observation", "previous_action"))
    pixels = observation.dtype == torch.uint8
    low, high, kind = (0, 255, np.uint8) if pixels else (-np.inf, np.inf, np.float32)
    groups = dataset.action_groups
    actions = OneHotSpace(groups) if groups else Box(-1.0, 1.0, action.shape, np.float32)
    return Box(low, high, observation.shape, kind), actions


def check_environment(config: Config) -> tuple[Box, Box]:
    """Construct the environment once, so that errors appear before the run is created.

    One of others' (gym:) also makes one step, which shows whether it keeps Gymnasium's conventions.

    Returns:
        Its observation and action spaces.

    Raises:
        ValueError: it cannot be constructed; the message gives the reason.
    """
    try:
        env = make_env(
            config.env,
            obs=config.obs,
            action_repeat=config.action_repeat,
            render=config.render,
            seed=config.seed,
            index=0,
            time_limit=config.time_limit,
            env_kwargs=config.env_kwargs,
        )
    except RuntimeError as problem:  # no OpenGL
        raise ValueError(str(problem)) from problem
    assert isinstance(env.observation_space, Box) and isinstance(env.action_space, Box)
    try:
        if config.env.startswith("gym:"):
            env.reset()
            env.step(RandomPolicy(env.action_space, config.seed).actions(1, 0)[0])
    finally:
        env.close()
    return env.observation_space, env.action_space


def _check_learns(config: Config) -> None:
    """Refuse a run that would end before its first update."""
    steps = -(-config.env_frames // config.action_repeat) + config.envs - 1
    batch, window = config.batch_size * config.batch_length, config.batch_length + config.context
    wanted = config.prefill_policy_steps + math.ceil(batch / config.train_ratio)
    if steps < wanted:
        raise ValueError(
            f"env_frames={config.env_frames}: the run would end before its first update, which is "
            f"due after prefill_policy_steps + batch_size·batch_length/train_ratio = {wanted} "
            f"policy steps of action_repeat={config.action_repeat} frames."
        )
    if steps < window * config.envs:
        raise ValueError(
            f"env_frames={config.env_frames}: the run would end before its first update, which "
            f"needs a sequence of {window} rows, batch_length and context, in each of "
            f"envs={config.envs}."
        )


def as_recorded(config: Config, data: Path, given: Collection[str]) -> Config:
    """The configuration with the environment of a dataset.

    What is not known of an imported dataset may be given. The environment stays UNKNOWN otherwise,
    and a row counts as one simulator step.

    Args:
        config: the configuration.
        data: directory of the dataset.
        given: names of the fields that the user set, which must agree with the dataset.

    Raises:
        ValueError: there is no dataset, a field in `given` differs from the dataset, or the
            configuration does not fit its observations.
    """
    facts = later_defaults(Config) | read_dataset(data).facts
    known = {name: facts[name] for name in RECORDED if facts[name] != UNKNOWN}
    for name, value in known.items():
        asked = getattr(config, name)
        if name in given and asked != value:
            raise ValueError(f"{name}={asked!r}: {data} was recorded with {value!r}.")
    unstated = {"env": UNKNOWN, "action_repeat": 1}
    assumed = {name: unstated[name] for name in unstated if name not in {*known, *given}}
    found = replace(config, **known, **assumed)
    check_config(found)  # its observations may not be those that were checked before
    return found


def check_recorded_task(known: Mapping[str, Any], data: Path, whose: str) -> None:
    """Refuse recorded episodes of another environment, observation or action repeat.

    What is not known on one side is not compared.

    Args:
        known: the fields `RECORDED`, of a configuration or of other episodes.
        data: directory of the recorded episodes.
        whose: what has these fields, for the message.

    Raises:
        ValueError: there is no dataset, or a field differs.
    """
    recorded = later_defaults(Config) | read_dataset(data).facts
    for name in RECORDED:
        if UNKNOWN not in (known[name], recorded[name]) and known[name] != recorded[name]:
            raise ValueError(
                f"data={str(data)!r} has {name}={recorded[name]!r}, but {whose} has "
                f"{name}={known[name]!r}: expected episodes of the same task."
            )


def _fields(observation: Box, action: Box) -> dict[str, Field]:
    """The fields of every row."""
    kind = torch.uint8 if observation.dtype == np.uint8 else torch.float32
    flags = {name: Field((), torch.bool) for name in ("is_first", "is_last", "is_terminal")}
    return {
        "observation": Field(observation.shape, kind),
        "previous_action": Field(action.shape, torch.float32),
        "reward": Field((), torch.float32),
        **flags,
    }


def _replay(config: Config, fields: Mapping[str, Field], envs: int, least: int = 0) -> Replay:
    capacity = max(config.replay_capacity, least)
    return Replay(fields, capacity=capacity, envs=envs, device=config.device, seed=config.seed)
