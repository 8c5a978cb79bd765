"""Recorded episodes as others store them, brought into the form of this package.

One row of an episode is an observation with the action and the reward that led to it. Two
conventions of storing actions and rewards are in use:

    "previous"   row t holds the action taken before observation t, and the reward received with
                 observation t (DreamerV2, dreamerv3-torch);
    "next"       row t holds the action taken after observation t, and the reward of that action,
                 received with observation t + 1 (Gymnasium, D4RL, Minari).

DreamerV3 of its authors (danijar/dreamerv3) mixes them: its row t holds the action taken after
observation t, as "next", and the reward received with it, as "previous". Move its actions down by a
row, numpy.concatenate([0 * action[:1], action[:-1]]), and take "previous".

Observations become vectors (T, D) or images (T, H, W, C) uint8. An image beside vectors becomes one
vector, the image in [0, 1], flattened, before the others, as of obs="both" (`observations.join`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdewm.base.checks import check_choice, check_real_tensor

CONVENTIONS, CHANNELS = ("previous", "next"), ("first", "last")
PIXEL_MAXIMA = (1, 255)
WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}  # which torch hardly knows
MOST = np.iinfo(np.int64).max


class EpisodeRows(NamedTuple):
    """One episode: observations (T, *shape), actions (T, A) and rewards (T,) that led to them."""

    observations: Tensor
    previous_actions: Tensor
    rewards: Tensor


@dataclass(frozen=True)
class ObservationForm:
    """What the user says about the form of observations.

    Attributes:
        keys: of a mapping of observations: those that the model gets, at most one of them an image.
            Vectors are concatenated in this order. None: the only one.
        channels: place of the channels of images, "first" or "last"; None: told by their shape.
        pixel_max: brightest value of images that are not uint8, 1 or 255.
        resize: whether images become (64, 64, 3), as the world models of sdewm train take them.

    Raises:
        ValueError: a value that is not allowed.
    """

    keys: tuple[str, ...] | None = None
    channels: str | None = None
    pixel_max: int | None = None
    resize: bool = False

    def __post_init__(self) -> None:
        if self.channels is not None:
            check_choice("channels", self.channels, CHANNELS)
        if self.pixel_max is not None and self.pixel_max not in PIXEL_MAXIMA:
            raise ValueError(f"pixel_max={self.pixel_max!r}: expected 1 or 255.")
        if self.keys is not None and not self.keys:
            raise ValueError("keys=(): expected at least one name.")


def split_episodes(observations: Any, actions: Any, rewards: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Observations, actions and rewards of one episode after the other.

    Args:
        observations: an array (E, T, …), a sequence of E arrays (T_e, …), a mapping of names to
            these, or a sequence of E mappings.
        actions: likewise, without mappings.
        rewards: likewise.

    Raises:
        ValueError: other forms, or different numbers of episodes.
    """
    if isinstance(observations, Mapping):
        if not observations:
            raise ValueError("observations={}: expected at least one name.")
        columns = {
            name: _each(f"observations[{name!r}]", part) for name, part in observations.items()
        }
        counts = {key: len(column) for key, column in columns.items()}
        if len({*counts.values()}) > 1:
            raise ValueError(f"observations have numbers of episodes {counts}: expected the same.")
        seen: Sequence[Any] = [
            dict(zip(columns, rows, strict=True)) for rows in zip(*columns.values(), strict=True)
        ]
    else:
        seen = _each("observations", observations)
    acted, gained = _each("actions", actions), _each("rewards", rewards)
    if not len(seen) == len(acted) == len(gained):
        raise ValueError(
            f"observations have {len(seen)} episodes, actions {len(acted)}, rewards {len(gained)}: "
            "expected the same number."
        )
    if not len(seen):
        raise ValueError("observations: expected at least one episode.")
    yield from zip(seen, acted, gained, strict=True)


def _each(name: str, given: Any) -> Sequence[Any]:
    """The episodes of an array (E, T, …) or a sequence of arrays."""
    if isinstance(given, (list, tuple)):
        return given
    if isinstance(given, (np.ndarray, Tensor)) and given.ndim >= 2:
        return given  # type: ignore[return-value]
    what = f"shape {tuple(given.shape)}" if hasattr(given, "shape") else type(given).__name__
    raise ValueError(
        f"{name}: {what}; expected an array (E, T, …), or a list with one array (T, …) an episode. "
        "A single episode is a list of one."
    )


