"""Environments that break a convention of Gymnasium are named, with the cause, in one sentence."""

import re

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from sdewm.cli import main
from sdewm.data import rollout
from sdewm.data.envs import make_env
from tests.data.toy_env import Counter

QUICK = (
    "--preset tiny --env-frames 200 --action-repeat 1 --envs 1 --prefill-policy-steps 60 "
    "--batch-size 2 --batch-length 8 --train-ratio 0.5 --eval-episodes 1 --no-pictures"
).split()


class Rewards(Counter):
    def __init__(self, reward):
        super().__init__()
        self.reward = reward

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, self.reward, *rest


class NoOptions(Counter):
    def reset(self, *, seed=None):
        return super().reset(seed=seed)


class NoSeed(Counter):
    def reset(self):
        return super().reset(seed=0)


class OnlyObservation(Counter):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class FourValues(Counter):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, info


class WrongShape(Counter):
    def observe(self, action):
        return np.zeros(5, np.float32)


class Texts(Counter):
    def observe(self, action):
        return np.array(["a", "b", "c"])


class UnitImage(Counter):
    observation_space = Box(0, 1, (16, 16, 3), np.float32)

    def __init__(self, value, kind=np.float32):
        super().__init__()
        self.value, self.kind = value, kind

    def observe(self, action):
        return np.full((16, 16, 3), self.value, self.kind)


class Licence(Counter):
    def reset(self, **_):
        raise RuntimeError("licence server\nnot reachable")


class Required(Counter):
    def __init__(self, level):
        super().__init__()


class Endless(Counter):
    def __init__(self):
        super().__init__(length=10**9)


@pytest.fixture
def register():
    name = "ToyBroken-v0"

    def make(entry_point, **settings):
        gymnasium.register(name, entry_point=entry_point, **settings)
        return f"gym:{name}"

    yield make
    del gymnasium.registry[name]


@pytest.mark.parametrize("limit", [None, 5])
@pytest.mark.parametrize(
    ("entry_point", "cause"),
    [
        (NoOptions, "its reset raised TypeError: .*'options'; expected reset(self, *, seed=None"),
        (NoSeed, "its reset raised TypeError: .*; expected reset(self, *, seed=None"),
        (OnlyObservation, "its reset"),
        (FourValues, "its step .*; expected step(self, action) -> (observation, reward"),
        (WrongShape, "its reset returned an observation of shape (5,); expected (3,)"),
        (Texts, "its reset returned an observation of dtype <U1; expected float32"),
        (Licence, "its reset raised RuntimeError: licence server not reachable."),
        (Required, "cannot be made: TypeError: .*'level'"),
        (lambda: Rewards(None), "its step returned reward NoneType None; expected one number"),
        (lambda: Rewards(np.ones(2)), "its step returned reward ndarray of shape (2,)"),
        (lambda: Rewards(1e39), "reward 1e+39 at episode 0, step 1"),
        (lambda: Rewards(np.nan), "reward nan at episode 0, step 1"),
    ],
)
def test_what_breaks_a_convention_is_refused_before_the_run_is_made(
    entry_point, cause, limit, register, tmp_path, capsys
):
    env = register(entry_point, max_episode_steps=limit)
    code = main(["train", *QUICK, "--env", env, "--run", str(tmp_path / "run")])
    said = capsys.readouterr().err.splitlines()
    assert code == 2 and len(said) == 1
    assert re.search(".*".join(map(re.escape, cause.split(".*"))), said[0]), said
    assert "ToyBroken" in said[0] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("image", "cause"),
    [
        (lambda: UnitImage(127.5), "with values from 127.5 to 127.5; expected an image in [0, 1]"),
        (lambda: UnitImage(-0.01), "with values from -0.01 to -0.01; expected an image in [0, 1]"),
        (lambda: UnitImage(np.nan), "with values from nan to nan; expected an image in [0, 1]"),
        (lambda: UnitImage(1, np.uint8), "of dtype uint8; expected float32, the dtype of its obs"),
    ],
)
def test_images_in_the_unit_interval_that_are_not_are_refused(image, cause, register):
    name = register(image)
    env = make_env(name, obs="pixels", action_repeat=1, render="fast", seed=0, index=0)
    with pytest.raises(ValueError, match=re.escape(f"its reset returned an observation {cause}")):
        env.reset()


@pytest.mark.parametrize(
    ("image", "byte"),
    [
        (lambda: UnitImage(0.5), 128),
        (lambda: UnitImage(1 + 1e-6), 255),
        (lambda: UnitImage(1, np.int64), 255),
        (lambda: UnitImage(True, np.bool_), 255),
    ],
)
def test_images_in_the_unit_interval_become_bytes(image, byte, register):
    name = register(image)
    env = make_env(name, obs="pixels", action_repeat=1, render="fast", seed=0, index=0)
    assert (env.reset()[0] == byte).all()


@pytest.mark.parametrize("reward", [np.array([2.5]), torch.tensor(2.5), np.float32(2.5), 2.5])
def test_a_reward_of_one_element_is_a_number(reward, register):
    name = register(lambda: Rewards(reward))
    env = make_env(name, obs="proprio", action_repeat=1, render="fast", seed=0, index=0)
    env.reset()
    assert env.step(np.zeros(1, np.float32))[1] == 2.5


def test_episodes_that_never_end_are_named(register, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rollout, "MOST_STEPS", 30)
    env = register(Endless)
    words = ["record", str(tmp_path / "data"), "--env", env, "--episodes", "1"]
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "has not ended after 30 policy steps" in said and "give it a --time-limit" in said
    assert env in said
