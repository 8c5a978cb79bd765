"""Construction of environments by name; observations are one Box, actions lie in [-1, 1]."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from sdewm.base.checks import check_choice, check_count
from sdewm.data.cartpole_pixels import CartpolePixels
from sdewm.data.conventions import Conventions, one_line
from sdewm.data.dmc import RENDERS, DmcEnv, dmc_tasks
from sdewm.data.one_hot import OneHotActions
from sdewm.data.wrappers import (
    FRAME_SHAPE,
    ActionRepeat,
    Pixels,
    SeededEpisodes,
    UnitActions,
    episode_seed,
)

OBSERVATIONS = ("proprio", "positions", "pixels")
OWN = {"own:cartpole_pixels": CartpolePixels}


def list_envs() -> list[str]:
    """Names of all known environments, including those whose spaces `make_env` refuses.

    >>> [name for name in list_envs() if name.startswith("own:")]
    ['own:cartpole_pixels']
    """
    gym = [f"gym:{name}" for name in sorted(gymnasium.registry)]
    return [*OWN, *(f"dmc:{name}" for name in sorted(dmc_tasks())), *gym]


def check_env(env: object) -> str:
    """Return `env` if it names an environment, else raise ValueError with the nearest name.

    >>> check_env("dmc:walker_wlak")
    Traceback (most recent call last):
    ...
    ValueError: env='dmc:walker_wlak' is not an environment; did you mean 'dmc:walker_walk'? ...
    """
    if isinstance(env, str) and env in OWN:
        return env
    # Modules may register their ids when gymnasium loads them: "gym:<module>:<id>".
    if isinstance(env, str) and env.startswith("gym:") and env.count(":") == 2:
        return env
    names = list_envs()
    if isinstance(env, str) and env in names:
        return env
    near = difflib.get_close_matches(str(env), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"env={env!r} is not an environment; {hint}Names are dmc:<domain>_<task>, gym:<id> and "
        f"{', '.join(OWN)}; sdewm.data.envs.list_envs() gives all {len(names)}."
    )


def make_env(
    env: str,
    *,
    obs: str,
    action_repeat: int,
    render: str,
    seed: int,
    index: int,
    change: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
) -> gymnasium.Env:
    """One environment with all its wrappers.

    Observations are `(D,)` float32 or `(64, 64, 3)` uint8 (obs="pixels"), actions
    `(A,)` float32 in [-1, 1]. `.unwrapped` is the simulator itself (for dmc: with `.physics`).
    Its episodes are those of `sdewm.data.wrappers.SeededEpisodes`.

    Args:
        env: `dmc:<domain>_<task>`, `gym:<id>` or `own:cartpole_pixels`.
        obs: "proprio" (vectors; nothing is rendered), "positions" (for dmc: the same without the
            velocities) or "pixels".
        action_repeat: simulator steps per policy step.
        render: for dmc: "full" or "fast" (`DmcEnv`).
        seed: seed of the run, shared by all its environments.
        index: index of this environment among them.
        change: wraps the simulator itself, below the action repeat.

    Raises:
        ValueError: a name, a space or a value that is not allowed.
        RuntimeError: pixels of dmc: on a machine without OpenGL; the message says what to install.

    >>> cartpole = make_env("own:cartpole_pixels", obs="proprio", action_repeat=2, render="fast",
    ...                     seed=0, index=0)
    >>> cartpole.reset()[0].shape
    (5,)
    """
    check_choice("obs", obs, OBSERVATIONS)
    check_choice("render", render, RENDERS)
    check_count("action_repeat", action_repeat)
    check_count("seed", seed, minimum=0)
    check_count("index", index, minimum=0)
    kind, _, name = check_env(env).partition(":")
    pixels = obs == "pixels"
    if obs == "positions" and kind != "dmc":
        raise ValueError(f"obs='positions' is for dmc: environments, not for env={env!r}.")
    draw: Callable[[], np.ndarray] | None = None
    if kind == "own":
        base = OWN[env]()
        draw = base.frame
    elif kind == "dmc":
        built_from = episode_seed(seed, index, 0)
        velocities = obs != "positions"
        base = DmcEnv(name, render=render, pixels=pixels, seed=built_from, velocities=velocities)
        draw = base.frame
    else:
        base = _gym_env(name, pixels)
    if change is not None:
        base = change(base)
    try:
        wrapped = _learnt_actions(ActionRepeat(base, action_repeat))
    except ValueError as problem:
        base.close()
        raise ValueError(f"env={env!r}: {problem}") from None
    seeded = SeededEpisodes(wrapped, seed, index)
    return Pixels(seeded, draw) if pixels and draw is not None else seeded


def _learnt_actions(env: gymnasium.Env) -> gymnasium.Env:
    """Actions in [-1, 1], or one-hot if the environment's are discrete."""
    if isinstance(env.action_space, (Discrete, MultiDiscrete)):
        return OneHotActions(env)
    return UnitActions(env)


def _gym_env(name: str, pixels: bool) -> gymnasium.Env:
    """A Gymnasium environment whose observations are float32 vectors or 64×64 frames."""
    try:
        # The checker would warn about conventions of others' environments at every first step.
        made = gymnasium.make(name, disable_env_checker=True)
    except ModuleNotFoundError as problem:
        raise ValueError(
            f"env='gym:{name}' cannot be made: it needs the module {problem.name!r}; install the "
            "package that provides it."
        ) from problem
    except (gymnasium.error.Error, ImportError) as problem:
        raise ValueError(f"env='gym:{name}' cannot be made: {one_line(problem)}") from problem
    except Exception as problem:  # the constructor of another's class
        raise ValueError(
            f"env='gym:{name}' cannot be made: {type(problem).__name__}: {one_line(problem)}"
        ) from problem
    box = made.observation_space
    reason = None
    if not isinstance(box, Box):
        reason = f"its observations are {box}, and only a Box is supported."
    elif pixels and (box.shape != FRAME_SHAPE or box.dtype != np.uint8):
        reason = (
            f"its observations are {box}; pixels of a gym: environment are its own observations, "
            f"which must be {FRAME_SHAPE} uint8. Use obs='proprio' for vectors."
        )
    elif not pixels and box.dtype == np.uint8 and len(box.shape) > 1:
        reason = f"its observations are images ({box}); use obs='pixels'."
    if reason is not None:
        made.close()
        raise ValueError(f"env='gym:{name}': {reason}")
    checked = Conventions(made, f"gym:{name}")
    return checked if pixels else _Vector(checked)


class _Vector(gymnasium.ObservationWrapper):
    """Observations flattened, float32."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, Box)
        size = int(np.prod(env.observation_space.shape))
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return np.asarray(observation).ravel().astype(np.float32)