def episode_rows(
    observation: Any,
    action: Any,
    reward: Any,
    *,
    convention: str,
    form: ObservationForm,
    name: str,
) -> EpisodeRows:
    """One episode as rows of observations with the actions and rewards that led to them.

    With T observations, the convention "previous" takes T actions and rewards. "next" takes T − 1,
    or T, of which the last led to an observation that is not recorded and is left out. The action
    of row 0 is zero, as is its reward under "next".

    Args:
        observation: (T, …), or a mapping of names to (T, …).
        action: (T, A) or (T − 1, A).
        reward: (T,) or (T − 1,); a further axis of length 1 is allowed.
        convention: "previous" or "next".
        form: what is known about the observations.
        name: of the episode, for messages.

    Raises:
        ValueError: shapes, types or values that do not fit; the message names them.

    >>> rows = episode_rows(np.zeros((3, 2)), np.array([[1.0], [2.0], [3.0]]), np.ones(3),
    ...                     convention="next", form=ObservationForm(), name="episode 0")
    >>> rows.previous_actions[:, 0], rows.rewards
    (tensor([0., 1., 2.], dtype=torch.float64), tensor([0., 1., 1.], dtype=torch.float64))
    """
    check_choice("convention", convention, CONVENTIONS)
    seen = select_observations(observation, form, name).rows
    acted = _floats(_numbers(f"actions of {name}", action))
    gained = _floats(_numbers(f"rewards of {name}", reward))
    if acted.dim() != 2 or not acted.shape[1]:
        raise ValueError(
            f"actions of {name}: shape {tuple(acted.shape)}; expected (T, A). Discrete actions are "
            "one-hot, numpy.eye(number)[actions]; a single continuous one is actions[:, None]."
        )
    if gained.dim() == 2 and gained.shape[1] == 1:
        gained = gained[:, 0]
    if gained.dim() != 1:
        raise ValueError(f"rewards of {name}: shape {tuple(gained.shape)}; expected (T,).")
    rows = len(seen)
    allowed = (rows,) if convention == "previous" else (rows - 1, rows)
    for what, given in (("actions", acted), ("rewards", gained)):
        if len(given) not in allowed:
            raise ValueError(
                f"{what} of {name}: {len(given)} rows for {rows} observations; expected "
                f'{" or ".join(map(str, allowed))} with convention="{convention}".'
            )
    if convention == "next":
        acted = torch.cat([torch.zeros_like(acted[:1]), acted[: rows - 1]])
        gained = torch.cat([torch.zeros_like(gained[:1]), gained[: rows - 1]])
    acted, gained = acted.clone(), gained.clone()
    acted[0] = 0
    return EpisodeRows(seen, acted, gained)


class ObservationRows(NamedTuple):
    """Observations (T, D) or (T, H, W, C); shape of the image that is, or is part of, a row."""

    rows: Tensor
    image: tuple[int, ...] | None


def select_observations(observation: Any, form: ObservationForm, name: str) -> ObservationRows:
    """The observations of an episode that the model gets.

    Raises:
        ValueError: the keys do not fit, or an array is neither of vectors nor of images.
    """
    if not isinstance(observation, Mapping):
        if form.keys is not None:
            raise ValueError(
                f"keys={form.keys}: observations of {name} are one array; names select those of a "
                "mapping."
            )
        return _joined({"": _observation_rows(f"observations of {name}", observation, form)}, name)
    keys = form.keys
    if keys is None:
        if len(observation) > 1:
            names = ", ".join(map(repr, observation))
            raise ValueError(
                f"observations of {name} have the keys {names}: give keys, the names of those that "
                "the model gets."
            )
        keys = tuple(observation)
    parts = {
        key: _observation_rows(
            f"observations[{check_choice('keys', key, observation)!r}] of {name}",
            observation[key],
            form,
            column=len(keys) > 1,
        )
        for key in keys
    }
    return _joined(parts, name)


def _joined(parts: Mapping[str, Tensor], name: str) -> ObservationRows:
    """The image in [0, 1], flattened, and the vectors after it; a single part as it is."""
    images = {key: part for key, part in parts.items() if part.dtype == torch.uint8}
    if len(images) > 1:
        raise ValueError(
            f"keys={(*parts,)}: {' and '.join(map(repr, images))} hold images; expected at most "
            "one, beside vectors."
        )
    lengths = {key: len(part) for key, part in parts.items()}
    if len({*lengths.values()}) > 1:
        raise ValueError(f"observations of {name} have numbers of rows {lengths}.")
    shape = next((tuple(part.shape[1:]) for part in images.values()), None)
    if len(parts) == 1:
        return ObservationRows(next(iter(parts.values())), shape)
    first = [part.flatten(1) / 255 for part in images.values()]
    vectors = [part for key, part in parts.items() if key not in images]
    return ObservationRows(torch.cat([*first, *vectors], 1), shape)  # float64 if one of them is


