"""Perturbed physics: what the simulator really has, and that the task's own values come back."""

import copy

import mujoco
import numpy as np
import pytest

from sdewm.data.envs import make_env
from sdewm.perturbations.dynamics import CONTROL_STEPS, DynamicsPerturbation, PerturbedDynamics
from sdewm.perturbations.model_fields import ModelFields
from sdewm.perturbations.parsing import parse_perturbations

COMMON = {"obs": "proprio", "action_repeat": 1, "render": "fast", "seed": 3, "index": 0}


def changed(word, env="dmc:cartpole_swingup"):
    made = []
    (perturbation,) = parse_perturbations(word)

    def change(base):
        made.append(PerturbedDynamics(base, perturbation))
        return made[0]

    return make_env(env, **COMMON, change=change), made[0]


def rollout(env, steps=60, seed=0):
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, *env.action_space.shape))
    rows = [env.reset()[0]]
    for action in actions.astype(np.float32):
        rows.append(env.step(action)[0])
    return np.stack(rows)


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("gravity:0.5", "opt.gravity"),
        ("mass:0.5", "body_mass"),
        ("friction:0.5", "dof_damping"),
        ("actuator:0.5", "actuator_gainprm"),
    ],
)
def test_the_simulator_has_the_factor_and_moves_otherwise(word, field):
    plain = make_env("dmc:cartpole_swingup", **COMMON)
    env, wrapper = changed(word)
    theirs, ours = rollout(plain), rollout(env)
    assert np.array_equal(theirs[0], ours[0]) and not np.allclose(theirs[-1], ours[-1], atol=1e-5)

    def value(one):
        found = one.unwrapped.physics.model
        for part in field.split("."):
            found = getattr(found, part)
        return np.array(found)

    np.testing.assert_allclose(value(env), 1.5 * value(plain))
    assert np.allclose(wrapper.factors, 1.5) and len(wrapper.factors) == 60
    rollout(env)  # the next episode does not have the square of the factor
    np.testing.assert_allclose(value(env), 1.5 * value(plain))


def test_heavier_bodies_under_a_stronger_motor_move_as_before():
    """Force and mass both times 1.5: the cart accelerates as before, by Newton's law."""
    plain, ours = make_env("dmc:cartpole_swingup", **COMMON), changed("mass:0.5")[0]
    rollout(plain), rollout(ours)
    for env, factor in ((plain, 1.0), (ours, 1.5)):
        physics = env.unwrapped.physics
        with physics.reset_context():
            physics.data.qpos[:], physics.data.qvel[:] = [0.1, 2.0], [0.3, -0.4]
        physics.model.dof_damping[:] = 0
        physics.model.actuator_gear[:] = 10 * factor
        physics.data.ctrl[:] = 0.7
        physics.forward()
    np.testing.assert_allclose(
        plain.unwrapped.physics.data.qacc, ours.unwrapped.physics.data.qacc, rtol=1e-9
    )


@pytest.mark.parametrize("env", ["dmc:cartpole_swingup", "dmc:point_mass_easy", "dmc:walker_walk"])
@pytest.mark.parametrize(
    "word", ["gravity:0", "mass:0", "mass-walk:0", "friction-walk:0", "actuator:0", "delay:0"]
)
def test_strength_zero_is_the_identity_to_the_bit(word, env):
    plain = rollout(make_env(env, **COMMON))
    assert np.array_equal(rollout(changed(word, env)[0]), plain)
    if word == "mass:0":  # negative control
        assert not np.array_equal(rollout(changed("mass:1e-9", env)[0]), plain)


@pytest.mark.parametrize("schedule", ["", "-drift", "-walk"])
@pytest.mark.parametrize("name", ["gravity", "mass", "friction", "actuator"])
@pytest.mark.parametrize("env", ["dmc:pendulum_swingup", "dmc:ball_in_cup_catch"])
def test_every_control_step_is_wholly_under_its_factor(env, name, schedule):
    env, wrapper = changed(f"{name}{schedule}:0.5", env)
    plain = copy.copy(env.unwrapped.physics.model.ptr)
    steps = round(env.unwrapped.control_timestep / plain.opt.timestep)
    for _ in range(2):  # the second starts from the last factor of the first
        env.reset()
        data = env.unwrapped.physics.data
        for action in np.random.default_rng(0).uniform(-1, 1, (20, *env.action_space.shape)):
            alone, other = copy.copy(plain), copy.copy(plain)
            before = steps, data.qpos.copy(), data.qvel.copy()
            env.step(action.astype(np.float32))
            ModelFields(alone, name).multiply(wrapper.factors[-1])
            assert np.allclose(stepped(alone, *before, data), data.qpos, rtol=0, atol=1e-9)
        ModelFields(other, name).multiply(1.01 * wrapper.factors[-1])  # negative control
        assert not np.allclose(stepped(other, *before, data), data.qpos, rtol=0, atol=1e-9)


