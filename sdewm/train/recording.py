"""Recording a dataset: whole episodes of a policy, on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from sdewm.base.checks import check_count
from sdewm.base.records import code_commit, command_line
from sdewm.data.dataset import Dataset, recorded_episodes, write_dataset
from sdewm.data.rollout import Policy, run_episodes
from sdewm.data.wrappers import episode_seed
from sdewm.train.config import Config
from sdewm.train.saved_agent import trained_agent
from sdewm.train.sources import configured_vector

FIELDS = ("observation", "previous_action", "reward", "is_first", "is_last", "is_terminal")


def record_dataset(
    directory: Path,
    make_policy: Callable[[int], Policy],
    config: Config,
    *,
    episodes: int,
    seed: int,
    policy_name: str,
    progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Record episodes; the same call goes on where an interrupted one stopped.

    Episodes come in rounds, one in each environment; round k has a seed of its own, drawn from
    `seed` and k, so that a recording that was interrupted becomes the one that was not.

    Args:
        directory: of the dataset.
        make_policy: the policy of a round, from the round's seed.
        config: names the environment, how it is observed and how many run in parallel.
        episodes: how many in all.
        seed: of the recording.
        policy_name: what the dataset says of the policy.
        progress: called with the number of episodes recorded.

    Returns:
        The dataset.

    Raises:
        ValueError: the directory holds another recording or a complete one.
        OSError: the disk is full or fails; the episodes written before stay.
    """
    check_count("episodes", episodes)
    check_count("seed", seed, minimum=0)
    facts = {
        "env": config.env,
        "obs": config.obs,
        "action_repeat": config.action_repeat,
        "policy": policy_name,
        "seed": seed,
        "render": config.render,
        "command": command_line(),
        "commit": code_commit(),
    }
    done = recorded_episodes(directory, facts)
    envs = min(config.envs, episodes)

    def missing() -> Iterator[dict[str, np.ndarray]]:
        recorded = done
        for rows in _rounds(config, make_policy, seed, envs, done, episodes):
            recorded += 1
            if progress is not None:
                progress(recorded)
            yield rows

    return write_dataset(directory, missing(), facts)


def record_run(
    directory: Path,
    run: Path,
    *,
    episodes: int,
    seed: int,
    mode: Literal["sample", "mean"] = "sample",
    progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Record episodes of a run's policy in its environment, see `record_dataset`.

    Args:
        directory: of the dataset.
        run: a run whose policy has learnt.
        episodes: how many in all.
        seed: of episodes and actions.
        mode: actions drawn as in training, or their mean.
        progress: called with the number of episodes recorded.

    Raises:
        ValueError: as `trained_agent` or `record_dataset`.
        OSError: the disk is full or fails; the episodes written before stay.
    """
    config, agent, counters = trained_agent(run)

    def make_policy(seed: int) -> Policy:
        agent.policy_generator.manual_seed(seed)
        return agent.policy(mode)

    return record_dataset(
        directory,
        make_policy,
        config,
        episodes=episodes,
        seed=seed,
        policy_name=f"{mode} of {run} at {counters['updates']} updates",
        progress=progress,
    )


def _rounds(
    config: Config,
    make_policy: Callable[[int], Policy],
    seed: int,
    envs: int,
    done: int,
    episodes: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Rows of the episodes done … episodes − 1."""
    vector = configured_vector(config, envs, seed)
    try:
        for number in range(done // envs, -(-episodes // envs)):
            round_seed = episode_seed(seed, 0, number)
            vector.reset(seed=round_seed)  # episode 0 of each environment is now that of this seed
            found = run_episodes(vector, make_policy(round_seed), envs)
            for place, episode in enumerate(found, start=number * envs):
                if done <= place < episodes:
                    yield {name: episode.rows[name] for name in FIELDS}
    finally:
        vector.close()
