"""Datasets of Minari, written by Minari itself."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.wrappers import FlattenObservation

from sdewm.data.episode_arrays import ObservationForm
from sdewm.data.imports.import_recording import import_recording, open_recording
from sdewm.data.rollout import RandomPolicy, run_episodes
from sdewm.train.config import Config
from sdewm.train.sources import as_recorded, configured_vector

minari = pytest.importorskip("minari", exc_type=ImportError)
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer


def recorded(name, env, episodes=2, steps=4, wrap=lambda env: env, **arguments):
    """Rows of random episodes, (observations, actions, rewards) each, in a dataset of Minari's."""
    made = wrap(gymnasium.make(env, max_episode_steps=steps, **arguments))
    found, buffers = [], []
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


def test_the_environment_has_the_arguments_and_the_time_limit_of_the_recording(tmp_path):
    recorded("pendulum/light-v0", "Pendulum-v1", steps=6, g=3.0)
    dataset, _ = imported("pendulum/light-v0", tmp_path / "light")
    config = as_recorded(Config(), tmp_path / "light", given=())
    vector = configured_vector(config, 1, 0)
    pendulum = vector.env.envs[0].unwrapped
    assert pendulum.g == 3.0 and dataset.facts["env_kwargs"]["g"] == 3.0
    (episode,) = run_episodes(vector, RandomPolicy(vector.single_action_space, 0), 1)
    assert episode.length == 6
    recorded("pendulum/usual-v0", "Pendulum-v1", steps=200)
    assert imported("pendulum/usual-v0", tmp_path / "usual")[0].facts["env_kwargs"] == {}


def test_an_environment_that_cannot_be_made_from_its_name_is_unknown(tmp_path):
    recorded("pendulum/map-v0", "Pendulum-v1", g=3.0)
    recorded("pendulum/wrapped-v0", "Pendulum-v1", wrap=FlattenObservation)
    place = next((tmp_path / "minari").rglob("map-v0/data/metadata.json"))
    place.write_text(place.read_text().replace('\\"g\\": 3.0', '\\"g\\": [[1], [0]]'))
    for name in ("map", "wrapped"):
        dataset, _ = imported(f"pendulum/{name}-v0", tmp_path / name)
        assert dataset.facts["env"] == dataset.facts["env_kwargs"] == "unknown"


def test_discrete_actions_are_one_hot(tmp_path):
    found = recorded("cartpole/test-v0", "CartPole-v1")
    dataset, _ = imported("cartpole/test-v0", tmp_path / "data")
    assert dataset.action_groups == (2,)
    for (_, actions, _), episode in zip(found, dataset, strict=True):
        assert np.array_equal(episode["previous_action"][1:].argmax(1), actions)
        assert episode["previous_action"][1:].sum(1).tolist() == [1] * len(actions)


class HeldPendulum(PendulumEnv):
    """With a second action whose bounds are equal."""

    def __init__(self):
        super().__init__()
        self.action_space = gymnasium.spaces.Box(np.array([-2, 3], "f4"), np.array([2, 3], "f4"))


@pytest.mark.filterwarnings("ignore:.*maximum and minimum values are equal")
def test_an_action_with_equal_bounds_is_0(tmp_path):
    gymnasium.register("HeldPendulum-v0", entry_point=f"{__name__}:HeldPendulum")
    try:
        found = recorded("pendulum/held-v0", "HeldPendulum-v0")
        dataset, _ = imported("pendulum/held-v0", tmp_path / "data")
    finally:
        del gymnasium.registry["HeldPendulum-v0"]
    for (_, actions, _), episode in zip(found, dataset, strict=True):
        assert np.allclose(episode["previous_action"][1:, 0], actions[:, 0] / 2, atol=1e-6)
        assert (actions[:, 1] == 3).all() and not episode["previous_action"][:, 1].any()


def test_a_dataset_that_is_not_here_is_refused_with_those_that_are():
    recorded("cartpole/test-v0", "CartPole-v1")
    with pytest.raises(ValueError, match="Datasets on this machine: cartpole/test-v0"):
        open_recording("minari:cartpole/test-v1")
