"""Observation spaces of environments written by others, as vectors, an image, or both.

A space is a tree of Dict and Tuple whose leaves are parts. A part is an image if it is a Box of
bytes, or of floats with the bounds 0 and 1, whose shape is (H, W), bytes only, (H, W, C) or
(C, H, W) with C = 1 or 3. Vectors are Box, Discrete, MultiDiscrete and MultiBinary parts.

    proprio   the vectors one after the other, flattened, (D,) float32; a number of Discrete or
              MultiDiscrete is a one-hot
    pixels    the image, resized to (64, 64, 3) uint8; grey is repeated in three channels
    both      the image in [0, 1], flattened, and after it the vectors: (12288 + D,) float32
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.spaces import Box
from gymnasium.spaces.utils import flatdim, flatten
from gymnasium.utils import RecordConstructorArgs
from PIL import Image

FRAME_SHAPE = (64, 64, 3)
FRAME_SIZE = 64 * 64 * 3
Path = tuple[Any, ...]
VECTORS = (Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def leaves(space: gymnasium.Space, path: Path = ()) -> Iterator[tuple[Path, gymnasium.Space]]:
    """The parts of a space with the keys that lead to them, in the order of the space."""
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from leaves(part, (*path, name))
    elif isinstance(space, spaces.Tuple):
        for number, part in enumerate(space.spaces):
            yield from leaves(part, (*path, number))
    else:
        yield path, space


def part_of(observation: Any, path: Path) -> Any:
    """The part of an observation at a path of keys."""
    for key in path:
        observation = observation[key]
    return observation


def is_image(space: gymnasium.Space) -> bool:
    """Whether a part is an image that `frame_of` can read."""
    if not isinstance(space, Box):
        return False
    shape, unit = space.shape, bool((space.low == 0).all() and (space.high == 1).all())
    if space.dtype == np.uint8 and len(shape) == 2:
        return min(shape) > 1
    channels = len(shape) == 3 and (shape[2] in (1, 3) or shape[0] in (1, 3))
    return channels and (space.dtype == np.uint8 or (unit and space.dtype.kind == "f"))


def frame_of(image: np.ndarray) -> np.ndarray:
    """An image of any size as (64, 64, 3) uint8, by bilinear resampling over the area of a pixel.

    >>> frame_of(np.full((1, 96, 96), 7, np.uint8))[0, 0].tolist()
    [7, 7, 7]
    """
    if image.dtype != np.uint8:
        image = (255 * np.clip(image, 0, 1)).round().astype(np.uint8)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.shape[2] == 1:
        image = image.repeat(3, 2)
    if image.shape != FRAME_SHAPE:
        whole = Image.fromarray(np.ascontiguousarray(image))
        image = np.array(whole.resize(FRAME_SHAPE[:2], Image.Resampling.BILINEAR))
    return image


def join(frame: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """A frame (64, 64, 3) uint8 and a vector (D,) as one observation of obs="both"."""
    return np.concatenate([frame.ravel() / np.float32(255), vector]).astype(np.float32)


def frames_of_both(observations: np.ndarray) -> np.ndarray:
    """The frames (…, 64, 64, 3) in [0, 1] of observations (…, 12288 + D)."""
    frames = observations[..., :FRAME_SIZE]
    return frames.reshape(*frames.shape[:-1], *FRAME_SHAPE)


class ChosenObservations(gymnasium.ObservationWrapper, RecordConstructorArgs):
    """The vectors, the image, or both, of an environment's observations.

    Args:
        env: any environment.
        obs: "proprio", "pixels" or "both".

    Raises:
        ValueError: a part that is not supported, or that `obs` needs and is not there.
    """

    def __init__(self, env: gymnasium.Env, obs: str) -> None:
        RecordConstructorArgs.__init__(self, obs=obs)
        gymnasium.ObservationWrapper.__init__(self, env)
        parts = [*leaves(env.observation_space)]
        images = [(path, space) for path, space in parts if is_image(space)]
        others = [(path, space) for path, space in parts if not is_image(space)]
        if obs != "pixels":
            for path, space in others:
                _check_vector(path, space)
        if obs != "proprio" and len(images) != 1:
            there = ", ".join(_name(*one) for one in parts)
            raise ValueError(
                f"obs={obs!r} needs one image among its observations, and it has {len(images)} "
                f"({there}); images are bytes, or floats in [0, 1], of shape (H, W), (H, W, C) or "
                "(C, H, W) with C = 1 or 3. Use obs='proprio' for vectors."
            )
        if obs != "pixels" and not others:
            raise ValueError(
                f"obs={obs!r} needs vectors, and its observations are images; use obs='pixels'."
            )
        self._image, self._vectors, size = (
            images[0][0] if images else (),
            others,
            sum(flatdim(space) for _, space in others) if obs != "pixels" else 0,
        )
        self._read: Callable[[Any], np.ndarray] = {
            "proprio": self._vector,
            "pixels": self._frame,
            "both": self._both,
        }[obs]
        if obs == "pixels":
            self.observation_space = Box(0, 255, FRAME_SHAPE, np.uint8)
        else:
            size += FRAME_SIZE if obs == "both" else 0
            self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        """The chosen parts."""
        return self._read(observation)

    def _frame(self, observation: Any) -> np.ndarray:
        return frame_of(np.asarray(part_of(observation, self._image)))

    def _vector(self, observation: Any) -> np.ndarray:
        found: list[Any] = [
            flatten(space, part_of(observation, path)) for path, space in self._vectors
        ]
        return np.concatenate(found).astype(np.float32)

    def _both(self, observation: Any) -> np.ndarray:
        return join(self._frame(observation), self._vector(observation))


def _name(path: Path, space: gymnasium.Space) -> str:
    """A part in a message: the keys that lead to it, if any, and its space."""
    return f"{'.'.join(map(str, path))}: {space}" if path else str(space)


def _check_vector(path: Path, space: gymnasium.Space) -> None:
    if not isinstance(space, VECTORS):
        raise ValueError(
            f"its observations have {_name(path, space)}; expected Box, Discrete, MultiDiscrete or "
            "MultiBinary, alone or in a Dict or Tuple."
        )
    if isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) > 1:
        raise ValueError(
            f"its observations have {_name(path, space)}; expected images of shape (H, W), "
            "(H, W, C) or (C, H, W) with C = 1 or 3."
        )
