"""Returns of a policy over episodes with fixed seeds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdewm.base.checks import check_count
from sdewm.data.rollout import Episode, Policy, run_episodes
from sdewm.train.agent import Agent
from sdewm.train.checkpoint import Checkpoints
from sdewm.train.config import Config, check_config
from sdewm.train.randomness import undisturbed
from sdewm.train.run_directory import load_agent, read_run
from sdewm.train.sources import check_environment, configured_vector

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
    with undisturbed():
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


def trained_agent(run: Path) -> tuple[Config, Agent, dict[str, int]]:
    """Configuration, agent and counters of a run whose policy has learnt; see `saved_agent`.

    Raises:
        ValueError: as `saved_agent`, or the policy never learnt (--world-model-only).
        CheckpointError: there is no good checkpoint.
    """
    facts = read_run(run)
    if facts.data is not None:
        raise ValueError(
            f"run={str(run)!r} trains a world model alone, on {facts.data}: its policy has learnt "
            "nothing, so there is nothing to evaluate or record."
        )
    return saved_agent(run)


def saved_agent(run: Path) -> tuple[Config, Agent, dict[str, int]]:
    """Configuration, agent and counters of a run at its newest good checkpoint.

    On the CPU where the run's device is not there.

    Raises:
        ValueError: there is no run, its environment cannot be made here, or its configuration was
            edited and does not fit.
        CheckpointError: there is no good checkpoint.
    """
    facts = read_run(run)
    config = replace(facts.config, compile=False)
    state = Checkpoints(run / "checkpoints").load()
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        sys.stderr.write(f"device={config.device!r} is not here; the CPU is used.\n")
        config = replace(config, device="cpu")
    check_config(config)
    agent = Agent(config, *check_environment(config))
    load_agent(agent.load_networks, state["agent"], run)
    return config, agent, state["counters"]
