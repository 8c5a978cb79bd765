"""What perturbations by name and strength have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from sdewm.base.checks import check_choice, check_finite_number


@dataclass(frozen=True)
class NamedPerturbation:
    """A perturbation with its strength, at least 0.

    Raises:
        ValueError: an unknown name, or a strength out of range.
    """

    allowed: ClassVar[Iterable[str]] = ()

    name: str
    strength: float

    def __post_init__(self) -> None:
        check_choice("perturbation", self.name, self.allowed)
        if check_finite_number("strength", self.strength) < 0:
            raise ValueError(f"strength={self.strength}: {self.name} takes a number of at least 0.")

    @property
    def label(self) -> str:
        """Name and strength, as on the command line."""
        return f"{self.name}:{self.strength:g}"
