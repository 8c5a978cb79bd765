"""Schedules: a loss weight as a function of the number of gradient updates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdewm.base.checks import check_count, check_finite_number


def check_weight(name: str, value: object) -> float:
    """Return `value` as float if it is finite and not negative, else raise ValueError."""
    weight = check_finite_number(name, value)
    if weight < 0:
        raise ValueError(f"{name}={value!r}: expected a number of at least 0.")
    return weight


@dataclass(frozen=True)
class Constant:
    """A constant weight.

    >>> Constant(0.5)(10_000)
    0.5
    """

    weight: float

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)

    def __call__(self, updates: int) -> float:
        """The weight after `updates` updates."""
        return float(self.weight)

    def __str__(self) -> str:
        return f"{self.weight:g}"


@dataclass(frozen=True)
class LinearWarmUp:
    """Linear warm-up weight · min(1, u/U) after u updates, with U = `updates`.

    >>> LinearWarmUp(0.5, updates=1000)(500)
    0.25
    """

    weight: float
    updates: int

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)
        check_count("updates", self.updates)

    def __call__(self, updates: int) -> float:
        """The weight after `updates` updates."""
        return self.weight * min(1.0, updates / self.updates)

    def __str__(self) -> str:
        return f"{self.weight:g} · min(1, updates/{self.updates})"


@dataclass(frozen=True)
class InverseRootDecay:
    """Decay max(floor, weight / √(u/U + 1)) after u updates, with U = `updates` (1000 in GPLD).

    >>> InverseRootDecay(0.5, floor=0.1)(3000), InverseRootDecay(0.5, floor=0.1)(10**6)
    (0.25, 0.1)
    """

    weight: float
    floor: float = 0.0
    updates: int = 1000

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)
        check_count("updates", self.updates)
        if check_weight("floor", self.floor) > self.weight:
            raise ValueError(f"floor={self.floor!r}: expected at most the weight {self.weight!r}.")

    def __call__(self, updates: int) -> float:
        """The weight after `updates` updates."""
        return max(self.floor, self.weight / math.sqrt(updates / self.updates + 1.0))

    def __str__(self) -> str:
        return f"max({self.floor:g}, {self.weight:g}/√(updates/{self.updates} + 1))"


Schedule = Constant | LinearWarmUp | InverseRootDecay
