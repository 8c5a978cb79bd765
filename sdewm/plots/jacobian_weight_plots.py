"""Figure of what the weight of the Jacobian penalty does: rows in, what is drawn out."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from scipy.special import stdtrit

from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows
from sdewm.plots.style import BLACK, SKY, Entries, Look, points, zero_line


def effects_of_penalty(rows: Rows) -> Drawing:
    """Every quantity against the weight: each seed, and the mean over seeds with 95 % intervals.

    Weights stand side by side, not on a scale, so that 0 has a place.

    Rows: quantity, title, unit, weight, seed, value.
    """
    weights = sorted({row["weight"] for row in rows})
    panels = []
    for name in dict.fromkeys(row["quantity"] for row in rows):
        own = [row for row in rows if row["quantity"] == name]
        panels.append(Panel(own[0]["title"], partial(_panel, rows=own, weights=weights)))
    note = (
        "Points beside each other are training seeds; bars are 95 % intervals of their mean by "
        "Student's t."
    )
    return Drawing(panels, note, width=1.7, height=1.4)


def seed_interval(values: list[float]) -> tuple[float, float]:
    """Mean over seeds and half of its 95 % interval by Student's t; nan for a single seed.

    >>> mean, half = seed_interval([1.0, 2.0, 3.0])
    >>> print(mean, round(half, 3))
    2.0 2.484
    """
    count = len(values)
    if count < 2:
        return values[0], math.nan
    spread = float(np.std(values, ddof=1)) / math.sqrt(count)
    return float(np.mean(values)), float(stdtrit(count - 1, 0.975)) * spread


def _short(weight: float) -> str:
    """Powers of ten as such."""
    power = round(math.log10(weight)) if weight > 0 else 0
    return rf"$10^{{{power}}}$" if power and weight == float(f"1e{power}") else f"{weight:g}"


def _panel(axes: Axes, rows: Rows, weights: list[float]) -> Entries:
    entries: Entries = {}
    for place, weight in enumerate(weights):
        values = [row["value"] for row in rows if row["weight"] == weight]
        if not values:
            continue
        apart = min(0.14, 0.6 / max(1, len(values) - 1))  # within this weight's share of the axis
        spots = place + apart * (np.arange(len(values)) - (len(values) - 1) / 2)
        entries |= points(axes, spots, values, None, "one seed", Look(SKY, "none", "o"), zorder=4)
        mean, half = seed_interval(values)
        bars = [half] if math.isfinite(half) else None
        look = Look(BLACK, "none", "D")
        entries |= points(axes, [place], [mean], bars, "mean over seeds", look, ms=4)
    low, high = axes.get_ylim()
    if low < 0 < high:
        entries |= zero_line(axes)
    axes.set_xticks(range(len(weights)), [_short(weight) for weight in weights])
    axes.set_xlim(-0.5, len(weights) - 0.5)
    axes.set(xlabel="weight of the penalty", ylabel=rows[0]["unit"])
    return entries
