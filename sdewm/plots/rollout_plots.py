"""Figures of bounds: rows (dicts) in, a new figure out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sdewm.plots.series import Rows, series_of
from sdewm.plots.style import BLACK, COLOURS, RC, legend_below, new_figure

GREY = "#777777"
GRADE_STYLES = {
    "gronwall": ("Gronwall", COLOURS[4]),
    "log_norm": ("logarithmic norm", COLOURS[0]),
    "block": ("logarithmic norm, by blocks", COLOURS[3]),
    "weighted": ("logarithmic norm, weighted", COLOURS[1]),
    "linearised": ("linearised, with remainder", COLOURS[2]),
    "double_exponential": ("doubly exponential, as recalled (no bound)", GREY),
}
DASHES = {"certificate": "-", "estimate": (0, (4, 2)), "recalled": (0, (1, 1.2))}
LEVELS = (1.0, 3.0, 10.0, 100.0, 1000.0)
VACUOUS = 1000.0
TICKS = (1, 5, 15, 30, 50)


def rollout_bounds(rows: Rows, paths: int) -> Figure:
    """E|D| with a 95 % band of |D| under its bounds (above); bound/measured (below), per system.

    Rows: panel (the system), series ("measured", a key of GRADE_STYLES, or "prediction"), kind (a
    key of DASHES), size |e|, step, time, mean and sup with mean_ratio and sup_ratio, low and high
    (quantiles of |D|). A curve that leaves a panel ends in a triangle; above the panel stands the
    order of its last value.
    """
    names = dict.fromkeys(row["panel"] for row in rows)
    panels = {name: [row for row in rows if row["panel"] == name] for name in names}
    figure = new_figure(max(6.8, 3.55 * len(panels)), 9.2)
    with rc_context(RC):
        grid = figure.subplots(
            3, len(panels), squeeze=False, sharex="col", height_ratios=(1.3, 0.8, 0.8)
        )
        for axes, (name, own) in zip(grid.T, panels.items(), strict=True):
            _curves(axes[0], own, name, paths)
            _tightness(axes[1], own, "sup_ratio")
            _tightness(axes[2], own, "mean_ratio")
            axes[2].set_xlabel(_unit(own))
        grid[0, 0].set_ylabel(r"distance of two rollouts $\mathrm{E}|D_t|$")
        grid[1, 0].set_ylabel("bound / measured\n" + r"of $\mathrm{E}\,\sup|D|$ up to $t$")
        grid[2, 0].set_ylabel("bound / measured\n" + r"of $\mathrm{E}|D_t|$")
        legend = _legend({row["series"] for row in rows})
        legend_below(figure, legend, columns=4 if len(panels) > 2 else 2)
    return figure


def _curves(axes: Axes, rows: Rows, name: str, paths: int) -> None:
    measured = series_of([row for row in rows if row["series"] == "measured"])["measured"]
    step, mean = measured["step"], measured["mean"]
    low, high = (np.asarray(measured[key], dtype=float) for key in ("low", "high"))
    floor = max(0.5 * low.min(), 0.1 * mean.min(), 1e-12 * mean.max())
    top = min(1e4 * mean.max(), 3.0 * max(data["mean"].max() for *_, data in _bounds(rows)))
    axes.set(yscale="log", ylim=(floor, top), xlim=(0, step[-1]))
    axes.fill_between(step, np.maximum(low, 0.1 * floor), high, color="#C8C8C8", lw=0)
    leaving = []
    for series, kind, data in _bounds(rows):
        _, colour = GRADE_STYLES[series]
        axes.plot(data["step"], data["mean"], color=colour, ls=DASHES[kind])
        if data["mean"][-1] > top:
            leaving.append((crossing(data["step"], data["mean"], top), data["mean"][-1], colour))
    axes.plot(step, mean, color=BLACK, lw=2.2, zorder=5)
    note_leaving(axes, sorted(leaving))
    kinds = dict.fromkeys(
        row["kind"] for row in rows if row["series"] in ("log_norm", "linearised")
    )
    conditions = rf"$|e|={rows[0]['size']:g}$, {paths} paths, {' and '.join(kinds)}"
    axes.set_title(name, pad=50 if leaving else 20)
    axes.annotate(
        conditions,
        (0.5, 1.0),
        xytext=(0, 36 if leaving else 6),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=9,
    )
    axes.text(0.03, 0.03, _prediction(rows), transform=axes.transAxes, fontsize=8, color="#444444")


def _tightness(axes: Axes, rows: Rows, quantity: str) -> None:
    axes.set(yscale="log", ylim=(0.7, 1e4))
    last = max(row["step"] for row in rows)
    for level in LEVELS:
        axes.axhline(level, color="#555555", lw=0.8, zorder=1)
    axes.set_yticks(LEVELS, [f"{level:g}" for level in LEVELS])
    axes.minorticks_off()
    axes.axhspan(VACUOUS, 1e4, color="#E8E8E8", zorder=0)
    behind = {"facecolor": "#E8E8E8", "edgecolor": "none", "pad": 1.0}
    axes.text(
        0.98 * last, 3e3, "vacuous", ha="right", va="center", fontsize=9, bbox=behind, zorder=6
    )
    for series, kind, data in _bounds(rows):
        axes.plot(data["step"], data[quantity], color=GRADE_STYLES[series][1], ls=DASHES[kind])
    ticks = [tick for tick in TICKS if tick <= last] or [1]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])


def _bounds(rows: Rows) -> list[tuple[str, str, dict[str, np.ndarray]]]:
    """(grade, kind, columns) of each bound: certificates first, so that estimates stay visible."""
    keys = dict.fromkeys((r["kind"], r["series"]) for r in rows if r["series"] in GRADE_STYLES)
    return [
        (series, kind, series_of([r for r in rows if (r["kind"], r["series"]) == key])[series])
        for key in sorted(keys, key=lambda key: list(DASHES).index(key[0]))
        for kind, series in [key]
    ]


def crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Where a curve first rises above a level, log y being linear between the points."""
    n = int(np.argmax(y > level))
    if n == 0:
        return float(x[0])
    below, above = math.log(y[n - 1]), math.log(min(y[n], 1e300))
    return float(x[n - 1] + (x[n] - x[n - 1]) * (math.log(level) - below) / (above - below))


