"""Recording of datasets: complete episodes of a policy, on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from sdewm.base.checks import check_count
from sdewm.base.records import code_commit, command_line
from sdewm.data.dataset import Dataset, recorded_episodes, write_dataset
from sdewm.data.one_hot import action_groups
from sdewm.data.rollout import Policy, run_episodes
from sdewm.data.wrappers import episode_seed
from sdewm.train.config import Config
from sdewm.train.saved_agent import trained_agent
from sdewm.train.sources import RECORDED, check_environment, configured_vector

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
    """Record episodes; the same call resumes an interrupted recording.

    Episodes are recorded in rounds of one episode in each environment. The seed of round k is
    derived from `seed` and k, so that a resumed recording equals an uninterrupted one. With another
    number of parallel environments the episodes are others, unlike those of `evaluate`.

    Args:
        directory: folder of the dataset.
        make_policy: the seed of a round -> the policy of that round.
        config: configuration that names the environment, its observations and the number of
            parallel environments.
        episodes: total number of episodes.
        seed: seed of the recording.
        policy_name: description of the policy, stored in the dataset.
        progress: called with the number of recorded episodes.

    Returns:
        The dataset.

    Raises:
        ValueError: the directory holds another recording or a complete one.
        OSError: the disk is full or fails. Episodes already written remain.
    """
    check_count("episodes", episodes)
    check_count("seed", seed, minimum=0)
    groups = action_groups(check_environment(config)[1])
    facts = {
        **{name: getattr(config, name) for name in RECORDED},
        "policy": policy_name,
        "seed": seed,
        "render": config.render,
        "action_groups": list(groups),
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
    """Record episodes of a run's policy in the run's environment, see `record_dataset`.

    Args:
        directory: folder of the dataset.
        run: directory of a run with a trained policy.
        episodes: total number of episodes.
        seed: seed of the episodes and actions.
        mode: "sample": actions drawn as in training; "mean": mean actions.
        progress: called with the number of recorded episodes.

    Raises:
        ValueError: as `trained_agent` or `record_dataset`.
        OSError: the disk is full or fails. Episodes already written remain.
    """
    saved = trained_agent(run)
    agent, updates = saved.agent, saved.counters["updates"]
    edited = "" if saved.changed is None else f", changed since: {saved.changed}"

    def make_policy(seed: int) -> Policy:
        policy = agent.policy(mode)
        policy.generator.manual_seed(seed)  # that of mean actions is not the agent's own
        return policy

    return record_dataset(
        directory,
        make_policy,
        saved.config,
        episodes=episodes,
        seed=seed,
        policy_name=f"{mode} of {run} at {updates} updates{edited}",
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
    """Rows of the episodes number done … episodes − 1."""
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
