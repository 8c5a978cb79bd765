"""Figure of the measurements of related papers: rows in, what is drawn out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from sdewm.plots.jacobian_weight_plots import effects_of_penalty
from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows
from sdewm.plots.style import COLOURS, MARKERS, Entries, Look, points


def related_measurements(rows: Rows, trade_off: Rows) -> Drawing:
    """Every quantity against the weight of the penalty, and the error under noise against without.

    Rows: quantity, title, unit, weight, seed, value; of the trade-off: weight, seed, clean, robust.
    """
    drawing = effects_of_penalty(rows)
    last = Panel("Clean and robust error", partial(_trade_off, rows=trade_off))
    note = drawing.note + " Where two models are averaged, a point is a pair of seeds."
    return Drawing([*drawing.panels, last], note, width=1.75, height=1.1)


def _trade_off(axes: Axes, rows: Sequence[dict[str, Any]]) -> Entries:
    entries: Entries = {}
    for place, weight in enumerate(sorted({row["weight"] for row in rows})):
        own = [row for row in rows if row["weight"] == weight]
        look = Look(COLOURS[place], "none", MARKERS[1 + place])
        entries |= points(axes, [row["clean"] for row in own], [row["robust"] for row in own], None,
                          f"one seed at weight {weight:g} (last panel)", look)  # fmt: skip
    axes.set(xlabel="ln clean error", ylabel="ln robust error")
    return entries
