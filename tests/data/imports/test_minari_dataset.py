"""Datasets of Minari, written by Minari itself."""

import warnings

import gymnasium
import numpy as np
import pytest

from sdewm.data.episode_arrays import ObservationForm
from sdewm.data.imports.import_recording import import_recording, open_recording

minari = pytest.importorskip("minari", exc_type=ImportError)
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer


def recorded(name, env, episodes=2, steps=4):
    """Rows of random episodes, (observations, actions, rewards) each, in a dataset of Minari's."""
    made, found, buffers = gymnasium.make(env, max_episode_steps=steps), [], []
    made.action_space.seed(0)
    for seed in range(episodes):
        rows, over = [[made.reset(seed=seed)[0]], [], []], False
        while not over:
            action = made.action_space.sample()
            observation, reward, terminated, truncated, _ = made.step(action)
            over = terminated or truncated
            for column, value in zip(rows, (observation, action, reward), strict=True):
                column.append(value)
        found.append([np.array(column) for column in rows])
        observations, actions, rewards = found[-1]
        last = np.arange(len(actions)) == len(actions) - 1
        buffers.append(
            EpisodeBuffer(
                observations=observations,
                actions=actions,
                rewards=rewards,
                terminations=last & terminated,
                truncations=last & truncated,
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(name, buffers, env=made, algorithm_name="random")
    return found


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def imported(name, directory):
    return import_recording(open_recording(f"minari:{name}"), directory, form=ObservationForm())


def test_actions_are_scaled_to_their_bounds_and_facts_are_those_recorded(tmp_path):
    found = recorded("pendulum/test-v0", "Pendulum-v1")
    dataset, _ = imported("pendulum/test-v0", tmp_path / "data")
    for (observations, actions, rewards), episode in zip(found, dataset, strict=True):
        assert np.array_equal(episode["observation"], observations)
        assert np.allclose(episode["previous_action"][1:], actions / 2, atol=1e-6)
        assert np.allclose(episode["reward"][1:], rewards) and episode["reward"][0] == 0
    facts = [dataset.facts[name] for name in ("env", "action_repeat", "policy", "seed")]
    assert facts == ["gym:Pendulum-v1", 1, "random", "unknown"]
    with pytest.raises(ValueError, match="env='gym:CartPole-v1': pendulum/test-v0 has 'gym:Pend"):
        import_recording(
            open_recording("minari:pendulum/test-v0"),
            tmp_path / "other",
            form=ObservationForm(),
            env="gym:CartPole-v1",
        )


def test_discrete_actions_are_one_hot(tmp_path):
    found = recorded("cartpole/test-v0", "CartPole-v1")
    dataset, _ = imported("cartpole/test-v0", tmp_path / "data")
    assert dataset.action_groups == (2,)
    for (_, actions, _), episode in zip(found, dataset, strict=True):
        assert np.array_equal(episode["previous_action"][1:].argmax(1), actions)
        assert episode["previous_action"][1:].sum(1).tolist() == [1] * len(actions)


def test_a_dataset_that_is_not_here_is_refused_with_those_that_are():
    recorded("cartpole/test-v0", "CartPole-v1")
    with pytest.raises(ValueError, match="Datasets on this machine: cartpole/test-v0"):
        open_recording("minari:cartpole/test-v1")
