"""Modes of a simulator by central differences, against a formula and Liouville's theorem."""

import numpy as np
import pytest

from sdewm.data.dmc import DmcEnv
from sdewm.model_theorems import physical_modes
from sdewm.model_theorems.physical_modes import _after, step_jacobians


def test_differences_of_the_step_are_those_of_a_second_step_size(monkeypatch):
    found, _ = step_jacobians("dmc:cartpole_swingup", action_repeat=2, states=4)
    monkeypatch.setattr(physical_modes, "DIFFERENCE", 1e-4)
    coarse, _ = step_jacobians("dmc:cartpole_swingup", action_repeat=2, states=4)
    np.testing.assert_allclose(found, coarse, atol=1e-5)


def test_the_step_is_that_of_the_environment():
    env = DmcEnv("cartpole_swingup", render="fast", pixels=False, seed=0)
    env.reset(seed=3)
    state, action = env.physics.get_state().copy(), np.array([0.4])
    ours = _after(env, state, action, 2)
    env.reset(seed=3)
    for _ in range(2):
        env.step(action)
    np.testing.assert_allclose(ours, env.physics.get_state(), atol=1e-12)


def test_a_cart_moves_by_its_velocity_and_volumes_hardly_change():
    found, volumes = step_jacobians("dmc:cartpole_swingup", action_repeat=2, states=8)
    assert found.shape == (8, 4, 4)
    free = np.abs(found[:, 0, 0] - 1) < 1e-3  # the cart is not at the end of its rail
    assert free.sum() > 5
    # Where the cart stands changes nothing else; its velocity moves it for 0.02 s.
    alone = np.tile([1.0, 0, 0, 0], (free.sum(), 1))
    np.testing.assert_allclose(found[free][:, :, 0], alone, atol=1e-6)
    np.testing.assert_allclose(found[free][:, 0, 2], 0.02, rtol=0.05)
    assert bool((np.abs(volumes[free]) < 0.02).all())  # friction is small


@pytest.mark.parametrize("env", ["gym:Pendulum-v1", "own:cartpole_pixels", "dmc:humanoid_walk"])
def test_other_simulators_are_refused(env):
    with pytest.raises(ValueError, match="expected a dmc: environment|positions and"):
        step_jacobians(env, action_repeat=2)
