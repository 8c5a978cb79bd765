"""Checks of recorded arrays: dtype, finiteness and shape.

Axes: S samples of a rollout · E episodes · T time steps · H horizons, k = 1 … H steps after the
last observed one · N rows of data · D components of a latent · Q physical quantities.
"""

from __future__ import annotations

import numpy as np


def check_array(name: str, values: np.ndarray, axes: str) -> np.ndarray:
    """Return `values` in float64 if they pass `require_array`.

    Raises:
        ValueError: see there.
    """
    return require_array(name, values, axes).astype(np.float64, copy=False)


def require_array(name: str, values: np.ndarray, axes: str) -> np.ndarray:
    """Return `values` as they are if they are finite and have the axes `axes`.

    Args:
        name: name of the argument in error messages.
        values: array of a floating-point dtype.
        axes: expected axes, such as "(E, H, D)"; a final "…" stands for any further axes.

    Raises:
        ValueError: the dtype is not floating point, the number of axes is wrong, an axis is empty,
            or a value is not finite (the message gives its index).

    >>> require_array("errors", np.array([[0.5, np.nan]]), "(E, H)")
    Traceback (most recent call last):
    ...
    ValueError: errors: nan at [0, 1] of (E, H); expected finite numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind != "f":
        raise ValueError(
            f"{name}: dtype {array.dtype}; expected floating point (scale frames to [0, 1])."
        )
    wanted = axes.strip("()").split(", ")
    enough = array.ndim >= len(wanted) - 1 if wanted[-1] == "…" else array.ndim == len(wanted)
    if not enough or array.size == 0:
        raise ValueError(f"{name}: shape {array.shape}; expected {axes}, no axis empty.")
    if not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"{name}: {array[tuple(place)]} at {place.tolist()} of {axes}; expected finite numbers."
        )
    return array
