"""Returns of a policy over episodes with fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sdewm.base.checks import check_count
from sdewm.data.rollout import Episode, Policy, run_episodes
from sdewm.train.config import Config
from sdewm.train.random_state import preserve_rng_state
from sdewm.train.sources import configured_vector

# Of the evaluation episodes of every run, whatever its own seed: all see the same first states.
EVALUATION_SEED = 20_000_003


def evaluate(
    policy: Policy,
    config: Config,
    *,
    episodes: int,
    seed: int = EVALUATION_SEED,
    progress: Callable[[int], None] | None = None,
) -> list[Episode]:
    """Run whole episodes in environments of their own; the training goes on as if it had not.

    Args:
        policy: of the agent, in mean mode for evaluations that are reported.
        config: names the environment and how it is observed.
        episodes: how many.
        seed: from which the first state of every episode is drawn.
        progress: called with the number of episodes finished.
    """
    check_count("episodes", episodes)
    envs = min(episodes, config.envs)
    with preserve_rng_state():
        vector = configured_vector(config, envs, check_count("seed", seed, minimum=0))
        try:
            return run_episodes(vector, policy, episodes, progress=progress)
        finally:
            vector.close()


def evaluation_row(
    returns: Sequence[float], lengths: Sequence[int], *, seed: int
) -> dict[str, Any]:
    """Mean return and its standard error s/√n, with every return, for `evaluation.jsonl`.

    s is the standard deviation of the n returns with divisor n − 1; None for one episode.

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