def stepped(model, steps, qpos, qvel, after):
    """The positions one control step later, by MuJoCo alone."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = qpos, qvel, after.ctrl
    mujoco.mj_step(model, data, steps)
    return data.qpos


@pytest.mark.parametrize(
    ("word", "env", "other"),
    [
        ("gravity:0.5", "dmc:reacher_easy", "friction:0.5"),
        ("gravity-walk:0.5", "dmc:fish_swim", "mass-walk:0.5"),
        ("friction:1", "dmc:swimmer_swimmer6", "actuator:1"),
    ],
)
def test_a_perturbation_that_changes_nothing_is_refused_at_once(word, env, other):
    with pytest.raises(ValueError) as problem:
        changed(word, env)
    name = word.split("-")[0].split(":")[0]
    assert f"{word!r}: {name} changes nothing in {env}, which moves" in str(problem.value)
    rollout(changed(f"{name}:0", env)[0], 2)  # strength 0 is a control everywhere
    plain = rollout(make_env(env, **COMMON))
    assert not np.array_equal(rollout(changed(other, env)[0]), plain)


def test_a_delay_shifts_the_actions():
    env, wrapper = changed("delay:2")
    plain = make_env("dmc:cartpole_swingup", **COMMON)
    actions = np.random.default_rng(1).uniform(-1, 1, (30, 1)).astype(np.float32)
    env.reset(), plain.reset()
    late = [env.step(action)[0] for action in actions]
    zeros = np.zeros((2, 1), np.float32)
    shifted = [plain.step(action)[0] for action in np.concatenate([zeros, actions[:-2]])]
    np.testing.assert_array_equal(np.stack(late), np.stack(shifted))
    assert wrapper.factors[2:] == [3.0] * 28


def test_schedules_start_at_one_and_the_walk_has_its_spread():
    drift = DynamicsPerturbation("gravity", 0.5, "drift").factors(0)
    assert drift[0] == 1 and drift[-1] == pytest.approx(1.5, abs=1e-3)
    assert np.allclose(np.diff(drift), 0.5 / CONTROL_STEPS)
    walks = [DynamicsPerturbation("gravity", 0.3, "walk").factors(seed) for seed in range(400)]
    ends = np.log([walk[-1] for walk in walks])
    assert all(walk[0] == 1 for walk in walks) and np.std(ends) == pytest.approx(0.3, rel=0.15)
    assert np.array_equal(walks[3], DynamicsPerturbation("gravity", 0.3, "walk").factors(3))


def test_episodes_meet_the_same_walk_whoever_acts():
    first, second = (changed("gravity-walk:0.5") for _ in range(2))
    rollout(first[0], seed=0), rollout(second[0], seed=1)
    assert first[1].factors == second[1].factors
    rollout(first[0], seed=0)
    assert first[1].factors[60:] != first[1].factors[:60]  # another episode


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gravity:-1", "gravity takes a relative change above -1"),
        ("gravity-walk:-0.1", "a relative change at least 0"),
        ("delay:1.5", "a delay is a constant, whole number"),
        ("delay:-1", "a delay is a constant, whole number"),
        ("delay-walk:1", "is not allowed"),
        ("gravty:1", "did you mean 'gravity'?"),
    ],
)
def test_wrong_words_are_named(word, said):
    with pytest.raises(ValueError) as problem:
        parse_perturbations(word)
    assert said in str(problem.value)


def test_an_environment_without_known_physics_is_refused():
    with pytest.raises(ValueError, match="is for dmc: environments"):
        changed("gravity:0.5", env="gym:Pendulum-v1")
