"""Remainders against the size of the error in logarithmic scales: rows in, what is drawn out."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from sdewm.plots.expansion_plots import LOSS, SIZE
from sdewm.plots.names import system_name
from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Facts, Rows, series_of
from sdewm.plots.style import (
    BAND,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PURPLE,
    VERMILION,
    Entries,
    Look,
    line,
    points,
)

REMAINDERS = {
    "same": ("same driver, non-zero drift", COLOURS[0]),
    "same_zero_drift": ("same driver, zero drift", VERMILION),
    "independent": ("independent driver, non-zero drift", GREEN),
    "independent_zero_drift": ("independent driver, zero drift", PURPLE),
    "without_half_S_drift": (r"without ½$\tilde{S}_{\xi\xi}$", ORANGE),
    "without_P": (r"without $P$", COLOURS[5]),
}


def remainder_order(rows: Rows, facts: Facts) -> Drawing:
    """|remainder| against ε in logarithmic scales: all terms kept, and one term dropped.

    Grey lines have the integer slope written at their ends.

    Rows: panel ("full" or "dropped"), series, epsilon, remainder (absolute), standard_error,
    slope (fitted, the same for all rows of a series), reference (order of the grey line).
    """
    exact = all(row["standard_error"] == 0.0 for row in rows)
    sampling = (
        "All sign patterns of two-point increments are enumerated, so that nothing is sampled"
        if exact
        else f"{facts['paths']} paths; bars: 95 % (±1.96 standard errors)"
    )
    note = (
        f"{system_name(facts['system'])}, {facts['steps']} steps. {sampling}. Slopes are fitted "
        "to the three smallest sizes."
    )
    values = [row["remainder"] for row in rows]
    limits = (0.3 * min(values), 5.0 * max(values))

    def draw(axes: Axes, panel: str) -> Entries:
        part = [row for row in rows if row["panel"] == panel]
        entries: Entries = {}
        for name, data in series_of(part).items():
            text, colour = REMAINDERS[name]
            entries |= log_series(axes, data, text, colour, list(REMAINDERS).index(name))
        axes.set(xscale="log", yscale="log", ylim=limits, xlabel=SIZE)
        axes.set_ylabel(rf"$|${LOSS} − prediction$|$")
        entries |= reference_lines(axes, series_of(part), r"\varepsilon")
        return entries

    panels = (
        Panel("All terms kept", partial(draw, panel="full")),
        Panel("One term dropped, same driver", partial(draw, panel="dropped")),
    )
    return Drawing(panels, note, height=2.2)


def log_series(
    axes: Axes, data: dict[str, np.ndarray], text: str, colour: str, index: int
) -> Entries:
    """Absolute remainders of one series with its fitted slope; columns as in `remainder_order`."""
    x = data["epsilon"] if "epsilon" in data else data["size"]
    value = data["remainder"] if "remainder" in data else data["value"]
    half = BAND * data["standard_error"]
    look = Look(colour, "none", MARKERS[index])
    bars = np.array([np.minimum(half, (1.0 - 1e-12) * value), half]) if half.any() else None
    return points(axes, x, value, bars, f"{text}: slope {data['slope'][0]:.2f}", look)


def reference_lines(axes: Axes, series: dict[str, dict[str, np.ndarray]], symbol: str) -> Entries:
    """A line of integer slope through the smallest size of each series, its order at the end."""
    entries: Entries = {}
    tops: dict[int, float] = {}
    sizes: set[float] = set()
    for data in series.values():
        x = data["epsilon"] if "epsilon" in data else data["size"]
        y = data["remainder"] if "remainder" in data else data["value"]
        order, ends = int(data["reference"][0]), np.array([x.min(), x.max()])
        values = y[int(x.argmin())] * (ends / x.min()) ** order
        entries |= line(axes, ends, values, Look(GREY, DASHES[1], "", 0.8), "integer slope",
                        zorder=1)  # fmt: skip
        tops[order] = max(float(values[1]), tops.get(order, 0.0))
        sizes |= {float(size) for size in x}
    if not sizes:
        return {}
    smallest, largest = min(sizes), max(sizes)
    for order, top in tops.items():
        power = symbol if order == 1 else f"{symbol}^{order}"
        axes.annotate(
            rf"$\propto{power}$", (largest, top), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=8.0, color="#444444",
        )  # fmt: skip
    axes.set_xlim(0.85 * smallest, largest * (largest / smallest) ** 0.28)  # the orders' place
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(sorted(sizes), [f"{size:g}" for size in sorted(sizes)])
    axes.minorticks_off()
    return entries
