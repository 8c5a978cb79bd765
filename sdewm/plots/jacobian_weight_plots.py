"""Figure of what the weight of the Jacobian penalty does: rows in, a new figure out."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import stdtrit

from sdewm.plots.series import Rows
from sdewm.plots.style import BLACK, COLOURS, MARKERS, RC, legend_below, new_figure, zero_line

COLUMNS = 4


def effects_of_penalty(rows: Rows) -> Figure:
    """Every quantity against the weight: each seed, and the mean over seeds with 95 % intervals.

    Weights stand side by side, not on a scale, so that 0 has a place.

    Rows: quantity, text (its name), weight, seed, value.
    """
    names = list(dict.fromkeys(row["quantity"] for row in rows))
    weights = sorted({row["weight"] for row in rows})
    lines = -(-len(names) // COLUMNS)
    figure = new_figure(3.3 * COLUMNS, 2.9 * lines + 0.6)
    handles: dict[str, Artist] = {}
    with rc_context(RC):
        panels = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            own = [row for row in rows if row["quantity"] == name]
            _panel(axes, own, weights, handles)
            axes.set_title(own[0]["text"], fontsize=9)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        legend_below(figure, handles, columns=2)
    return figure


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


def _panel(axes: Axes, rows: Rows, weights: list[float], handles: dict[str, Artist]) -> None:
    for place, weight in enumerate(weights):
        values = [row["value"] for row in rows if row["weight"] == weight]
        spots = place + 0.12 * (np.arange(len(values)) - (len(values) - 1) / 2)
        handles["one seed"] = axes.plot(
            spots, values, ls="none", marker=MARKERS[0], ms=4, color=COLOURS[5]
        )[0]
        mean, half = seed_interval(values)
        handles["mean over seeds, 95 % interval (Student's t)"] = axes.errorbar(
            place, mean, yerr=half, color=BLACK, marker=MARKERS[3], ms=5, capsize=3, elinewidth=1
        ).lines[0]
    low, high = axes.get_ylim()
    if low < 0 < high:
        zero_line(axes)
    axes.set_xticks(range(len(weights)), [f"{weight:g}" for weight in weights])
    axes.set_xlabel("weight of the penalty")
