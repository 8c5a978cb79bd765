"""The interface of an analysis: settings, rows, figure and summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdewm.base.checks import check_count
from sdewm.base.records import Row
from sdewm.base.stats import Estimate, half_width
from sdewm.data.recorded_episodes import Episodes
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.plots.panels import Drawing
from sdewm.report.subject import Subject
from sdewm.theory.remainder_order import RemainderOrder


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

    def check_pairs(self) -> None:
        """Refuse an odd number of paths of an episode, where paths are summed in pairs."""
        if self.copies * self.paths % 2:
            raise ValueError(
                f"copies={self.copies}, paths={self.paths}: expected an even product, because "
                "the paths of an episode are summed in pairs."
            )


def with_episodes(rows: list[Row], episodes: Episodes) -> list[Row]:
    """The rows with their number of units, from which their intervals take Student's t."""
    return [{**row, "episodes": len(episodes.observations)} for row in rows]


def order_estimate(order: RemainderOrder, units: int | None = None) -> Estimate:
    """The order with the standard error that makes its 95 % interval over `units` units.

    >>> from sdewm.theory.verdict import Verdict
    >>> order_estimate(RemainderOrder(3.0, (2.0, 4.0), 3, Verdict("holds", "")), 2)
    Estimate(value=3.0, standard_error=0.0787...)
    """
    low, high = order.interval
    return Estimate(order.slope, 0.5 * (high - low) / half_width(1.0, units))


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
        stem: name of its files, without extension.
        question: that it answers.
        settings: dataclass of its settings; every field has a default, and the property `window` is
            the number of rows of each episode that it takes.
        check: (subject, settings, seed) -> the episodes; settings that are not allowed raise a
            ValueError.
        rows: (subject, settings, seed) -> rows of the table; `check` comes before any work.
        needs: the part of the model that each result needs, by the name of the result; all other
            results need none.
        all_need_parts: whether there is no other result, so that a model without these parts
            cannot be analysed.
        figure: rows -> a new figure.
        summary: rows -> a few lines of text.
    """

    stem: str
    question: str
    settings: type
    check: Callable[[Subject, Any, int], Episodes]
    rows: Callable[[Subject, Any, int], list[Row]]
    figure: Callable[[Sequence[Any]], Drawing]
    summary: Callable[[Sequence[Any]], str]
    needs: Mapping[str, str] = field(default_factory=dict)
    all_need_parts: bool = False
