"""The modes of a simulator itself, with which those of a world model can be compared (S29)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sdewm.base.checks import check_count
from sdewm.data.dmc import DmcEnv

DIFFERENCE = 1e-5  # of a coordinate or velocity: central differences err by its square


def step_jacobians(
    env: str, *, action_repeat: int, states: int = 64, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Jacobians of one policy step of a DeepMind Control task, by central differences.

    The map takes positions and velocities to those after `action_repeat` control steps under one
    action. States and actions are those of an episode of uniformly random actions.

    Args:
        env: dmc:<domain>_<task>.
        action_repeat: control steps per policy step.
        states: number of states, evenly spaced along the episode.
        seed: of the episode and its actions.

    Returns:
        The Jacobians (N, d, d), and the logarithms of |det| (N,).

    Raises:
        ValueError: another environment, or one whose positions and velocities differ in number.

    >>> found, volumes = step_jacobians("dmc:cartpole_swingup", action_repeat=2, states=4)
    >>> found.shape, bool((abs(volumes) < 0.1).all())
    ((4, 4, 4), True)
    """
    kind, _, name = env.partition(":")
    if kind != "dmc":
        raise ValueError(f"env={env!r}: expected a dmc: environment, whose physics is known.")
    check_count("action_repeat", action_repeat)
    made = DmcEnv(name, render="fast", pixels=False, seed=seed)
    try:
        if made.physics.model.nq != made.physics.model.nv:
            raise ValueError(
                f"env={env!r} has {made.physics.model.nq} positions and "
                f"{made.physics.model.nv} velocities; expected as many."
            )
        visited = _visited(made, action_repeat, check_count("states", states), seed)
        jacobians = np.stack([_differences(made, *place, action_repeat) for place in visited])
    finally:
        made.close()
    return jacobians, np.linalg.slogdet(jacobians)[1]


def memory_floor(log_volumes: np.ndarray, size: int) -> np.ndarray:
    """Ln d + (2/d) · ln |det DP|, whose mean along a path is the floor of the mean ln ‖J‖_F² (S29).

    Args:
        log_volumes: ln |det DP| of the steps.
        size: number d of physical modes.

    >>> step = 2 * np.eye(4)  # a multiple of an isometry attains it
    >>> floor = memory_floor(np.linalg.slogdet(step)[1], 4)
    >>> bool(np.isclose(floor, np.log((step**2).sum())))
    True
    """
    return math.log(size) + 2 / size * log_volumes


def _visited(made: Any, repeat: int, states: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Physical states and the actions taken there, along an episode of random actions."""
    source = np.random.default_rng(seed)
    made.reset(seed=seed)
    box, places, over = made.action_space, [], False
    while not over:
        action = source.uniform(box.low, box.high)
        places.append((made.physics.get_state().copy(), action))
        for _ in range(repeat):
            _, _, terminated, truncated, _ = made.step(action)
            over = over or terminated or truncated
            if over:
                break
    chosen = np.linspace(0, len(places) - 1, min(states, len(places))).round().astype(int)
    return [places[index] for index in chosen]


def _differences(made: Any, state: np.ndarray, action: np.ndarray, repeat: int) -> np.ndarray:
    columns = []
    for axis in range(len(state)):
        shift = np.zeros(len(state))
        shift[axis] = DIFFERENCE
        ends = [_after(made, state + sign * shift, action, repeat) for sign in (1, -1)]
        columns.append((ends[0] - ends[1]) / (2 * DIFFERENCE))
    return np.stack(columns, 1)


def _after(made: Any, state: np.ndarray, action: np.ndarray, repeat: int) -> np.ndarray:
    """The physical state `repeat` control steps later; the clock of the task stands still."""
    physics = made.physics
    substeps = round(made.control_timestep / physics.timestep())
    with physics.reset_context():
        physics.set_state(state)
    physics.set_control(action)
    physics.step(repeat * substeps)
    return physics.get_state().copy()
