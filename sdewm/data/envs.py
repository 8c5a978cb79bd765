"""Construction of environments by name; observations are one Box, actions in [-1, 1] or one-hot."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete
from gymnasium.wrappers import TimeLimit

from sdewm.base.checks import check_choice, check_count
from sdewm.base.fields import Arguments
from sdewm.data.cartpole_pixels import CartpolePixels
from sdewm.data.conventions import Conventions, one_line
from sdewm.data.dmc import RENDERS, DmcEnv, dmc_tasks
from sdewm.data.observations import ChosenObservations
from sdewm.data.one_hot import OneHotActions
from sdewm.data.wrappers import (
    ActionRepeat,
    Pixels,
    SeededEpisodes,
    UnitActions,
    episode_seed,
)

OBSERVATIONS = ("proprio", "positions", "pixels", "both")
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
    time_limit: int | None = None,
    env_kwargs: Arguments | None = None,
    change: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
    sharing: int | None = None,
) -> gymnasium.Env:
    """One environment with all its wrappers.

    Observations are `(D,)` float32 or `(64, 64, 3)` uint8 (obs="pixels"), actions `(A,)` float32:
    in [-1, 1], or one-hot in an `OneHotSpace` if those of the environment are discrete.
    `.unwrapped` is the simulator itself (for dmc: with `.physics`). Its episodes are those of
    `sdewm.data.wrappers.SeededEpisodes`.

    Args:
        env: `dmc:<domain>_<task>`, `gym:<id>` or `own:cartpole_pixels`.
        obs: "proprio" (vectors; nothing is rendered), "positions" (for dmc: the same without the
            entries that have velocities, see `DmcEnv`), "pixels" or "both": the image in [0, 1],
            flattened, before the vector. What they are of a gym: environment is said in
            `sdewm.data.observations`.
        action_repeat: simulator steps per policy step.
        render: for dmc: "full" or "fast" (`DmcEnv`).
        seed: seed of the run, shared by all its environments.
        index: index of this environment among them.
        time_limit: simulator steps after which an episode is truncated; None: the environment's own
            limit alone.
        env_kwargs: further arguments of the constructor of a gym: environment.
        change: wraps the simulator itself, below the action repeat.
        sharing: number of environments that share one sequence of episodes, see `SeededEpisodes`.

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
    rendered = obs in ("pixels", "both")
    if env_kwargs and kind != "gym":
        raise ValueError(f"env_kwargs={dict(env_kwargs)}: only gym: environments have some.")
    if obs == "positions" and kind != "dmc":
        raise ValueError(f"obs='positions' is for dmc: environments, not for env={env!r}.")
    draw: Callable[[], np.ndarray] | None = None
    if kind == "own":
        base = OWN[env]()
        draw = base.frame
    elif kind == "dmc":
        built_from = episode_seed(seed, index if sharing is None else 0, 0)
        velocities = obs != "positions"
        base = DmcEnv(name, render=render, pixels=rendered, seed=built_from, velocities=velocities)
        draw = base.frame
    else:
        base = _gym_env(name, obs, env_kwargs or {})
    if change is not None:
        base = change(base)
    if time_limit is not None:
        base = TimeLimit(base, check_count("time_limit", time_limit))
    try:
        wrapped = _learnt_actions(ActionRepeat(base, action_repeat))
    except ValueError as problem:
        base.close()
        raise ValueError(f"env={env!r}: {problem}") from None
    seeded = SeededEpisodes(wrapped, seed, index, sharing)
    return Pixels(seeded, draw, obs == "both") if rendered and draw is not None else seeded


def _learnt_actions(env: gymnasium.Env) -> gymnasium.Env:
    """Actions in [-1, 1], or one-hot if the environment's are discrete."""
    if isinstance(env.action_space, (Discrete, MultiDiscrete)):
        return OneHotActions(env)
    return UnitActions(env)


def _gym_env(name: str, obs: str, arguments: Arguments) -> gymnasium.Env:
    """A Gymnasium environment whose observations are float32 vectors or 64×64 frames."""
    try:
        # The checker would warn about conventions of others' environments at every first step.
        given: dict[str, Any] = {**arguments}
        made = gymnasium.make(name, disable_env_checker=True, **given)
    except ModuleNotFoundError as problem:
        raise ValueError(
            f"env='gym:{name}' cannot be made: it needs the module {problem.name!r}; install the "
            "package that provides it (Gymnasium's own: pip install 'sdewm[gymnasium]')."
        ) from problem
    except (gymnasium.error.Error, ImportError) as problem:
        raise ValueError(f"env='gym:{name}' cannot be made: {one_line(problem)}") from problem
    except Exception as problem:  # the constructor of another's class
        which = f" with env_kwargs={dict(arguments)}" if arguments else ""
        raise ValueError(
            f"env='gym:{name}' cannot be made{which}: {type(problem).__name__}: {one_line(problem)}"
        ) from problem
    try:
        return ChosenObservations(Conventions(made, f"gym:{name}"), obs)
    except ValueError as problem:
        made.close()
        raise ValueError(f"env='gym:{name}': {problem}") from None
