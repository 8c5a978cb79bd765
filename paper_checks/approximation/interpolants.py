"""Piecewise-linear interpolants as ReLU networks, and targets of known Hölder smoothness (S32)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

POINTS = 64  # of each cell at which errors are evaluated, besides knots
WAVES = 24  # of Weierstrass's function


@dataclass(frozen=True)
class Target:
    """A function on [0, 1] with its smoothness.

    Attributes:
        smoothness: β in (0, 2]. For β ≤ 1 |f(x) − f(y)| ≤ H|x − y|^β, else f′ has order β − 1.
        constant: H.
        function: f.
    """

    smoothness: float
    constant: float
    function: Callable[[np.ndarray], np.ndarray]

    def bound(self, width: int) -> float:
        """The bound of S32 for `width` equal cells."""
        factor = 2.0**-self.smoothness if self.smoothness <= 1 else 2.0 ** (-1 - self.smoothness)
        return factor * self.constant * width**-self.smoothness


def power(exponent: float) -> Target:
    """x^β on [0, 1], 0 < β < 2: its singular point is a knot. H = 1 for β ≤ 1, else β.

    |x^α − y^α| ≤ |x − y|^α for α ≤ 1, and the derivative of x^β is βx^{β−1}.
    """
    return Target(exponent, max(1.0, exponent), lambda x: x**exponent)


def weierstrass(exponent: float) -> Target:
    """Σ_k 2^{−kβ} cos(2π2^k x), 0 < β < 1: as rough everywhere.

    With a = 2π|x − y| term k differs by at most min(2, 2^k a) 2^{−kβ}. Split where 2^k a = 1: both
    sums are geometric, and together at most a^β (1/(1 − 2^{β−1}) + 2/(1 − 2^{−β})).
    """
    k = np.arange(WAVES)

    def function(x: np.ndarray) -> np.ndarray:
        return np.cos(2.0 * np.pi * np.multiply.outer(x, 2.0**k)) @ 2.0 ** (-k * exponent)

    ends = 1.0 / (1.0 - 2.0 ** (exponent - 1.0)) + 2.0 / (1.0 - 2.0**-exponent)
    return Target(exponent, (2.0 * math.pi) ** exponent * ends, function)


def relu_interpolant(target: Target, knots: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """f(0) + Σ_i c_i max(0, x − x_i), which equals f at the knots 0 = x_0 < … < x_N = 1.

    One hidden layer of N units; c_i is the change of slope at x_i.
    """
    values = target.function(knots)
    slopes = np.diff(values) / np.diff(knots)
    changes = np.diff(slopes, prepend=0.0)
    return lambda x: values[0] + np.maximum(0.0, np.subtract.outer(x, knots[:-1])) @ changes


def largest_error(target: Target, knots: np.ndarray) -> float:
    """Largest |f − interpolant| over POINTS points of each cell."""
    share = (np.arange(POINTS) + 0.5) / POINTS
    x = (knots[:-1, None] + np.diff(knots)[:, None] * share).ravel()
    return float(np.abs(target.function(x) - relu_interpolant(target, knots)(x)).max())


def power_error(exponent: float, width: int) -> float:
    """Largest error for x^β on equal cells, in closed form: it lies in the first cell.

    N^{−β} |t^β − t| at t = β^{1/(1−β)}. The error in a cell is the integral of |f″|, which falls in
    x, against a positive kernel; so no other cell has a larger one.

    >>> power_error(1.5, 1) == abs((4 / 9) ** 1.5 - 4 / 9)
    True
    """
    t = exponent ** (1.0 / (1.0 - exponent))
    return width**-exponent * abs(t**exponent - t)


def graded_knots(width: int, exponent: float) -> np.ndarray:
    """Knots (i/N)^{2/β}, for which the error of x^β falls as N^{−2} whatever β."""
    return (np.arange(width + 1) / width) ** (2.0 / exponent)


def equal_knots(width: int) -> np.ndarray:
    """Knots i/N."""
    return np.arange(width + 1) / width
