"""The interface of an analysis: settings, rows, figure and summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from sdewm.base.checks import check_count
from sdewm.base.records import Row
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.report.trained_run import TrainedRun


@dataclass(frozen=True)
class PerturbedSettings:
    """Settings of an analysis in which the encoder is shown one kind of perturbed observations."""

    perturbation: str = "noise"
    """Its name."""
    strength: float = 0.1
    """Its strength."""
    start: int = 20
    """Row of the first state."""
    copies: int = 8
    """Perturbed copies of each episode."""
    paths: int = 4
    """Sample paths of each copy."""

    def checked_perturbation(self) -> ObservationPerturbation:
        """The perturbation; ValueError for a name, strength or row that is not allowed."""
        check_count("start", self.start, minimum=0)
        return ObservationPerturbation(self.perturbation, self.strength)


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
        stem: name of its files.
        settings: a dataclass of what can be chosen, every field with a default.
        rows: (trained, settings, seed) -> the numbers, before which everything is checked.
        figure: rows -> a new figure.
        summary: rows -> some lines of text.
    """

    stem: str
    settings: type
    rows: Callable[[TrainedRun, Any, int], list[Row]]
    figure: Callable[[Sequence[Any]], Figure]
    summary: Callable[[Sequence[Any]], str]
