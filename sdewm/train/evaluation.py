"""Returns of a policy over episodes with fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from sdewm.base.checks import check_count
from sdewm.data.rollout import Episode, Policy, run_episodes
from sdewm.train.config import Config
from sdewm.train.random_state import preserve_rng_state
from sdewm.train.sources import configured_vector

# Seed of the evaluation episodes of every run, independent of the run's seed: equal first states.
EVALUATION_SEED = 20_000_003


def evaluate(
    policy: Policy,
    config: Config,
    *,
    episodes: int,
    seed: int = EVALUATION_SEED,
    progress: Callable[[int], None] | None = None,
    change: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
) -> list[Episode]:
    """Run complete episodes in separate environments, without any effect on training.

    Episode n of the list starts in the same state for every policy and every number of parallel
    environments: its first state is a function of the environment, `seed` and n.

    Args:
        policy: policy of the agent; mean actions for reported evaluations.
        config: configuration that names the environment and its observations.
        episodes: number of episodes.
        seed: seed of the initial states of the episodes.
        progress: called with the number of finished episodes.
        change: wraps each simulator.
    """
    check_count("episodes", episodes)
    envs = min(episodes, config.envs)
    with preserve_rng_state():
        check_count("seed", seed, minimum=0)
        vector = configured_vector(config, envs, seed, change, shared=True)
        try:
            return run_episodes(vector, policy, episodes, progress=progress)
        finally:
            vector.close()


def evaluation_row(
    returns: Sequence[float], lengths: Sequence[int], *, seed: int
) -> dict[str, Any]:
    """A row of `evaluation.jsonl`: mean return, its standard error s/√n, and every return.

    s is the standard deviation of the n returns with divisor n − 1. For one episode the standard
    error is None.

    >>> evaluation_row([1.0, 3.0], [500, 500], seed=7)["standard_error"]
    1.0
    """
    count = len(returns)
    error = None if count < 2 else float(np.std(returns, ddof=1)) / math.sqrt(count)
    return {
        "episodes": count,
        "mean_return": float(np.mean(returns)),
        "standard_error": error,
        "seed": seed,
        "returns": list(returns),
        "lengths": list(lengths),
    }
