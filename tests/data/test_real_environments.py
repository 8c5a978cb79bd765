"""Gymnasium's own environments, one's own, and Gymnasium's checker on all our wrappers."""

import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sdewm.cli import main
from sdewm.data.cartpole_pixels import CartpolePixels
from sdewm.data.dataset import read_dataset
from sdewm.data.envs import make_env
from sdewm.data.rollout import RandomPolicy, run_episodes
from sdewm.data.vector import make_vector

TAXI = max(name for name in gymnasium.registry if name.startswith("Taxi-"))


def make(env, obs="proprio", **changes):
    arguments = {"action_repeat": 1, "render": "fast", "seed": 0, "index": 0, **changes}
    return make_env(env, obs=obs, **arguments)


@pytest.mark.parametrize(
    ("name", "observations", "groups"),
    [
        ("CartPole-v1", 4, (2,)),
        ("Acrobot-v1", 6, (3,)),
        (TAXI, 500, (6,)),
        ("FrozenLake-v1", 16, (4,)),
        ("Blackjack-v1", 32 + 11 + 2, (2,)),
        ("Pendulum-v1", 3, None),
        ("MountainCarContinuous-v0", 2, None),
    ],
)
def test_gymnasiums_tasks_give_vectors_and_take_a_policys_actions(name, observations, groups):
    how = {"obs": "proprio", "action_repeat": 1, "render": "fast", "seed": 0, "time_limit": 20}
    vector = make_vector(f"gym:{name}", envs=2, workers=False, **how)
    assert vector.single_observation_space.shape == (observations,)
    assert getattr(vector.single_action_space, "groups", None) == groups
    for episode in run_episodes(vector, RandomPolicy(vector.single_action_space, 0), 4):
        assert 1 <= episode.length <= 20
        assert episode.rows["is_last"][-1] and not episode.rows["is_last"][:-1].any()
        assert episode.rows["is_terminal"].any() or episode.length == 20
    vector.close()


def test_one_hot_actions_do_what_the_numbers_do():
    ours, theirs = make("gym:CartPole-v1", seed=7), gymnasium.make("CartPole-v1")
    first, _ = ours.reset()
    env = ours.unwrapped
    assert first.tolist() == env.state.astype(np.float32).tolist()
    theirs.reset(seed=0)
    theirs.unwrapped.state = env.state.copy()
    for action in (0, 1, 1, 0, 1):
        got, reward, *_ = ours.step(np.eye(2, dtype=np.float32)[action])
        expected, gain, *_ = theirs.step(action)
        assert got.tolist() == expected.tolist() and reward == gain


@pytest.mark.parametrize("obs", ["proprio", "pixels", "both"])
@pytest.mark.parametrize(
    "name", ["own:cartpole_pixels", "gym:CartPole-v1", "gym:Pendulum-v1", "dmc:cartpole_swingup"]
)
def test_gymnasiums_checker_passes(name, obs):
    if obs != "proprio" and not name.startswith("own:"):
        pytest.skip("has no image, or needs OpenGL")
    env = make(name, obs, action_repeat=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wide bounds; that wrappers are there
        check_env(env, skip_render_check=True)
        if name.startswith("own:"):
            check_env(CartpolePixels(), skip_render_check=True)
    env.close()


def test_the_time_limit_counts_simulator_steps_and_truncates():
    env = make("gym:Pendulum-v1", action_repeat=3, time_limit=10)
    env.reset()
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(False, True)]
    with pytest.raises(ValueError, match="time_limit=0"):
        make("gym:Pendulum-v1", time_limit=0)


def test_arguments_reach_the_constructor():
    env = make("gym:Pendulum-v1", env_kwargs={"g": 3.5})
    assert env.unwrapped.g == 3.5
    assert make("gym:FrozenLake-v1", env_kwargs={"map_name": "8x8"}).observation_space.shape == (
        64,
    )
    with pytest.raises(ValueError, match=r"with env_kwargs=\{'gg': 1\}: TypeError: .*'gg'"):
        make("gym:Pendulum-v1", env_kwargs={"gg": 1})
    with pytest.raises(ValueError, match="only gym: environments"):
        make("own:cartpole_pixels", env_kwargs={"g": 1})


def test_an_environment_of_ones_own_is_found_by_its_module(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.delitem(gymnasium.registry, "Drift-v0", raising=False)  # from its doctests
    words = "--env gym:drift:Drift-v0 --time-limit 15 --action-repeat 1 --episodes 2".split()
    assert main(["record", str(tmp_path / "data"), *words]) == 0
    dataset = read_dataset(tmp_path / "data")
    assert (dataset.rows, dataset.action_groups) == (32, (3,))
    assert (dataset.facts["time_limit"], dataset.facts["env_kwargs"]) == (15, {})
    monkeypatch.delitem(sys.modules, "drift")
    monkeypatch.delitem(gymnasium.registry, "Drift-v0")
    for episode in dataset:
        moves = np.diff(episode["observation"][:, 0].numpy())
        wanted = 0.1 * (episode["previous_action"].argmax(1).numpy()[1:] - 1)
        assert np.abs(moves - wanted).max() < 0.6 and not episode["previous_action"][0].any()


def test_mujocos_tasks_run_where_their_extra_is_installed():
    pytest.importorskip("imageio")
    env = make("gym:HalfCheetah-v5", env_kwargs={"ctrl_cost_weight": 0.0})
    env.reset()
    assert env.observation_space.shape == (17,)
    assert np.isfinite(env.step(env.action_space.sample())[1])
    env.close()


def test_both_of_the_own_environment_hold_its_frame_and_its_vector():
    def after_a_step(obs):
        env = make("own:cartpole_pixels", obs)
        env.reset()
        return env.step(np.ones(1, np.float32))[0]

    both, state, image = (after_a_step(obs) for obs in ("both", "proprio", "pixels"))
    assert both[12288:].tolist() == state.tolist()
    assert np.rint(255 * both[:12288]).tolist() == image.ravel().tolist()
