"""Parallel environments that survive the death of a worker and can be checkpointed.

Gymnasium's SyncVectorEnv or AsyncVectorEnv does the stepping. This wrapper records the actions of
the current episodes. Replaying them restores the state of every environment after a checkpoint is
loaded, and after a worker has died and all workers are restarted.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper

from sdewm.base.checks import check_count
from sdewm.base.fields import Arguments
from sdewm.data.envs import make_env
from sdewm.data.workers import Workers
from sdewm.data.wrappers import Position

# After this many deaths of a worker without a finished episode in between, the run is given up.
MOST_DEATHS_IN_A_ROW = 3

EnvRows = dict[str, np.ndarray]


def make_vector(
    env: str,
    *,
    envs: int,
    workers: bool,
    obs: str,
    action_repeat: int,
    render: str,
    seed: int,
    time_limit: int | None = None,
    env_kwargs: Arguments | None = None,
    change: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
    shared: bool = False,
) -> EpisodeVector:
    """Parallel environments of `make_env`, with the indices 0, 1, … and one seed.

    Args:
        env: name of the environment, as in `make_env`.
        envs: number of environments.
        workers: whether each environment runs in its own process, with observations in shared
            memory. This is faster where a step takes much longer than 0.1 ms. The workers import
            the main script, which therefore needs the usual `if __name__ == "__main__"`.
        obs: "proprio", "positions", "pixels" or "both", as in `make_env`.
        action_repeat: simulator steps per policy step.
        render: "full" or "fast", as in `make_env`.
        seed: seed of the run.
        time_limit: simulator steps of the longest episode, as in `make_env`.
        env_kwargs: arguments of the environment's constructor, as in `make_env`.
        change: wraps each simulator, as in `make_env`.
        shared: whether the environments share one sequence of episodes, that of a single one, as in
            `SeededEpisodes`; otherwise each has its own.

    Raises:
        ValueError: as `make_env`, or the number of environments is not allowed.
        RuntimeError: as `make_env`, or the workers do not start.

    >>> vector = make_vector("own:cartpole_pixels", envs=2, workers=False, obs="proprio",
    ...                      action_repeat=2, render="fast", seed=0)
    >>> observation, infos = vector.reset()
    >>> observation.shape, infos["is_first"].tolist()
    ((2, 5), [True, True])
    """
    common = {
        "env": env,
        "obs": obs,
        "action_repeat": action_repeat,
        "render": render,
        "seed": seed,
        "time_limit": time_limit,
        "env_kwargs": env_kwargs,
        "change": change,
        "sharing": envs if shared else None,
    }
    functions = [
        functools.partial(make_env, **common, index=index)
        for index in range(check_count("envs", envs))
    ]
    return EpisodeVector(functions, workers=workers, seed=seed, name=env)


class EpisodeVector(VectorWrapper):
    """A vector environment that records the positions of its environments.

    The last row of an episode is followed by the first row of the next one: the action of that
    step is ignored and its reward is 0. Rows that start an episode are marked in
    infos["is_first"] `(N,)`, which is present only if there is such a row.

    If a worker dies or its environment raises, a warning is written to stderr and all workers are
    restarted. The affected environment starts its next episode, and all others resume at exactly
    their former positions.

    Args:
        functions: one per environment; each constructs a `SeededEpisodes` environment whose index
            is its position in the list.
        workers: whether each environment runs in its own process.
        seed: seed of the run.
        name: name of the environment, for messages.

    Attributes:
        restarts: number of times that a worker had to be replaced.
    """

    def __init__(
        self,
        functions: list[Callable[[], gymnasium.Env]],
        *,
        workers: bool,
        seed: int,
        name: str,
    ) -> None:
        self.functions, self.workers, self.name = functions, workers, name
        self.restarts = 0
        self._deaths = [0] * len(functions)  # since the last finished episode
        self._seeds, self._episodes = [seed] * len(functions), [-1] * len(functions)
        self._over = [True] * len(functions)
        self._actions: list[list[np.ndarray]] = [[] for _ in functions]
        self._vector = self._start()
        super().__init__(self._vector)

    def _start(self) -> SyncVectorEnv | Workers:
        if not self.workers:
            return SyncVectorEnv(self.functions, autoreset_mode=AutoresetMode.NEXT_STEP)
        try:
            return Workers(self.functions)
        except (EOFError, OSError) as problem:
            raise RuntimeError(
                f"the {len(self.functions)} workers of env={self.name!r} did not start "
                f"({type(problem).__name__}: {problem}); see above, or use workers=False."
            ) from problem

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start the next episode everywhere; options={"episode": k} starts episode k.

        A `seed` starts episode 0 of environment i under seed + i, as Gymnasium specifies.
        """
        for index in range(self.num_envs):
            if seed is not None:
                self._seeds[index], self._episodes[index] = seed + index, -1
            if options is not None and "episode" in options:
                self._episodes[index] = options["episode"] - 1
            self._actions[index], self._over[index] = [], True
        result = self._surely(lambda: self._vector.reset(seed=seed, options=options))
        if result is None:  # Workers died; in the new ones, every step starts an episode.
            result = self._step(np.zeros(self.action_space.shape or (), np.float32))[::4]
        self._note_starts(result[1])
        return result

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One policy step of each environment.

        Args:
            actions: `(N, A)` in [-1, 1].

        Raises:
            ValueError: actions of a wrong shape, not finite or outside [-1, 1].
        """
        actions = np.array(actions, dtype=np.float32)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions: shape {actions.shape}; expected {self.action_space.shape}.")
        if not (np.abs(actions) <= 1).all():
            raise ValueError(f"actions: {actions}; expected finite numbers in [-1, 1].")
        result = self._step(actions)
        first = result[4].get("is_first", np.zeros(self.num_envs, bool))
        for index in np.flatnonzero(~first):
            self._actions[index].append(actions[index])
        self._note_starts(result[4])
        for index in np.flatnonzero(result[2] | result[3]):
            self._over[index], self._deaths[index] = True, 0
        return result

    def _step(self, actions: np.ndarray) -> Any:
        while (result := self._surely(lambda: self._vector.step(actions))) is None:
            pass
        return result

    def _note_starts(self, infos: dict[str, Any]) -> None:
        for index in np.flatnonzero(infos.get("is_first", False)):
            self._episodes[index] += 1
            self._actions[index], self._over[index] = [], False

    @property
    def episodes(self) -> list[int]:
        """The number of each environment's episode; -1 before the first."""
        return [*self._episodes]

    @property
    def positions(self) -> list[Position]:
        """The position of each environment."""
        shape = self.single_action_space.shape or ()
        return [
            Position(
                seed=self._seeds[index],
                episode=self._episodes[index],
                actions=np.array(self._actions[index], np.float32).reshape(-1, *shape),
                over=self._over[index],
            )
            for index in range(self.num_envs)
        ]

    def restore(self, positions: list[Position]) -> list[tuple[Any, float] | None]:
        """Restore every environment to its position by replaying its episode without rendering.

        Returns:
            For each environment, vector observation and reward of its current row, or None where
            the next step starts an episode.

        Raises:
            ValueError: the numbers of positions and environments differ, or an episode ends before
                its recorded actions do.
        """
        if len(positions) != self.num_envs:
            raise ValueError(
                f"positions: {len(positions)} given; expected {self.num_envs}, one per environment."
            )
        self._vector.reset()  # Gymnasium forgets which episodes were over.
        found = list(self._vector.call("restore", positions))
        for index, position in enumerate(positions):
            self._seeds[index], self._episodes[index] = position.seed, position.episode
            self._over[index], self._actions[index] = position.over, list(position.actions)
        return found

    def _surely(self, act: Callable[[], Any]) -> Any:
        """The result of `act`, or None if the workers had to be restarted."""
        if not isinstance(self._vector, Workers):
            return act()
        try:
            return self._vector.quietly(act)
        except Exception as problem:  # Whatever an environment raises arrives here.
            dead = self._vector.dead(problem)
            if not dead:
                raise
            self._replace(self._vector, dead, problem)
        return None

    def _replace(self, vector: Workers, dead: dict[int, int | None], problem: Exception) -> None:
        vector.kill()
        for index, code in dead.items():
            self._deaths[index] += 1
            self.restarts += 1
            reason = (
                f"raised {type(problem).__name__}: {problem}"
                if code is None
                else f"ended with exit code {code}"
            )
            story = f"worker {index} of {self.name} {reason}"
            if self._deaths[index] >= MOST_DEATHS_IN_A_ROW:
                raise ChildProcessError(  # an OSError: the command line says it in one sentence
                    f"{story}; this was failure {self._deaths[index]} without a finished episode "
                    f"in between. Use workers=False to see where an exception comes from."
                ) from problem
            lost = 0 if self._over[index] else len(self._actions[index])
            print(
                f"warning: {story} in episode {self._episodes[index]}; restarted "
                f"({self.restarts} so far), {lost} policy_steps of the episode are lost",
                file=sys.stderr,
                flush=True,
            )
            self._actions[index], self._over[index] = [], True
        self.env = self._vector = self._start()
        self._surely(lambda: self.restore(self.positions))

    def close(self, **kwargs: Any) -> None:
        """Close the environments and end their workers."""
        if isinstance(self._vector, Workers):
            self._vector.kill()
        else:
            self._vector.close(**kwargs)


def first_rows(vector: EpisodeVector, options: dict[str, Any] | None = None) -> EnvRows:
    """First rows of the episodes that a reset starts."""
    observation, _ = vector.reset(options=options)
    envs = vector.num_envs
    return {
        "observation": observation,
        "previous_action": np.zeros(vector.action_space.shape or (), np.float32),
        "reward": np.zeros(envs, np.float32),
        "is_first": np.ones(envs, bool),
        "is_last": np.zeros(envs, bool),
        "is_terminal": np.zeros(envs, bool),
    }


def next_rows(vector: EpisodeVector, actions: np.ndarray) -> EnvRows:
    """Rows that follow `actions`; an action after a last row has no effect."""
    actions = np.clip(np.asarray(actions, np.float32), -1.0, 1.0)
    observation, reward, terminated, truncated, infos = vector.step(actions)
    first = np.array(infos.get("is_first", np.zeros(vector.num_envs, bool)), bool)
    return {
        "observation": observation,
        "previous_action": np.where(first[:, None], np.float32(0), actions),
        "reward": np.where(first, 0.0, reward).astype(np.float32),
        "is_first": first,
        "is_last": terminated | truncated,
        "is_terminal": terminated,
    }
