"""Gymnasium's conventions, checked at every step of an environment written by others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs

from sdewm.data.observations import is_image, leaves, part_of

HALF_LEVEL = 0.5 / 255  # beyond the ends of [0, 1], rounding to bytes loses nothing up to here
RESET = "reset(self, *, seed=None, options=None) -> (observation, info)"
STEP = "step(self, action) -> (observation, reward, terminated, truncated, info)"


def one_line(problem: object) -> str:
    """The message of an exception, in one line."""
    return " ".join(str(problem).split())


class Conventions(gymnasium.Wrapper, RecordConstructorArgs):
    """Refuses what breaks a convention, in a sentence that names environment and cause.

    A reward may be any array or tensor with one element; it becomes a float. Images in [0, 1] are
    rounded to bytes later, which would hide other values.

    Args:
        env: an environment of any observations.
        name: its name, for messages.
    """

    def __init__(self, env: gymnasium.Env, name: str) -> None:
        RecordConstructorArgs.__init__(self, name=name)
        gymnasium.Wrapper.__init__(self, env)
        self.name = name
        self._parts = [*leaves(env.observation_space)]
        self._unit_images = [
            is_image(space) and space.dtype != np.uint8 for _, space in self._parts
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and check what it returns."""
        found = self._call("reset", RESET, lambda: self.env.reset(seed=seed, options=options))
        if not isinstance(found, tuple) or len(found) != 2:
            self._refuse(f"reset returned {_kind(found)}; expected {RESET}")
        return self._observation("reset", found[0]), found[1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and check what it returns."""
        found = self._call("step", STEP, lambda: self.env.step(action))
        if not isinstance(found, tuple) or len(found) != 5:
            self._refuse(f"step returned {_kind(found)}; expected {STEP}")
        observation, reward, terminated, truncated, info = found
        flags = self._number("terminated", terminated), self._number("truncated", truncated)
        gain = self._number("reward", reward)
        return self._observation("step", observation), gain, bool(flags[0]), bool(flags[1]), info

    def _call(self, method: str, form: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as problem:
            # A call of another form ends in one of these, here or in a wrapper of Gymnasium's.
            hint = f"; expected {form}" if isinstance(problem, (TypeError, ValueError)) else ""
            cause = f"{type(problem).__name__}: {one_line(problem)}"
            raise ValueError(f"env={self.name!r}: its {method} raised {cause}{hint}.") from problem

    def _observation(self, method: str, observation: Any) -> Any:
        """The observation, after a check of all its parts."""
        for (path, space), unit in zip(self._parts, self._unit_images, strict=True):
            where = f"observation{''.join(f'[{key!r}]' for key in path)}"
            try:
                part = part_of(observation, path)
            except (LookupError, TypeError):
                self._refuse(
                    f"{method} returned {_kind(observation)} as observation, without {where}; "
                    f"expected {space}"
                )
            if isinstance(space, Box):
                self._array(f"{method} returned an {where}", part, space, unit)
            elif not space.contains(part):
                self._refuse(f"{method} returned an {where} {_kind(part)}; expected {space}")
        return observation

    def _array(self, what: str, value: Any, box: Box, unit: bool) -> None:
        array = np.asarray(value)
        if array.shape != box.shape:
            self._refuse(
                f"{what} of shape {array.shape}; expected {box.shape}, the shape of its "
                "observation_space"
            )
        numbers = array.dtype.kind in "biuf"
        bytes_given, bytes_said = array.dtype == np.uint8, box.dtype == np.uint8
        # Of bytes for an image in [0, 1], the brightest may be 1 or 255.
        other = (bytes_said and not bytes_given) or (bytes_given and unit)
        if not numbers or other:
            self._refuse(
                f"{what} of dtype {array.dtype}; expected {box.dtype}, the dtype of its "
                "observation_space"
            )
        if unit and not -HALF_LEVEL <= array.min() <= array.max() <= 1 + HALF_LEVEL:  # or nan
            self._refuse(
                f"{what} with values from {array.min():g} to {array.max():g}; expected an image in "
                "[0, 1], the bounds of its observation_space"
            )

    def _number(self, name: str, value: Any) -> float:
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "biuf":
            self._refuse(f"step returned {name} {_kind(value)}; expected one number")
        return float(array.item())

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(f"env={self.name!r}: its {what}.")


def _kind(value: Any) -> str:
    """A value in a message: its type, with its length or shape if it has one."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)} values"
    shape = np.shape(value) if isinstance(value, (np.ndarray, list)) else ()
    return f"{type(value).__name__}" + (f" of shape {shape}" if shape else f" {value!r:.60}")
