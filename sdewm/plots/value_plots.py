"""Figures of the value expansion: rows (dicts) in, a new figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from sdewm.plots.series import Rows, series_of
from sdewm.plots.style import (
    BAND,
    BLACK,
    COLOURS,
    DASHES,
    MARKERS,
    RC,
    legend_below,
    new_figure,
    zero_line,
)

BIAS = {
    "measured": "measured, 95 % interval",
    "first": r"first order: $\mathrm{E}[\nabla Q\cdot y]$",
    "second": r"second order: $+\frac{1}{2}\mathrm{E}[\nabla Q\cdot w+y^\top\nabla^2Q\,y]$",
}
SIGNED = r"signed size $s$ of the error, $e=s\,e_1$, $\mathrm{E}|e_1|=1$"
SIZE = r"mean size of the error $\delta=\mathrm{E}|e|$"


def value_expansion(rows: Rows, titles: dict[str, str]) -> Figure:
    """Bias of Q against the size of e, two systems (above); sizes of remainders (below).

    Rows: panel (a key of `titles`, in order: two with the bias, two with remainders in logarithmic
    scales), series, size, value, standard_error, slope (fitted, one per series of remainders),
    reference (order of the line drawn beside the series). Series of a bias are the keys of BIAS;
    those of a remainder are drawn under their own names.
    """
    figure = new_figure(8.4, 8.4)
    with rc_context(RC):
        panels = figure.subplots(2, 2).flatten()
        shown: dict[str, Artist] = {}
        for index, (axes, (panel, title)) in enumerate(zip(panels, titles.items(), strict=True)):
            series = series_of([row for row in rows if row["panel"] == panel])
            axes.set_title(title)
            if index < 2:
                shown |= _bias(axes, series)
            else:
                _remainders(axes, series)
        panels[0].set_ylabel(r"bias $\mathrm{E}[Q(x^e)-Q(x^0)]$")
        panels[2].set_ylabel("change of $Q$ minus its prediction")
        legend_below(figure, shown, columns=3)
    return figure


def _bias(axes: Axes, series: dict[str, dict[str, np.ndarray]]) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    zero_line(axes)
    for index, (name, data) in enumerate(series.items()):
        x, value, half = data["size"], data["value"], BAND * data["standard_error"]
        if name == "measured":
            axes.fill_between(x, value - half, value + half, color="#C8C8C8", zorder=2)
            bars: Any = axes.errorbar(
                x, value, half, fmt="o", color=BLACK, ms=3.5, capsize=2.5, lw=1.2, zorder=5
            )
            handles[BIAS[name]] = bars
        else:
            (handles[BIAS[name]],) = axes.plot(x, value, color=COLOURS[index], ls=DASHES[index])
    axes.set_xlabel(SIGNED)
    return handles


def _remainders(axes: Axes, series: dict[str, dict[str, np.ndarray]]) -> None:
    handles: dict[str, Artist] = {}
    smallest, largest = math.inf, 0.0
    tops: dict[int, float] = {}
    for index, (name, data) in enumerate(series.items()):
        x, value = data["size"], data["value"]
        half = BAND * data["standard_error"]
        style = {"color": COLOURS[index], "marker": MARKERS[index], "ls": "none", "capsize": 2.5}
        bars: Any = axes.errorbar(x, value, half, **style)
        handles[f"{name}: slope {data['slope'][0]:.2f}"] = bars
        order = int(data["reference"][0])
        smallest, largest = min(smallest, float(x.min())), max(largest, float(x.max()))
        ends = np.array([x.min(), x.max()])
        line = value[int(x.argmin())] * (ends / x.min()) ** order
        axes.plot(ends, line, color="#666666", lw=1.0, ls=DASHES[1], zorder=1)
        tops[order] = max(tops.get(order, 0.0), float(line[1]))
    for order, top in tops.items():
        text = r"$\propto\delta$" if order == 1 else rf"$\propto\delta^{order}$"
        axes.annotate(
            text,
            (largest, top),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color="#444444",
        )
    axes.set_xlabel(SIZE)
    if handles:
        axes.set(xscale="log", yscale="log")
        axes.set_xlim(right=largest * (largest / smallest) ** 0.25)  # room for the orders
        _name_sizes(axes, [float(size) for data in series.values() for size in data["size"]])
        place = {"loc": "upper left", "bbox_to_anchor": (-0.1, -0.16), "handletextpad": 0.2}
        axes.legend(list(handles.values()), list(handles), **place)
    else:
        axes.text(0.5, 0.5, "zero to rounding", ha="center", transform=axes.transAxes)


def _name_sizes(axes: Axes, sizes: Sequence[float]) -> None:
    """The sizes drawn, and only these, as ticks of a logarithmic axis."""
    ticks: list[Any] = sorted(set(sizes))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
