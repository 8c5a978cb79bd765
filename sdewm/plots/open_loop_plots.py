"""Figure of open-loop accuracy: rows (dicts) in, what is drawn out."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows
from sdewm.plots.style import (
    BLACK,
    BLUE,
    DASHES,
    GREEN,
    GREY,
    MEDIUM,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Entries,
    Look,
    line,
)

MODEL = Look(BLUE, "-", "", 1.8)
REFERENCES = {
    "copy_last": ("last observed row copied", Look(VERMILION, DASHES[1])),
    "data_mean": ("mean of the reference episodes", Look(GREEN, DASHES[2], "", 1.5)),
    "unrelated": ("same k of another episode", Look(PURPLE, DASHES[3])),
    "shuffled": ("any step of a reference episode (ceiling)", Look(ORANGE, DASHES[4])),
    "one_step": ("one step ahead (floor)", Look(SKY, DASHES[5])),
    "observed": ("row itself observed (probe alone)", Look(GREY, DASHES[1], "", 1.0)),
    "nominal": ("nominal coverage", Look(GREY, DASHES[0], "", 0.8)),
}
LOGARITHMIC = 30.0  # panels whose lines span more than this ratio


def open_loop_accuracy(rows: Rows) -> Drawing:
    """Each metric against the steps since the last observation, one panel per metric.

    The model's curve with its band of 95 % over episodes, the reference lines without theirs, and
    a vertical line, with an area for its interval, where the error first exceeds the share θ of the
    ceiling. Axes of errors are logarithmic where the lines span a factor above 30.

    Rows: as `open_loop_rows` gives them; panel, kind ("curve", "reference", "metric" or "setting"),
    series, horizon, value, low, high, unit. Metrics other than predictability horizons are not
    drawn.
    """
    settings = {row["series"]: row["value"] for row in rows if row["kind"] == "setting"}
    panels = []
    for name in dict.fromkeys(row["panel"] for row in rows if row["kind"] == "curve"):
        own = [row for row in rows if row["panel"] == name]
        title = str(name)[:1].upper() + str(name)[1:]
        panels.append(Panel(title, partial(_panel, rows=own)))
    note = (
        "Single samples of the model are scored. Band of the model: 95 % bootstrap interval over "
        "episodes. Predictability horizon: where the error first exceeds "
        f"{settings['theta']:g} of the ceiling; grey area: its 95 % interval, cut by the panel. "
        "Reference lines are drawn without their intervals, which are in the table. Reference "
        "episodes are the first half of those given; the others are scored."
    )
    return Drawing(panels, note, width=2.3, height=1.55)


def _panel(axes: Axes, rows: Rows) -> Entries:
    model = _series(rows, "model")
    entries: Entries = line(axes, model["horizon"], model["value"], MODEL, "model", zorder=5)
    axes.fill_between(
        model["horizon"], model["low"], model["high"], color=MODEL.colour, alpha=0.25, lw=0
    )
    entries = {"model": (Patch(color=MODEL.colour, alpha=0.25, lw=0), entries["model"])}
    for series, (text, look) in REFERENCES.items():
        own = _series(rows, series)
        if len(own["horizon"]):
            entries |= line(axes, own["horizon"], own["value"], look, text)
    unit = str(next(row["unit"] for row in rows if row["kind"] == "curve"))
    axes.set(xlabel="policy_steps after the last observation", ylabel=unit)
    _scale(axes, rows)
    lost = [row for row in rows if row["series"] == "predictability_horizon"]
    if lost and math.isfinite(lost[0]["value"]):
        last = model["horizon"][-1]
        low, high = (min(max(lost[0][end], 1.0), last) for end in ("low", "high"))
        axes.axvspan(low, high, color=MEDIUM, alpha=0.3, lw=0)
        text = "predictability horizon"
        upright = axes.axvline(lost[0]["value"], color=BLACK, lw=1, ls=DASHES[2], label=text)
        entries[text] = (Patch(color=MEDIUM, alpha=0.3, lw=0), upright)
    return entries


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
