"""Figures of a study: paired differences of its arms, rows in, what is drawn out."""

from __future__ import annotations

import math
from functools import partial

from matplotlib.axes import Axes

from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows
from sdewm.plots.style import (
    COLOURS,
    DASHES,
    GREY,
    MARKERS,
    Entries,
    Look,
    points,
    zero_line,
)


def weight_sweep(rows: Rows) -> Drawing:
    """Logarithms of end points at every weight of the penalty, less those at weight 0.

    Weights stand side by side, not on a scale.

    Rows: panel, end_point, weight, difference, low, high, pairs, margin.
    """
    weights = sorted({row["weight"] for row in rows})
    names = [*dict.fromkeys(row["end_point"] for row in rows)]
    looks = {name: _look(number) for number, name in enumerate(names)}
    panels = [
        Panel(name, partial(_panel, rows=[r for r in rows if r["panel"] == name], weights=weights,
                            looks=looks))
        for name in dict.fromkeys(row["panel"] for row in rows)
    ]  # fmt: skip
    pairs = sorted({int(row["pairs"]) for row in rows})
    seeds = str(pairs[0]) if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    note = (
        f"Means over {seeds} training seeds of the difference to the same seed without penalty; "
        "bars are 95 % intervals by Student's t. Below zero the penalty reduces an error; an "
        "effect counts as support below the margin."
    )
    return Drawing(panels, note, width=3.0, height=1.9)


def _look(number: int) -> Look:
    """Colour and marker of a series: no two of a figure share both."""
    colours = COLOURS[:-1]  # yellow is for areas
    turn, place = divmod(number, len(colours))
    return Look(colours[place], "none", MARKERS[(place + turn) % len(MARKERS)])


def _panel(axes: Axes, rows: Rows, weights: list[float], looks: dict[str, Look]) -> Entries:
    entries: Entries = {}
    names = [*dict.fromkeys(row["end_point"] for row in rows)]
    for number, name in enumerate(names):
        own = [row for row in rows if row["end_point"] == name]
        spots = [
            weights.index(row["weight"]) + 0.14 * (number - (len(names) - 1) / 2) for row in own
        ]
        halves = [row["difference"] - row["low"] for row in own]
        bars = [half if math.isfinite(half) else 0.0 for half in halves]
        means = [row["difference"] for row in own]
        entries |= points(axes, spots, means, bars, name, looks[name], ms=4)
    entries |= zero_line(axes)
    if rows[0]["margin"]:
        level = -rows[0]["margin"]
        entries["margin"] = axes.axhline(level, color=GREY, ls=DASHES[2], lw=1.0, label="margin")
    axes.set_xticks(range(len(weights)), [f"{weight:g}" for weight in weights])
    axes.set_xlim(-0.5, len(weights) - 0.5)
    axes.set(xlabel="weight of the penalty", ylabel="difference of logarithms")
    return entries