def _observation_rows(name: str, given: Any, form: ObservationForm, column: bool = False) -> Tensor:
    """Vectors (T, D), or images (T, H, W, C) uint8."""
    array = _numbers(name, given)
    if column and array.dim() == 1:
        array = array[:, None]  # one number a row, beside others
    if array.dim() == 2:
        return _floats(array)
    if array.dim() not in (3, 4, 5):
        raise ValueError(
            f"{name}: shape {tuple(array.shape)}; expected vectors (T, D), or images (T, H, W), "
            "(T, H, W, C), (T, C, H, W) or, stacked, (T, K, H, W, C) or (T, K, C, H, W)."
        )
    images = _channels_last(name, _as_pixels(name, array, form.pixel_max), form.channels)
    if not form.resize:
        return images
    from sdewm.data.observations import frame_of  # gymnasium, a second to import

    if (count := images.shape[3]) not in (1, 3):
        raise ValueError(f"{name}: images of {count} channels; only 1 or 3 can be resized.")
    return torch.stack([torch.from_numpy(frame_of(image.cpu().numpy())) for image in images])


def _channels_last(name: str, pixels: Tensor, channels: str | None) -> Tensor:
    """Images (T, H, W, C) of images of any layout."""
    if pixels.dim() == 3:
        return pixels[..., None]
    channels = channels or _channels_of(name, tuple(pixels.shape[-3:]))
    last = pixels.movedim(-3, -1) if channels == "first" else pixels
    if last.dim() == 5:  # stacked frames follow one another in the channels
        last = last.movedim(1, 3).flatten(3)
    return last.contiguous()


def _channels_of(name: str, shape: tuple[int, ...]) -> str:
    """The place of the channels of an image: an end that is less than half of both other axes."""
    first, last = 2 * shape[0] < min(shape[1:]), 2 * shape[2] < min(shape[:2])
    if first == last:
        raise ValueError(
            f'{name}: shape {shape} of an image does not tell its channels; give channels="first" '
            'or channels="last".'
        )
    return "first" if first else "last"


def _as_pixels(name: str, array: Tensor, pixel_max: int | None) -> Tensor:
    """Images as uint8, 255 being the brightest; others are scaled and rounded."""
    if array.dtype == torch.uint8:
        if pixel_max == 1:
            raise ValueError(f"pixel_max=1: {name} are uint8, from 0 to 255.")
        return array
    low, high = float(array.min()), float(array.max())
    found = f"{name}: images of {str(array.dtype).removeprefix('torch.')} from {low:g} to {high:g}"
    if pixel_max is None:
        raise ValueError(
            f"{found}; give pixel_max=1 or pixel_max=255, the value of the brightest pixel, or "
            "flatten what is no image to (T, D)."
        )
    if low < 0 or high > pixel_max:
        raise ValueError(f"{found}; expected values from 0 to pixel_max={pixel_max}.")
    if pixel_max == 255 and array.dtype == torch.bool:
        raise ValueError(f"{found}; expected pixel_max=1.")
    if pixel_max == 255 and 0 < high <= 1 and bool((array != array.round()).any()):
        raise ValueError(f"{found}, fractions among them; expected pixel_max=1.")
    return (array.double() * (255 / pixel_max)).round().to(torch.uint8)


def _numbers(name: str, given: Any) -> Tensor:
    """A tensor of finite numbers with at least one row, detached from any graph."""
    if isinstance(given, Tensor):
        tensor = check_real_tensor(name, given.detach())
    else:
        array = np.asarray(given)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name}: dtype {array.dtype}; expected real numbers.")
        if array.dtype == np.uint64 and array.size and array.max() > MOST:
            raise ValueError(f"{name}: {array.max()} among them; expected numbers up to {MOST}.")
        native = "float64" if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
        tensor = torch.from_numpy(array.astype(WIDER.get(array.dtype.name, native)))
    if tensor.dim() == 0 or tensor.numel() == 0:
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}; expected rows (T, …).")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        row = int((~torch.isfinite(tensor)).reshape(len(tensor), -1).any(1).nonzero()[0])
        raise ValueError(f"{name}: row {row} is not finite.")
    return tensor


def _floats(tensor: Tensor) -> Tensor:
    """In float64 if it was, else in float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
