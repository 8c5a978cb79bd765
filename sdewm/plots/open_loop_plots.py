"""Figure of open-loop accuracy: rows (dicts) in, a new figure out."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sdewm.plots.series import Rows
from sdewm.plots.style import BLACK, COLOURS, DASHES, RC, legend_below, new_figure

LINES = {
    "copy_last": "last observed row copied",
    "data_mean": "mean of the training data",
    "unrelated": "same step of another episode",
    "shuffled": "any step of any episode (ceiling)",
    "one_step": "one step ahead (floor)",
    "observed": "row itself observed (probe alone)",
    "nominal": "nominal coverage",
}
GREYS = {"observed": (DASHES[1], 1.0), "nominal": (DASHES[0], 0.8)}
LOGARITHMIC = 30.0  # panels whose lines span more than this ratio
COLUMNS = 3


def open_loop_accuracy(rows: Rows) -> Figure:
    """Each metric against the steps since the last observation, one panel per metric.

    The model's curve with its band of 95 % over episodes, the reference lines without theirs, and
    a vertical line, with an area for its interval, where the error first exceeds the share θ of the
    ceiling. Axes of errors are logarithmic where the lines span a factor above 30.

    Rows: as `open_loop_rows` gives them; panel, kind ("curve", "reference", "figure" or "setting"),
    series, horizon, value, low, high, unit. Figures other than predictability horizons are not
    drawn.
    """
    names = list(dict.fromkeys(row["panel"] for row in rows if row["kind"] == "curve"))
    settings = {row["series"]: row["value"] for row in rows if row["kind"] == "setting"}
    columns = min(COLUMNS, len(names))
    lines = -(-len(names) // columns)
    figure = new_figure(3.6 * columns, 2.7 * lines + 1.2)
    with rc_context(RC):
        handles: dict[str, Artist] = {}
        panels = figure.subplots(lines, columns, squeeze=False).flat
        for place, axes in enumerate(panels):
            if place >= len(names):
                axes.set_axis_off()
                continue
            own = [row for row in rows if row["panel"] == names[place]]
            handles |= _panel(axes, own, settings["theta"])
            axes.set_title(names[place])
            if place >= len(names) - columns:
                axes.set_xlabel("policy_steps after the last observation")
        legend_below(figure, _ordered(handles), columns=columns)
    return figure


def _panel(axes: Axes, rows: Rows, theta: float) -> dict[str, Artist]:
    """Draw a metric; its legend entries."""
    handles: dict[str, Artist] = {}
    for number, (series, text) in enumerate(LINES.items()):
        own = _series(rows, series)
        if len(own["horizon"]):
            dash, width = GREYS.get(series, (DASHES[(1 + number) % len(DASHES)], 1.3))
            colour = "#777777" if series in GREYS else COLOURS[1 + number]
            look = {"color": colour, "ls": dash, "lw": width}
            (handles[text],) = axes.plot(own["horizon"], own["value"], **look)
    model = _series(rows, "model")
    axes.fill_between(
        model["horizon"], model["low"], model["high"], color=COLOURS[0], alpha=0.25, lw=0
    )
    label = "model, single samples, 95 % band"
    (handles[label],) = axes.plot(model["horizon"], model["value"], color=COLOURS[0], lw=2)
    axes.set_ylabel(_wrapped(next(row["unit"] for row in rows if row["kind"] == "curve")))
    _scale(axes, rows)
    lost = [row for row in rows if row["series"] == "predictability_horizon"]
    if lost and math.isfinite(lost[0]["value"]):
        last = model["horizon"][-1]
        low, high = (min(max(lost[0][end], 1.0), last) for end in ("low", "high"))
        axes.axvspan(low, high, color=BLACK, alpha=0.12, lw=0)
        text = f"predictability horizon, {theta:g} of ceiling"
        handles[text] = axes.axvline(lost[0]["value"], color=BLACK, lw=1, ls=DASHES[2])
        axes.annotate(
            f" {lost[0]['value']:.0f}",
            (lost[0]["value"], 1.0),
            xycoords=("data", "axes fraction"),
            va="top",
            fontsize=8,
        )
    return handles


def _series(rows: Rows, series: str) -> dict[str, np.ndarray]:
    own = [row for row in rows if row["series"] == series and row["horizon"] is not None]
    return {
        name: np.array([row[name] for row in own], dtype=float)
        for name in ("horizon", "value", "low", "high")
    }


def _scale(axes: Axes, rows: Rows) -> None:
    """Logarithmic where a linear axis would flatten all but the largest line."""
    values = np.array([row["value"] for row in rows if row["horizon"] is not None], dtype=float)
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > LOGARITHMIC * values.min():
        axes.set_yscale("log")


def _wrapped(unit: str) -> str:
    return unit.replace(", ", ",\n")


def _ordered(handles: dict[str, Artist]) -> dict[str, Artist]:
    """The model first, then the reference lines as in `LINES`, then the rest."""
    known = [text for text in LINES.values() if text in handles]
    model = [text for text in handles if text.startswith("model")]
    rest = [text for text in handles if text not in (*known, *model)]
    return {text: handles[text] for text in (*model, *known, *rest)}
