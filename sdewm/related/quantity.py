"""What is measured on a trained world model, with what its value means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sdewm.study.end_points import Measurement


@dataclass(frozen=True)
class Quantity:
    """One number of a run.

    Attributes:
        name: in tables.
        paper: arXiv number of the paper whose idea it takes.
        title: of its panel in the figure; "": it is in the table only.
        unit: of the value.
        meaning: what the value says, as a clause.
        measure: a run with its test episodes -> value.
    """

    name: str
    paper: str
    title: str
    unit: str
    meaning: str
    measure: Callable[[Measurement], float]
