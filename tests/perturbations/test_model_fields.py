"""Fields of a MuJoCo model times a factor: constants that follow, forces, what has no effect."""

import copy

import mujoco
import numpy as np
import pytest

from sdewm.data.dmc import DmcEnv
from sdewm.perturbations.model_fields import CONSTANTS, FIELDS, ModelFields, changes_motion

TOUCHING = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.1"><freejoint/><geom type="box" size="0.1 0.1 0.1"/></body>
  </worldbody>
</mujoco>"""
LIMITED = """
<mujoco>
  <worldbody><body><joint name="hinge"/><geom size="0.1"/></body></worldbody>
  <actuator>
    <position joint="hinge" kp="100" kv="3" gear="2" forcerange="-5 5"/>
    <motor joint="hinge" gear="2" forcerange="-0.1 0.1"/>
  </actuator>
</mujoco>"""


def model_of(task):
    env = DmcEnv(task, render="fast", pixels=False, seed=0)
    env.reset(seed=0)
    return copy.copy(env.physics.model.ptr)


def changed(model, name, factor):
    found = copy.copy(model)
    ModelFields(found, name).multiply(factor)
    return found


def arrays(model):
    """Every array of a model."""
    names = [name for name in dir(model) if not name.startswith("_")]
    found = {name: getattr(model, name) for name in names if name not in ("vis", "opt", "stat")}
    found["gravity"] = model.opt.gravity
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def differing(model, other):
    ours, theirs = arrays(model), arrays(other)
    return {name for name in ours if not np.array_equal(ours[name], theirs[name])}


def motion(model, steps=100):
    """Positions after each step of the simulator, with random controls."""
    data, generator = mujoco.MjData(model), np.random.default_rng(1)
    data.qvel[:] = 0.1 * generator.standard_normal(model.nv)
    found = []
    for control in generator.uniform(-1, 1, (steps, model.nu)):
        data.ctrl[:] = control
        mujoco.mj_step(model, data)
        found.append(data.qpos.copy())
    return np.array(found)


def heavier(domain, factor):
    """The model of a domain, compiled from heavier geoms: (model, the plain one)."""
    module = __import__(f"dm_control.suite.{domain}", fromlist=["get_model_and_assets"])
    xml, assets = module.get_model_and_assets()
    spec = mujoco.MjSpec.from_string(xml.decode() if isinstance(xml, bytes) else xml, assets)
    plain = spec.compile()
    for geom in spec.geoms:
        geom.density *= factor
        geom.mass *= factor
    return spec.compile(), plain


@pytest.mark.parametrize("domain", ["point_mass", "ball_in_cup", "cartpole", "walker", "reacher"])
def test_heavier_bodies_are_those_of_a_model_compiled_with_heavier_geoms(domain):
    built, plain = heavier(domain, 1.5)
    ours = changed(plain, "mass", 1.5)
    for name in (*FIELDS["mass"], *CONSTANTS["mass"]):
        np.testing.assert_allclose(getattr(ours, name), getattr(built, name), rtol=1e-9, atol=1e-15)
    assert np.allclose(motion(ours), motion(built), rtol=0, atol=1e-9)
    without = copy.copy(plain)  # negative control: the masses alone
    without.body_mass[:], without.body_inertia[:] = built.body_mass, built.body_inertia
    assert not np.allclose(without.dof_M0, built.dof_M0)
    if domain in ("point_mass", "ball_in_cup"):  # MuJoCo steps simple joints with dof_M0
        assert not np.allclose(motion(without), motion(built), rtol=0, atol=1e-4)


def test_a_body_falls_as_fast_whatever_its_mass():
    plain = model_of("ball_in_cup_catch")
    masses_alone = copy.copy(plain)
    masses_alone.body_mass[:] *= 4

    def fall(model):
        data = mujoco.MjData(model)
        data.qpos[3] = 0.1  # above the cup: the string is slack
        mujoco.mj_step(model, data, 40)
        return data.qpos[3] - 0.1

    assert fall(changed(plain, "mass", 4.0)) == pytest.approx(fall(plain), rel=1e-12)
    assert fall(changed(plain, "gravity", 2.0)) == pytest.approx(2 * fall(plain))
    assert abs(fall(masses_alone) - fall(plain)) > 0.01  # negative control


def test_a_heavier_point_mass_accelerates_less():
    plain = model_of("point_mass_easy")

    def acceleration(model):
        data = mujoco.MjData(model)
        data.ctrl[:] = 0.5
        mujoco.mj_forward(model, data)
        return data.qacc.copy()

    np.testing.assert_allclose(acceleration(plain), 1.5 * acceleration(changed(plain, "mass", 1.5)))
    assert np.abs(acceleration(plain)).min() > 0.01


@pytest.mark.parametrize("name", sorted(FIELDS))
@pytest.mark.parametrize("task", ["ball_in_cup_catch", "walker_walk", "manipulator_bring_ball"])
def test_only_its_fields_change_and_factor_one_restores_them_to_the_bit(task, name):
    plain = model_of(task)
    ours = copy.copy(plain)
    fields = ModelFields(ours, name)
    fields.multiply(1.7)
    assert fields.factor == pytest.approx(1.7)
    expected = {field.removeprefix("opt.") for field in (*FIELDS[name], *CONSTANTS.get(name, ()))}
    assert set() < differing(ours, plain) <= expected
    fields.multiply(1.0)
    assert fields.factor == 1.0 and differing(ours, plain) == set()
    for field in CONSTANTS.get(name, ()):  # they follow from the factor, not from its history
        fields.multiply(0.6), fields.multiply(1.7)
        once = changed(plain, name, 1.7)
        assert np.array_equal(getattr(ours, field), getattr(once, field))


def torques(model, seed=0):
    """Forces of the actuators on the joints, in a random state with random controls."""
    data, generator = mujoco.MjData(model), np.random.default_rng(seed)
    data.qpos[-model.nu :] += 0.1 * generator.standard_normal(model.nu)
    data.qvel[:] = generator.standard_normal(model.nv)
    data.ctrl[:] = generator.uniform(-1, 1, model.nu)
    data.act[:] = generator.uniform(-0.5, 0.5, model.na)
    mujoco.mj_forward(model, data)
    return data.qfrc_actuator.copy()


@pytest.mark.parametrize(
    "task", ["quadruped_walk", "fish_swim", "dog_stand", "cartpole_swingup", "walker_walk"]
)
def test_the_forces_of_motors_and_servos_have_the_factor(task):
    plain = model_of(task)
    before = torques(plain)
    np.testing.assert_allclose(torques(changed(plain, "actuator", 1.5)), 1.5 * before, rtol=1e-12)
    assert np.abs(before).max() > 1e-6
    gear = copy.copy(plain)  # negative control: the gear also multiplies what a servo measures
    gear.actuator_gear[:] *= 1.5
    servo = bool(plain.actuator_biasprm.any())
    assert np.allclose(torques(gear), 1.5 * before, rtol=1e-12) != servo


def test_the_range_of_an_actuators_force_has_the_factor():
    plain = mujoco.MjModel.from_xml_string(LIMITED)

    def torque(model):
        data = mujoco.MjData(model)
        data.ctrl[:] = 1.0, 1.0
        mujoco.mj_forward(model, data)
        return data.qfrc_actuator[0]

    assert torque(plain) == pytest.approx(2 * 5.1)  # both at their limits, times the gear
    assert torque(changed(plain, "actuator", 1.5)) == pytest.approx(1.5 * 2 * 5.1)


# One task of each domain: what moves the same with twice as much of it.
WITHOUT_EFFECT = {
    "acrobot_swingup": (),
    "ball_in_cup_catch": (),
    "cartpole_swingup": (),
    "cheetah_run": (),
    "dog_stand": (),
    "finger_spin": ("gravity",),
    "fish_swim": ("gravity",),
    "hopper_hop": (),
    "humanoid_run": (),
    "humanoid_CMU_run": (),
    "lqr_lqr_6_2": ("gravity", "friction"),
    "manipulator_bring_peg": (),
    "pendulum_swingup": (),
    "point_mass_hard": ("gravity",),
    "quadruped_walk": (),
    "reacher_easy": ("gravity",),
    "stacker_stack_2": (),
    "swimmer_swimmer6": ("gravity", "friction"),
    "walker_walk": (),
}


def test_one_task_of_each_domain_is_listed():
    from dm_control import suite

    assert {domain for domain, _ in suite.ALL_TASKS} == {
        domain for domain, task in suite.ALL_TASKS if f"{domain}_{task}" in WITHOUT_EFFECT
    }


@pytest.mark.parametrize("task", WITHOUT_EFFECT)
def test_what_changes_no_motion_is_known_for_every_domain(task):
    model = model_of(task)
    before = copy.copy(model)
    assert tuple(name for name in FIELDS if not changes_motion(model, name)) == WITHOUT_EFFECT[task]
    assert differing(model, before) == set()
    for name in WITHOUT_EFFECT[task]:  # nor in a longer motion
        assert np.array_equal(motion(changed(model, name, 1.5), 1000), motion(model, 1000))
    # No false alarm: a friction that only contacts have could be missed; no task has one.
    no_friction = not (model.dof_damping.any() or model.dof_frictionloss.any())
    off = mujoco.mjtDisableBit.mjDSBL_CONSTRAINT | mujoco.mjtDisableBit.mjDSBL_CONTACT
    assert not no_friction or model.opt.disableflags & off


def test_friction_of_contacts_is_seen_where_bodies_touch():
    model = mujoco.MjModel.from_xml_string(TOUCHING)
    assert changes_motion(model, "friction")
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    assert not changes_motion(model, "friction")
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_GRAVITY)
    assert not changes_motion(model, "gravity")