def note_leaving(axes: Axes, leaving: list[tuple[float, float, Any]]) -> None:
    """A triangle where each curve leaves, the order of its last value above, side by side."""
    width, right = 0.118, float(axes.get_xlim()[1])
    places: list[float] = []
    for x, _, _ in leaving:
        places.append(max(x / right, places[-1] + width if places else 0.0))
    over = max(0.0, places[-1] - 0.97) if places else 0.0
    for n in range(len(places) - 1, -1, -1):  # back from the right edge
        most = 0.97 - width * (len(places) - 1 - n)
        places[n] = min(places[n], most) if over else places[n]
    for place, (x, last, colour) in zip(places, leaving, strict=True):
        text = rf"$10^{{{math.log10(last):.0f}}}$" if math.isfinite(last) else r"$\infty$"
        axes.plot(x, 1.0, "^", color=colour, ms=4.5, clip_on=False, zorder=6,
                  transform=axes.get_xaxis_transform())  # fmt: skip
        axes.annotate(
            text,
            (x / right, 1.0),
            xytext=(place, 1.075),
            xycoords="axes fraction",
            ha="center",
            va="bottom",
            fontsize=7.5,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 3},
        )


def _unit(rows: Rows) -> str:
    sizes = [row["time"] for row in rows if row["step"] == 1]
    return "horizon in steps" + ("" if sizes[0] == 1.0 else f" of {sizes[0]:.3g} units of time")


def _prediction(rows: Rows) -> str:
    """How far the prediction is from the mean at the end of its stated range."""
    if not any(row["series"] == "prediction" for row in rows):
        return ""
    data = series_of([row for row in rows if row["series"] == "prediction"])["prediction"]
    worst = 100.0 * float(np.abs(data["mean_ratio"] - 1.0).max())
    if worst < 1e-6:
        return "linear: $D=y$"
    size = data["size"][0]
    return rf"$\mathrm{{E}}|y|$ within {worst:.2g} % of $\mathrm{{E}}|D|$ at $|e|={size:.2g}$"


def _legend(present: set[str]) -> dict[str, Artist]:
    handles: dict[str, Artist] = {
        r"measured $\mathrm{E}|D_t|$": Line2D([], [], color=BLACK, lw=2.2),
        r"95 % of $|D_t|$": Patch(color="#C8C8C8"),
        r"leaves the panel; last value": Line2D([], [], color=GREY, marker="^", ms=4.5, ls="none"),
    }
    for series, (text, colour) in GRADE_STYLES.items():
        if series in present:
            dash: Any = DASHES["recalled"] if series == "double_exponential" else "-"
            handles[text] = Line2D([], [], color=colour, ls=dash)
    handles["solid: certificate (proven)"] = Line2D([], [], color="#333333")
    handles["dashed: estimate (sampled)"] = Line2D([], [], color="#333333", ls=DASHES["estimate"])
    return handles
