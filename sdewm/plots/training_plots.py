"""Figures of training: rows (dicts) in, a new figure out."""

from __future__ import annotations

import math
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sdewm.plots.series import Rows, series_of
from sdewm.plots.style import BLACK, COLOURS, DASHES, RC, legend_below, new_figure

COLUMNS = 3
OWN_DASHES = (DASHES[0], DASHES[1], DASHES[2], DASHES[4])
PUBLISHED = (("#444444", DASHES[3]), ("#999999", DASHES[5]))
THOUSAND = 1e-3


def learning_curves(rows: Rows) -> Figure:
    """Return against env_frames, one panel per task: own curves in colour over published in grey.

    A curve is the mean over seeds with a band of one standard deviation on each side; single seeds
    of own curves are thin lines. Panels end where the last own curve does.

    Rows: panel (its title), series (text of the legend), kind ("published", "own", or "seed" for
    one seed of an own series), seed (of a "seed" row), seeds (their number), env_frames, mean, and
    deviation (None where there is one seed).
    """
    names = list(dict.fromkeys(row["panel"] for row in rows))
    across = min(COLUMNS, len(names))
    down = math.ceil(len(names) / across)
    figure = new_figure(max(6.4, 4.0 * across), 1.4 + 3.2 * down)
    looks = _looks(rows)
    handles: dict[str, Artist] = {}
    with rc_context(RC):
        grid = figure.subplots(down, across, squeeze=False)
        panels = list(grid.flatten())
        for axes, name in zip(panels, names, strict=False):
            handles |= _panel(axes, [row for row in rows if row["panel"] == name], looks)
            axes.set_title(name)
            axes.set_xlabel("env_frames in thousands (simulator steps)")
        for axes in panels[len(names) :]:
            axes.remove()
        for axes in grid[:, 0]:
            axes.set_ylabel("return (sum of rewards of an episode)")
        ordered = {text: handles[text] for text in looks if text in handles}
        ordered["± one standard deviation over seeds"] = Patch(color="#888888", alpha=0.3, lw=0)
        if any(row["kind"] == "seed" for row in rows):
            ordered["one seed"] = Line2D([], [], color="#333333", lw=0.6)
        legend_below(figure, ordered, columns=2 if across > 1 else 1)
    return figure


def _looks(rows: Rows) -> dict[str, dict[str, Any]]:
    """Colour, dash and height of each series, the same in all panels; own ones first."""
    looks: dict[str, dict[str, Any]] = {}
    for number, series in enumerate(dict.fromkeys(r["series"] for r in rows if r["kind"] == "own")):
        colour = COLOURS[number % (len(COLOURS) - 1)]  # the last is for areas
        dash = OWN_DASHES[number % len(OWN_DASHES)]
        looks[series] = {"color": colour, "ls": dash, "lw": 2.0, "zorder": 5}
    published = sorted({r["series"] for r in rows if r["kind"] == "published"}, reverse=True)
    for number, series in enumerate(published):  # the newest is the darkest
        colour, dash = PUBLISHED[number % len(PUBLISHED)]
        looks[series] = {"color": colour, "ls": dash, "lw": 1.6, "zorder": 3}
    return looks


def _panel(axes: Axes, rows: Rows, looks: dict[str, dict[str, Any]]) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for kind in ("published", "own"):
        for series, data in series_of([row for row in rows if row["kind"] == kind]).items():
            look, x, mean = looks[series], data["env_frames"] * THOUSAND, data["mean"]
            if data["seeds"][0] > 1:
                low, high = mean - data["deviation"], mean + data["deviation"]
                area = {"color": look["color"], "alpha": 0.18, "lw": 0}
                axes.fill_between(x, low, high, zorder=look["zorder"] - 2, **area)
            (handles[series],) = axes.plot(x, mean, **look)
    for series, seed in dict.fromkeys(
        (r["series"], r["seed"]) for r in rows if r["kind"] == "seed"
    ):
        own = [r for r in rows if (r["kind"], r["series"], r["seed"]) == ("seed", series, seed)]
        x = [row["env_frames"] * THOUSAND for row in own]
        axes.plot(x, [row["mean"] for row in own], color=looks[series]["color"], lw=0.6, zorder=4)
    seeds = {row["series"]: row["seeds"] for row in rows}
    note = "\n".join(
        ["seeds", *(f"{series}: {seeds[series]}" for series in looks if series in seeds)]
    )
    axes.text(0.02, 0.98, note, transform=axes.transAxes, va="top", fontsize=7, color="#444444")
    last = max(row["env_frames"] for row in rows if row["kind"] == "own")
    axes.set_xlim(0, last * THOUSAND)
    axes.set_ylim(bottom=min(0.0, *(row["mean"] for row in rows)))
    axes.axhline(0.0, color=BLACK, lw=0.6, zorder=1)
    return handles
