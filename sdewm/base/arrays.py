"""Checks of recorded arrays: floating point, finite, of the shapes that a metric is defined for.

Axes everywhere in this folder: S samples of a rollout · E episodes · H horizons, k = 1 … H steps
after the last observed one · N rows of data · D components of a latent · Q physical quantities.
"""

from __future__ import annotations

import numpy as np


def check_array(name: str, values: np.ndarray, axes: str) -> np.ndarray:
    """Return `values` in float64 if they are finite and have the axes named.

    Args:
        name: of the argument, for the message.
        values: floating point numbers.
        axes: such as "(E, H, D)"; a final "…" stands for any further axes.

    Raises:
        ValueError: no floating point numbers, another number of axes, an empty axis, or a number
            that is not finite, with its place.

    >>> check_array("errors", np.array([[0.5, np.nan]]), "(E, H)")
    Traceback (most recent call last):
    ...
    ValueError: errors: nan at [0, 1] of (E, H); expected finite numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind != "f":
        raise ValueError(
            f"{name}: {array.dtype} numbers; expected floating point (frames in [0, 1])."
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
    return array.astype(np.float64, copy=False)


def check_pair(
    prediction: np.ndarray, truth: np.ndarray, axes: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64 if they have one shape, with the axes named, and finite numbers.

    Raises:
        ValueError: as `check_array`, or two shapes.
    """
    first, second = check_array("prediction", prediction, axes), check_array("truth", truth, axes)
    if first.shape != second.shape:
        raise ValueError(
            f"prediction {first.shape} and truth {second.shape}: expected one shape {axes}."
        )
    return first, second


def check_samples(samples: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples (S, E, H, …) and truth (E, H, …) in float64, S at least 2.

    Raises:
        ValueError: as `check_array`, shapes that do not match, or a single sample.
    """
    draws, target = (
        check_array("samples", samples, "(S, E, H, …)"),
        check_array("truth", truth, "(E, H, …)"),
    )
    if draws.shape[1:] != target.shape:
        raise ValueError(
            f"samples {draws.shape} and truth {target.shape}: expected (S, E, H, …) and (E, H, …)."
        )
    if len(draws) < 2:
        raise ValueError("samples: S = 1; expected at least two samples of each rollout.")
    return draws, target
