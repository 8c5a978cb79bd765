"""The interface of an analysis: settings, rows, figure and summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sdewm.base.checks import check_count
from sdewm.base.records import Row
from sdewm.data.recorded_episodes import Episodes
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.plots.panels import Drawing
from sdewm.report.trained_run import TrainedRun


@dataclass(frozen=True)
class PerturbedSettings:
    """Settings of an analysis with one perturbation of the observations."""

    perturbation: str = "noise"
    """Observation perturbation: noise, mask, shift, brightness, rotation or occlusion."""
    strength: float = 0.1
    """Perturbation strength, in the units of that perturbation."""
    start: int = 20
    """Row of each window, counted from 0, at which the initial state is taken."""
    copies: int = 8
    """Number of perturbed copies of each window."""
    paths: int = 4
    """Number of sample paths of each perturbed copy."""

    def checked_perturbation(self) -> ObservationPerturbation:
        """The perturbation; a name, strength or row that is not allowed raises a ValueError."""
        check_count("start", self.start, minimum=0)
        check_count("copies", self.copies)
        check_count("paths", self.paths)
        return ObservationPerturbation(self.perturbation, self.strength)


def with_episodes(rows: list[Row], episodes: Episodes) -> list[Row]:
    """The rows with their number of units, from which their intervals take Student's t."""
    return [{**row, "episodes": len(episodes.observations)} for row in rows]


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
        stem: name of its files, without extension.
        question: that it answers.
        settings: dataclass of its settings; every field has a default.
        check: (trained, settings, seed) -> the episodes; settings that are not allowed raise a
            ValueError.
        rows: (trained, settings, seed) -> rows of the table; `check` comes before any work.
        figure: rows -> a new figure.
        summary: rows -> a few lines of text.
    """

    stem: str
    question: str
    settings: type
    check: Callable[[TrainedRun, Any, int], Episodes]
    rows: Callable[[TrainedRun, Any, int], list[Row]]
    figure: Callable[[Sequence[Any]], Drawing]
    summary: Callable[[Sequence[Any]], str]
