"""Figure of the fundamental matrix: rows (dicts) in, a new figure out."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sdewm.plots.series import Rows, series_of
from sdewm.plots.style import BAND, BLACK, COLOURS, DASHES, RC, new_figure

GRADE_LABELS = {"gronwall": "Grönwall", "log_norm": "logarithmic norm", "weighted": "weighted norm"}
SQUARE = r"$\mathrm{E}\,\|\Phi_t\|_F^2$"
SUPREMUM = r"$\mathrm{E}\,{\sup}_{s\leq t}\|\Phi_s\|_F^2$"
JACOBIAN = r"size of the Jacobian $(\|I+A\|_F^2+{\sum}_k\|A_k\|_F^2)^{1/2}$ at $x_0$"
GREY = "#777777"
_TOP = {"horizon": 1e3, "scaling": 1e5}  # above, bounds say nothing: lines leave the frame


def growth_of_matrix(rows: Rows) -> Figure:
    """‖Φ‖_F² over the horizon (above) and at its end as the Jacobian is scaled down (below).

    Rows: panel ("horizon" or "scaling"), column, system, series ("measured", "exact" or a key of
    GRADE_LABELS), kind ("certificate" or "estimate" for bounds), quantity ("mean_square" or
    "sup_square"), time, x (time, or size of the Jacobian), value, standard_error.
    """
    columns = sorted({row["column"] for row in rows})
    figure = new_figure(4.3 * len(columns), 8.0)
    with rc_context(RC):
        panels = figure.subplots(2, len(columns), squeeze=False)
        for column in columns:
            part = [row for row in rows if row["column"] == column]
            above, below = panels[:, column]
            handles: dict[str, Artist] = {}
            for axes, panel in ((above, "horizon"), (below, "scaling")):
                handles |= _panel(axes, [row for row in part if row["panel"] == panel], panel)
            above.set(title=part[0]["system"], xlabel="horizon $t$")
            below.set_xlabel(JACOBIAN, fontsize=9)
            end = [row["time"] for row in part if row["panel"] == "scaling"][0]
            below.set_title(f"$T={end:g}$, step map and noise scaled down")
            below.legend(
                list(handles.values()),
                list(handles),
                loc="upper left",
                bbox_to_anchor=(-0.05, -0.2),
                handlelength=3.0,
            )
        panels[0, 0].set_ylabel(r"growth of $\Phi$")
        panels[1, 0].set_ylabel(r"$\mathrm{E}\,\|\Phi_T\|_F^2$")
    return figure


def _panel(axes: Axes, rows: Rows, panel: str) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for quantity in ("mean_square", "sup_square"):
        part = [row for row in rows if row["quantity"] == quantity]
        for name, data in series_of(part).items() if part else ():
            handles |= _series(axes, name, data, quantity == "sup_square")
    if any(row["quantity"] == "sup_square" for row in rows):
        handles[f"dashed: bounds of {SUPREMUM}"] = Line2D([], [], color=GREY, ls=DASHES[1])
    low = min(row["value"] for row in rows if row["series"] == "measured")
    axes.set(yscale="log", ylim=(0.6 * low, _TOP[panel]))
    return handles


def _series(
    axes: Axes, name: str, data: dict[str, np.ndarray], supremum: bool
) -> dict[str, Artist]:
    """Draw one series; its label and line, nothing for the bound of a supremum."""
    x, value = data["x"], data["value"]
    if name == "measured":
        half, colour = BAND * data["standard_error"], GREY if supremum else BLACK
        axes.fill_between(x, value - half, value + half, color=colour, alpha=0.35, lw=0)
        (line,) = axes.plot(x, value, color=colour, lw=1.2, zorder=5)
        return {f"{SUPREMUM if supremum else SQUARE} measured, 95 % band": line}
    if name == "exact":
        (line,) = axes.plot(x, value, color=COLOURS[4], ls=DASHES[2], lw=2.6, zorder=6)
        return {f"{SQUARE} exact": line}
    index = list(GRADE_LABELS).index(name)
    width = 3.2 if name == "log_norm" else 1.4  # the weighted norm often lies on it
    (line,) = axes.plot(x, value, color=COLOURS[index], ls=DASHES[int(supremum)], lw=width)
    return {} if supremum else {f"{GRADE_LABELS[name]}, {data['kind'][0]}": line}
