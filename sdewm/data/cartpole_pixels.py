"""Cart-pole swing-up, simulated and rendered in numpy: pixels without OpenGL.

Physical constants, initial states, reward and episode length are those of dm_control's cartpole
swing-up, so the returns published for that task give the scale.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from sdewm.data.frames import draw_box, draw_segment
from sdewm.data.observations import FRAME_SHAPE

# Physics: metres, kilograms, seconds. The pole is a cylinder with two half balls as ends.
TIMESTEP, STEPS = 0.01, 1000
CART_MASS, POLE_MASS, POLE_LENGTH, POLE_RADIUS = 1.0, 0.1, 1.0, 0.045
FORCE, GRAVITY, RAIL = 10.0, 9.81, 1.8
CART_DAMPING, POLE_DAMPING = 5e-4, 2e-6

# Drawing: pixels.
SCALE = 16.0  # pixels per metre: the view is 4 m wide
RAIL_ROW = 34.0
CART_HALF_WIDTH, CART_HALF_HEIGHT, POLE_HALF_WIDTH = 4.0, 2.5, 1.3
SKY, GROUND, RAIL_COLOUR = (52, 84, 122), (30, 46, 66), (96, 140, 190)
CART_COLOUR, POLE_COLOUR, TIP_COLOUR = (214, 160, 92), (240, 214, 150), (214, 84, 70)

State = tuple[float, float, float, float]


def _pole_inertia() -> float:
    """Moment of inertia of the pole about its middle, across its axis."""
    ball, rod = 4 / 3 * POLE_RADIUS, POLE_LENGTH  # volumes divided by πr²
    rod_mass, ball_mass = (POLE_MASS * part / (ball + rod) for part in (rod, ball))
    of_rod = rod_mass * (POLE_LENGTH**2 / 12 + POLE_RADIUS**2 / 4)
    of_ball = ball_mass * (
        0.4 * POLE_RADIUS**2 + POLE_LENGTH**2 / 4 + 0.375 * POLE_LENGTH * POLE_RADIUS
    )
    return of_rod + of_ball


_TOTAL_MASS = CART_MASS + POLE_MASS
_LEVER = POLE_MASS * POLE_LENGTH / 2  # m·l, l from the hinge to the middle of the pole
_INERTIA = _pole_inertia() + _LEVER * POLE_LENGTH / 2  # I + m·l²


def _rates(state: State, force: float) -> State:
    """Time derivative of (position, angle, velocity, angular velocity); angle 0 is upright.

    Lagrange's equations, with x the cart, θ the pole:
        (M + m)·x″ + m·l·cos θ·θ″ = F − c·x′ + m·l·sin θ·θ′²
        m·l·cos θ·x″ + (I + m·l²)·θ″ = m·g·l·sin θ − d·θ′
    """
    _, angle, velocity, spin = state
    sine, coupling = math.sin(angle), _LEVER * math.cos(angle)
    push = force - CART_DAMPING * velocity + _LEVER * sine * spin * spin
    torque = GRAVITY * _LEVER * sine - POLE_DAMPING * spin
    determinant = _TOTAL_MASS * _INERTIA - coupling * coupling
    return (
        velocity,
        spin,
        (_INERTIA * push - coupling * torque) / determinant,
        (_TOTAL_MASS * torque - coupling * push) / determinant,
    )


def _moved(state: State, rate: State, time: float) -> State:
    return (
        state[0] + time * rate[0],
        state[1] + time * rate[1],
        state[2] + time * rate[2],
        state[3] + time * rate[3],
    )


def advance(state: State, force: float) -> State:
    """One step of `TIMESTEP` seconds by the classical Runge–Kutta method of order 4.

    The cart stops at the ends of the rail.
    """
    k1 = _rates(state, force)
    k2 = _rates(_moved(state, k1, TIMESTEP / 2), force)
    k3 = _rates(_moved(state, k2, TIMESTEP / 2), force)
    k4 = _rates(_moved(state, k3, TIMESTEP), force)
    mean = (
        (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0]) / 6,
        (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1]) / 6,
        (k1[2] + 2 * k2[2] + 2 * k3[2] + k4[2]) / 6,
        (k1[3] + 2 * k2[3] + 2 * k3[3] + k4[3]) / 6,
    )
    position, angle, velocity, spin = _moved(state, mean, TIMESTEP)
    if abs(position) > RAIL:
        position = math.copysign(RAIL, position)
        velocity = min(velocity, 0.0) if position > 0 else max(velocity, 0.0)
    return position, angle, velocity, spin


def swing_up_reward(state: State, action: float) -> float:
    """Reward in [0, 1]: upright × centred × little control × slow pole.

    (1 + cos θ)/2 · (1 + g(x/2))/2 · (4 + max(0, 1 − a²))/5 · (1 + g(θ′/5))/2
    with g(z) = 0.1^(z²), so g is 1 at 0 and 0.1 at 1.

    >>> round(swing_up_reward((0.0, 0.0, 0.0, 0.0), 0.0), 6)
    1.0
    >>> round(swing_up_reward((0.0, math.pi, 0.0, 0.0), 0.0), 6)
    0.0
    """
    position, angle, _, spin = state
    upright = (1 + math.cos(angle)) / 2
    centred = (1 + 0.1 ** ((position / 2) ** 2)) / 2
    little_control = (4 + max(0.0, 1 - action * action)) / 5
    slow = (1 + 0.1 ** ((spin / 5) ** 2)) / 2
    return upright * centred * little_control * slow


class CartpolePixels(gymnasium.Env):
    """Cart-pole swing-up: swing a pole up from a cart on a rail and balance it upright.

    The action a in [-1, 1] applies the force 10·a newtons for 0.01 s. An episode is truncated after
    1000 steps. Vector observation `(5,)` float32: position of the cart, cosine and sine of the
    pole's angle from upright, both velocities. Nothing is rendered until `frame` is called.
    """

    metadata = {"render_modes": []}
    observation_space = Box(-np.inf, np.inf, (5,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self) -> None:
        self.state: State = (0.0, math.pi, 0.0, 0.0)
        self.steps = 0
        self._background = np.empty(FRAME_SHAPE, np.float32)
        self._background[:] = SKY
        draw_box(self._background, 0, 50, 64, 64, GROUND)
        reach = SCALE * RAIL + CART_HALF_WIDTH
        draw_box(
            self._background, 32 - reach, RAIL_ROW - 0.5, 32 + reach, RAIL_ROW + 0.5, RAIL_COLOUR
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start with the pole hanging down; N(0, 0.01²) is added to every state component."""
        super().reset(seed=seed)
        position, angle, velocity, spin = (0.01 * self.np_random.standard_normal(4)).tolist()
        self.state, self.steps = (position, math.pi + angle, velocity, spin), 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step of 0.01 s."""
        push = min(max(float(action[0]), -1.0), 1.0)
        self.state = advance(self.state, FORCE * push)
        self.steps += 1
        reward = swing_up_reward(self.state, push)
        return self._observation(), reward, False, self.steps >= STEPS, {}

    def _observation(self) -> np.ndarray:
        position, angle, velocity, spin = self.state
        values = (position, math.cos(angle), math.sin(angle), velocity, spin)
        return np.array(values, dtype=np.float32)

    def frame(self) -> np.ndarray:
        """The current view, `(64, 64, 3)` uint8."""
        image = self._background.copy()
        x, y = 32 + SCALE * self.state[0], RAIL_ROW
        tip = (
            x + SCALE * POLE_LENGTH * math.sin(self.state[1]),
            y - SCALE * POLE_LENGTH * math.cos(self.state[1]),
        )
        draw_box(
            image,
            x - CART_HALF_WIDTH,
            y - CART_HALF_HEIGHT,
            x + CART_HALF_WIDTH,
            y + CART_HALF_HEIGHT,
            CART_COLOUR,
        )
        draw_segment(image, (x, y), tip, POLE_HALF_WIDTH, POLE_COLOUR)
        draw_segment(image, tip, tip, POLE_HALF_WIDTH + 0.7, TIP_COLOUR)
        return (image + 0.5).astype(np.uint8)
