"""Discrete actions as concatenated one-hot vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.utils import RecordConstructorArgs

from sdewm.base.checks import check_count


class OneHotSpace(Box):
    """Vectors (A,) float32 of G concatenated one-hots; group g has n_g classes, A = Σ n_g.

    Args:
        groups: the numbers of classes n_1 … n_G.
        seed: seed of `sample`.

    Raises:
        ValueError: no group, or a number of classes below 1.

    >>> OneHotSpace((2, 3), seed=0).from_indices(np.array([[1, 0]])).tolist()
    [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """

    def __init__(self, groups: Sequence[int], seed: int | None = None) -> None:
        if not groups:
            raise ValueError("groups=(): expected at least one.")
        self.groups = tuple(check_count("classes of a group", int(size)) for size in groups)
        super().__init__(0.0, 1.0, (sum(self.groups),), np.float32, seed=seed)

    def sample(self, mask: None = None, probability: None = None) -> np.ndarray:
        """One action, uniform over the classes of each group."""
        return self.from_indices(self.np_random.integers(self.groups))

    def contains(self, x: Any) -> bool:
        """Whether every group holds one 1 and else zeros."""
        return super().contains(x) and bool((x == self.from_indices(self.to_indices(x))).all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OneHotSpace) and self.groups == other.groups

    def __repr__(self) -> str:
        return f"OneHotSpace({self.groups})"

    def from_indices(self, indices: np.ndarray) -> np.ndarray:
        """Class indices (…, G) as one-hots (…, A) float32.

        Raises:
            ValueError: numbers that are not whole, or no classes of their group.
        """
        numbers = np.asarray(indices)
        if numbers.dtype.kind not in "iu":
            raise ValueError(f"indices: dtype {numbers.dtype}; expected whole numbers.")
        if wrong := numbers[(numbers < 0) | (numbers >= self.groups)].tolist():
            raise ValueError(
                f"indices: {wrong[0]} is no class; expected numbers from 0, below {self.groups}."
            )
        columns = np.moveaxis(numbers, -1, 0)
        parts = [np.eye(n, dtype=np.float32)[k] for n, k in zip(self.groups, columns, strict=True)]
        return np.concatenate(parts, -1)

    def to_indices(self, action: np.ndarray) -> np.ndarray:
        """The index (…, G) of the largest entry of each group."""
        parts = np.split(np.asarray(action), np.cumsum(self.groups)[:-1], axis=-1)
        return np.stack([part.argmax(-1) for part in parts], -1)


class OneHotActions(gymnasium.ActionWrapper, RecordConstructorArgs):
    """Discrete actions as one-hots; the environment receives its own numbers.

    Raises:
        ValueError: the action space is neither Discrete nor a one-dimensional MultiDiscrete.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.ActionWrapper.__init__(self, env)
        space = env.action_space
        self.start: np.ndarray
        if isinstance(space, Discrete):
            groups, self.start = (int(space.n),), np.array([space.start])
        elif isinstance(space, MultiDiscrete) and space.nvec.ndim == 1:
            groups, self.start = tuple(map(int, space.nvec)), np.array(space.start)
        else:
            raise ValueError(f"actions {space}: expected Discrete or a flat MultiDiscrete.")
        self.one_hot = OneHotSpace(groups)
        self.action_space = self.one_hot
        self.single = isinstance(space, Discrete)

    def action(self, action: np.ndarray) -> Any:
        """The action that the environment receives.

        Raises:
            ValueError: an action that is not one-hot in every group.
        """
        indices = self.one_hot.to_indices(action)
        if not np.array_equal(self.one_hot.from_indices(indices), action):
            raise ValueError(
                f"action {np.asarray(action).tolist()}: expected one 1, else zeros, in each group "
                f"of {self.one_hot.groups} entries."
            )
        numbers = indices + self.start
        return int(numbers[0]) if self.single else numbers.astype(self.env.action_space.dtype)


def action_groups(space: Box) -> tuple[int, ...]:
    """The classes of each group of one-hot actions; empty for continuous actions.

    >>> action_groups(OneHotSpace((2, 3))), action_groups(Box(-1, 1, (2,)))
    ((2, 3), ())
    """
    return space.groups if isinstance(space, OneHotSpace) else ()
