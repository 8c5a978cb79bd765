"""Environments by name: what is accepted, what is refused and why; nothing heavy is imported."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, MultiBinary, Text

from sdewm.data.envs import check_env, list_envs, make_env
from tests.child_process import run
from tests.data.toy_env import Counter


def make(env, obs="proprio", **changes):
    arguments = {"action_repeat": 2, "render": "fast", "seed": 0, "index": 0, **changes}
    return make_env(env, obs=obs, **arguments)


class Shaped(Counter):
    def __init__(self, observations=None, actions=None):
        super().__init__(length=10)
        self.observation_space = observations or self.observation_space
        self.action_space = actions or self.action_space

    def observe(self, action):
        return self.observation_space.sample()


IMAGE = Box(0, 255, (64, 64, 3), np.uint8)


@pytest.fixture
def registered():
    """Toy environments that Gymnasium knows while the test runs."""
    spaces = {
        "Counter": {},
        "Images": {"observations": IMAGE},
        "Stack": {"observations": Box(0, 255, (4, 84, 84), np.uint8)},
        "Matrix": {"observations": Box(-1.0, 1.0, (2, 3), np.float64)},
        "Text": {"observations": Dict(a=Box(0, 1, (2,)), b=Text(5))},
        "Bits": {"actions": MultiBinary(3)},
        "Endless": {"actions": Box(-np.inf, np.inf, (1,))},
    }
    names = [f"Toy{name}-v0" for name in spaces]
    for name, kwargs in zip(names, spaces.values(), strict=True):
        gymnasium.register(name, entry_point=Shaped, kwargs=kwargs)
    yield
    for name in names:
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("name", "shape"), [("dmc:cartpole_swingup", (5,)), ("own:cartpole_pixels", (5,))]
)
def test_spaces_are_a_float32_box_and_unit_actions(name, shape):
    env = make(name)
    assert env.observation_space == Box(-np.inf, np.inf, shape, np.float32)
    assert env.action_space == Box(-1.0, 1.0, (1,), np.float32)
    observation, info = env.reset()
    assert observation in env.observation_space and info == {"is_first": True}
    assert env.step(env.action_space.sample())[0] in env.observation_space
    env.close()


def test_own_pixels_need_nothing():
    env = make("own:cartpole_pixels", "pixels")
    assert env.observation_space == IMAGE
    assert env.reset()[0] in IMAGE
    assert env.step(np.ones(1, np.float32))[0] in IMAGE


def test_gym_vectors_are_flattened_and_run(registered):
    env = make("gym:ToyMatrix-v0")
    assert env.observation_space == Box(-np.inf, np.inf, (6,), np.float32)
    assert env.reset()[0].dtype == np.float32
    env = make("gym:ToyCounter-v0")
    env.reset()
    observation, reward, *_ = env.step(np.array([0.25], np.float32))
    assert observation.shape == (3,) and reward == 10 + 20 + 2 * 0.25


def test_gym_images_are_taken_as_they_are(registered):
    env = make("gym:ToyImages-v0", "pixels")
    assert env.reset()[0] in IMAGE and env.observation_space == IMAGE


@pytest.mark.parametrize(
    ("name", "obs", "reason"),
    [
        ("ToyCounter", "pixels", "obs='proprio'"),
        ("ToyCounter", "both", "needs one image .* has 0"),
        ("ToyStack", "pixels", "C = 1 or 3"),
        ("ToyStack", "proprio", "C = 1 or 3"),
        ("ToyImages", "proprio", "obs='pixels'"),
        ("ToyImages", "both", "obs='pixels'"),
        ("ToyText", "proprio", r"b: Text\(1, 5, .*expected Box, Discrete"),
        ("ToyBits", "proprio", "one-dimensional Box, Discrete or MultiDiscrete"),
        ("ToyEndless", "proprio", "finite bounds"),
    ],
)
def test_other_spaces_are_refused_with_the_reason(registered, name, obs, reason):
    with pytest.raises(ValueError, match=f"env='gym:{name}-v0'.*{reason}"):
        make(f"gym:{name}-v0", obs)


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("dmc:walker_wlak", "dmc:walker_walk"),
        ("walker_walk", "dmc:walker_walk"),
        ("dmc:cartpole_swingupsparse", "dmc:cartpole_swingup_sparse"),
        ("gym:Pendulum-v9", "gym:Pendulum-v1"),
        ("own:cartpole", "own:cartpole_pixels"),
    ],
)
def test_unknown_names_get_the_nearest_one(given, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        check_env(given)


@pytest.mark.parametrize("given", ["", "zzz:qqq", 7, None])
def test_names_like_no_other_get_the_forms(given):
    with pytest.raises(ValueError, match="dmc:<domain>_<task>, gym:<id>"):
        check_env(given)


def test_a_module_that_is_missing_is_named():
    with pytest.raises(ValueError, match="no_such_module"):
        make("gym:no_such_module:Env-v0")


def test_every_listed_name_is_accepted():
    names = list_envs()
    assert len(names) > 60 and len(set(names)) == len(names)
    assert {"dmc:ball_in_cup_catch", "gym:Pendulum-v1", "own:cartpole_pixels"} <= set(names)
    assert [check_env(name) for name in names] == names


@pytest.mark.parametrize(
    "wrong",
    [
        {"obs": "pixel"},
        {"render": "slow"},
        {"action_repeat": 0},
        {"action_repeat": 1.5},
        {"seed": -1},
        {"index": -1},
    ],
)
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make("own:cartpole_pixels", **wrong)


def test_the_simulator_can_be_reached():
    env = make("dmc:cartpole_swingup")
    assert env.unwrapped.physics.model.body_mass[1] > 0
    assert make("own:cartpole_pixels").unwrapped.state is not None


def test_simulators_are_imported_when_one_is_made():
    program = (
        "import sys, sdewm\n"
        "heavy = ('gymnasium', 'dm_control', 'mujoco', 'tensorboard', 'tyro', 'OpenGL')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "import sdewm.data.rollout, sdewm.data.envs\n"
        "sdewm.data.envs.make_env('own:cartpole_pixels', obs='pixels', action_repeat=2,\n"
        "                         render='fast', seed=0, index=0).reset()\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    ended = run(sys.executable, "-c", program)
    assert ended.stdout.splitlines() == ["[]", "['gymnasium']"], ended.stderr


def test_an_environment_whose_package_is_missing_says_which(monkeypatch):
    def needs_more(**_):
        raise ModuleNotFoundError("No module named 'imageio'", name="imageio")

    spec = gymnasium.envs.registration.EnvSpec("NeedsMore-v0", needs_more)
    monkeypatch.setitem(gymnasium.registry, "NeedsMore-v0", spec)
    with pytest.raises(
        ValueError, match="gym:NeedsMore-v0' cannot be made: it needs the module 'im"
    ):
        make("gym:NeedsMore-v0")
