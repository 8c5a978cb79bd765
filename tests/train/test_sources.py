"""A run that could never make an update is refused before anything is made."""

from dataclasses import replace

import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from sdewm.data.rollout import RandomPolicy
from sdewm.train.recording import record_dataset
from sdewm.train.sources import DatasetSource, EnvironmentSource, configured_vector
from tests.train.fake_agent import small_config

# 30 policy steps in one environment; the first update is due after 10 + 4·8/2 = 26.
SHORT = {
    "envs": 1,
    "env_frames": 300,
    "action_repeat": 10,
    "prefill_policy_steps": 10,
    "train_ratio": 2.0,
    "batch_size": 4,
    "batch_length": 8,
}


def updates_of(**changes):
    source = EnvironmentSource(small_config(**SHORT | changes))
    source.attach(RandomPolicy(source.spaces[1], seed=0), {})
    while source.env_frames < source.total:
        source.collect()
    source.close()
    return source.due_updates()


@pytest.mark.parametrize("given", [{}, {"train_ratio": 1.6}, {"envs": 3}, {"batch_length": 29}])
def test_the_shortest_runs_that_learn_are_let_through(given):
    if "batch_length" in given:
        given["train_ratio"] = 10.0
    assert updates_of(**given) >= 1


@pytest.mark.parametrize(
    "given, said",
    [
        ({"prefill_policy_steps": 30}, "= 46 policy steps"),
        ({"train_ratio": 1.59}, "= 31 policy steps"),
        ({"train_ratio": 1e-4}, "= 320010 policy steps"),
        ({"batch_length": 31, "train_ratio": 100.0}, "a sequence of 31 rows"),
        ({"batch_length": 12, "train_ratio": 100.0, "envs": 3}, "in each of envs=3"),
    ],
)
def test_a_run_that_ends_before_its_first_update_is_refused(given, said):
    with pytest.raises(ValueError, match="env_frames=300: the run would end before.*" + said):
        updates_of(**given)


def test_a_dataset_shorter_than_a_sequence_is_refused(tmp_path):
    config = small_config(**SHORT)

    def policy(seed):
        return RandomPolicy(Box(-1, 1, (1,)), seed)

    found = record_dataset(tmp_path, policy, config, episodes=1, seed=0, policy_name="random")
    for length, fits in ((found.rows, True), (found.rows + 1, False)):
        source = DatasetSource(replace(config, batch_length=length), tmp_path)
        if fits:
            source.attach(policy(0), {})
            continue
        with pytest.raises(ValueError, match=f"a dataset of {found.rows} rows"):
            source.attach(policy(0), {})


@pytest.mark.parametrize(
    ("workers", "envs", "kind"),
    [(True, 2, AsyncVectorEnv), (True, 1, SyncVectorEnv), (False, 2, SyncVectorEnv)],
)
def test_several_environments_have_workers_if_asked_for(workers, envs, kind):
    vector = configured_vector(small_config(**SHORT | {"workers": workers}), envs, seed=0)
    try:
        assert isinstance(vector.unwrapped, kind)
    finally:
        vector.close()
