"""The cart-pole of our own: physics against DeepMind Control's and energy; frames."""

import math

import numpy as np
import pytest

from sdewm.data import cartpole_pixels as cartpole
from sdewm.data.cartpole_pixels import CartpolePixels, advance, swing_up_reward
from sdewm.data.dmc import DmcEnv


def gap_to_deepmind_control():
    """Largest gaps of observation and reward over 300 steps from the same state, and the swing."""
    theirs = DmcEnv("cartpole_swingup", render="fast", pixels=False, seed=0)
    theirs.reset(seed=0)
    position, angle = theirs.physics.data.qpos.tolist()
    velocity, spin = theirs.physics.data.qvel.tolist()
    state, rng, gaps = (position, angle, velocity, spin), np.random.default_rng(0), []
    for _ in range(300):
        # Pushes that keep the cart away from the ends of the rail, which are softer there.
        push = rng.uniform(-0.6, 0.6) - 0.15 * state[0] - 0.1 * state[2]
        observation, reward, *_ = theirs.step(np.array([push]))
        state = advance(state, cartpole.FORCE * push)
        assert abs(state[0]) < cartpole.RAIL
        ours = (state[0], math.cos(state[1]), math.sin(state[1]), state[2], state[3])
        gaps.append(
            (
                np.abs(observation - np.array(ours)).max(),
                abs(swing_up_reward(state, push) - reward),
                abs(state[1] - math.pi),
            )
        )
    theirs.close()
    return np.max(gaps, axis=0)


def test_it_moves_and_rewards_as_deepmind_controls_cartpole(monkeypatch):
    observation, reward, swing = gap_to_deepmind_control()
    assert observation < 1e-5
    assert reward < 1e-5
    assert swing > 0.1
    # One part in a thousand of one constant is seen.
    monkeypatch.setattr(cartpole, "GRAVITY", 9.82)
    observation, _, _ = gap_to_deepmind_control()
    assert observation > 1e-4


def energy(state):
    _, angle, velocity, spin = state
    lever = cartpole.POLE_MASS * cartpole.POLE_LENGTH / 2
    moving = 0.5 * (cartpole.CART_MASS + cartpole.POLE_MASS) * velocity**2
    turning = 0.5 * cartpole._INERTIA * spin**2
    return (
        moving
        + lever * velocity * spin * math.cos(angle)
        + turning
        + lever * cartpole.GRAVITY * math.cos(angle)
    )


def test_energy_is_kept_without_friction_and_lost_with_it(monkeypatch):
    def change(cart, pole):
        monkeypatch.setattr(cartpole, "CART_DAMPING", cart)
        monkeypatch.setattr(cartpole, "POLE_DAMPING", pole)
        state = (0.0, 2.0, 0.0, 0.5)
        start = energy(state)
        for _ in range(500):
            state = advance(state, 0.0)
        return energy(state) - start

    assert abs(change(0.0, 0.0)) < 1e-7
    assert change(0.05, 0.0) < -1e-4
    assert change(0.0, 0.001) < -1e-4


def test_the_ends_of_the_rail_stop_the_cart():
    for force in (10.0, -10.0):
        state = (0.0, math.pi, 0.0, 0.0)
        for _ in range(500):
            state = advance(state, force)
            assert abs(state[0]) <= cartpole.RAIL
        assert abs(state[0]) == cartpole.RAIL
        state = advance(advance(state, -force), -force)
        assert abs(state[0]) < cartpole.RAIL  # it can leave again


def test_an_episode_has_a_thousand_steps_and_is_cut_off_by_time():
    env = CartpolePixels()
    env.reset(seed=0)
    ends = [env.step(np.zeros(1))[2:4] for _ in range(1000)]
    assert ends[-1] == (False, True)
    assert set(ends[:-1]) == {(False, False)}


def test_rewards_lie_in_the_unit_interval_and_hanging_earns_almost_nothing():
    env, rng = CartpolePixels(), np.random.default_rng(0)
    env.reset(seed=1)
    rewards = [env.step(rng.uniform(-1, 1, 1))[1] for _ in range(1000)]
    assert 0 <= min(rewards) <= max(rewards) <= 1
    env.reset(seed=1)
    assert sum(env.step(np.zeros(1))[1] for _ in range(1000)) < 5
    assert sum(swing_up_reward((0.0, 0.0, 0.0, 0.0), 0.0) for _ in range(1000)) == 1000


def mean_of(frame, colour):
    """Middle (column, row) of the pixels close to a colour, and their number."""
    rows, columns = np.nonzero(np.abs(frame.astype(float) - colour).max(2) < 30)
    return columns.mean() + 0.5, rows.mean() + 0.5, len(rows)


def test_the_frame_shows_cart_and_pole_where_they_are():
    env = CartpolePixels()
    for position, angle in [(0.0, 0.0), (-0.7, 2.0), (1.1, -0.9), (0.3, math.pi)]:
        env.state = (position, angle, 0.0, 0.0)
        frame = env.frame()
        assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
        x, y, count = mean_of(frame, cartpole.TIP_COLOUR)
        assert count >= 4
        assert x == pytest.approx(32 + 16 * position + 16 * math.sin(angle), abs=0.6)
        assert y == pytest.approx(34 - 16 * math.cos(angle), abs=0.6)
        x, y, count = mean_of(frame, cartpole.CART_COLOUR)
        assert count >= 10
        assert x == pytest.approx(32 + 16 * position, abs=1.6)


def test_movements_of_a_hundredth_of_a_pixel_can_be_seen():
    env = CartpolePixels()
    env.state = (0.0, 1.0, 0.0, 0.0)
    still = env.frame().astype(int)
    env.state = (0.01 / cartpole.SCALE * 2, 1.0, 0.0, 0.0)
    moved = env.frame().astype(int)
    assert 0 < np.abs(moved - still).max() <= 8
