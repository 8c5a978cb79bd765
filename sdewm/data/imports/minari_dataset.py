"""Datasets of Minari, which have to be on this machine.

Row t of an episode holds the action taken after observation t; one more observation follows the
last action. Discrete actions become one-hot, others are scaled from their bounds to [-1, 1].

The environment is that of the dataset: its arguments, and the limit of its episodes, are taken over
where they differ from those of its registration. It is unknown if it was wrapped, or if it has
arguments that a configuration cannot hold.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from sdewm.data.imports.recording import Recording, StoredEpisode, files_digest
from sdewm.data.one_hot import OneHotSpace

PREFIX = "minari:"


def open_minari(source: str) -> Recording:
    """The recording `minari:<dataset id>`.

    Raises:
        ValueError: minari is not installed, the dataset is not on this machine, or its actions are
            neither discrete nor vectors with finite bounds.
    """
    name = source.removeprefix(PREFIX)
    try:
        minari: Any = importlib.import_module("minari")
    except ModuleNotFoundError as problem:
        if problem.name != "minari":
            raise ValueError(f"{source} needs the module {problem.name!r} of minari.") from problem
        raise ValueError(
            f"{source} needs minari: pip install 'sdewm[minari]', or pip install minari."
        ) from problem
    try:
        dataset = minari.load_dataset(name)
    except (ImportError, OSError, ValueError, KeyError) as problem:
        there = ", ".join(sorted(minari.list_local_datasets())) or "none"
        raise ValueError(
            f"{source} cannot be read: {' '.join(str(problem).split())} Datasets on this machine: "
            f"{there}; `minari download ID` fetches one."
        ) from problem
    if not isinstance(dataset.observation_space, (Box, Dict)):
        raise ValueError(
            f"{source} has the observations {dataset.observation_space}: expected a Box, or a Dict."
        )
    convert, groups = _action_converter(source, dataset.action_space)

    def read() -> Iterator[StoredEpisode]:
        for one in dataset.iterate_episodes():
            seen = one.observations
            ended = bool(np.asarray(one.terminations)[-1])
            actions = convert(np.asarray(one.actions))
            yield StoredEpisode(f"episode {one.id}", seen, actions, one.rewards, ended)

    paths = sorted(path for path in Path(dataset.storage.data_path).rglob("*") if path.is_file())
    known = _environment(dataset.env_spec)
    policy = dataset.storage.metadata.get("algorithm_name")
    if policy:
        known["policy"] = str(policy)
    count = int(dataset.total_episodes)
    digest = files_digest(paths)
    return Recording("minari", name, "next", digest, count, read, action_groups=groups, **known)


def _environment(spec: Any) -> dict[str, Any]:
    """Name, arguments and action repeat of the environment; {} if `make_env` cannot make it."""
    if spec is None or spec.additional_wrappers:
        return {}
    arguments = _arguments(spec)
    values = [x for value in arguments.values() for x in _entries(value)]
    if not all(x is None or isinstance(x, (bool, int, float, str)) for x in values):
        return {}  # a configuration cannot hold them, such as the map of a maze
    # It was stepped once a row.
    return {"env": f"gym:{spec.id}", "env_kwargs": arguments, "action_repeat": 1}


def _arguments(spec: Any) -> dict[str, Any]:
    """The arguments that `gymnasium.make` of the id needs to make this very environment."""
    steps = "max_episode_steps"
    try:
        registered = gymnasium.spec(spec.id)
    except gymnasium.error.Error:  # not installed here
        usual: dict[str, Any] = {steps: None}
    else:
        usual = {**registered.kwargs, steps: registered.max_episode_steps}
    made = {**spec.kwargs, steps: spec.max_episode_steps}
    changed = {name: made[name] for name in made if name not in usual or usual[name] != made[name]}
    if steps in changed and changed[steps] is None:
        changed[steps] = -1  # no limit, where None means that of the registration
    return changed


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _action_converter(
    source: str, space: Any
) -> tuple[Callable[[np.ndarray], np.ndarray], tuple[int, ...]]:
    """From the actions of a space to vectors in [-1, 1]; the classes of one-hot groups."""
    if isinstance(space, Discrete):
        one_hot, first = OneHotSpace((int(space.n),)), int(space.start)
        return lambda actions: one_hot.from_indices(actions[:, None] - first), one_hot.groups
    if isinstance(space, MultiDiscrete) and space.nvec.ndim == 1:
        one_hot, first = OneHotSpace(space.nvec.tolist()), space.start
        return lambda actions: one_hot.from_indices(actions - first), one_hot.groups
    if isinstance(space, Box) and len(space.shape) == 1:
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        if np.isfinite(low).all() and np.isfinite(high).all():
            middle, half = (low + high) / 2, np.where(low < high, (high - low) / 2, 1.0)
            return lambda actions: (actions - middle) / half, ()  # 0 where nothing can vary
    raise ValueError(
        f"{source} has the actions {space}: expected Discrete, MultiDiscrete, or a "
        "one-dimensional Box with finite bounds."
    )
