"""Figure of the fundamental matrix: rows (dicts) in, what is drawn out."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes

from sdewm.plots.names import system_name
from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Facts, Rows
from sdewm.plots.style import BAND, DASHES, MEASURED, WINE, Entries, Look, bound_look, line

QUANTITIES = {
    "mean_square": (r"Mean square", r"$\mathrm{E}\,\|\Phi_t\|_F^2$"),
    "sup_square": (r"Supremum", r"$\mathrm{E}\,{\sup}_{s\leq t}\|\Phi_s\|_F^2$"),
}
JACOBIAN = r"size of the Jacobian at $x_0$, $(\|I+A\|_F^2+{\sum}_k\|A_k\|_F^2)^{1/2}$"
EXACT = Look(WINE, DASHES[2], "", 2.4)
_TOP = {"horizon": 1e3, "scaling": 1e5}  # above, bounds say nothing: lines leave the frame


def growth_of_matrix(rows: Rows, facts: Facts) -> Drawing:
    """‖Φ‖_F² over the horizon, its supremum, and its end as the Jacobian is scaled down.

    Rows: panel ("horizon" or "scaling"), column, system, series ("measured", "exact" or a grade of
    bound), kind ("certificate" or "estimate" for bounds), quantity ("mean_square" or
    "sup_square"), time, x (time, or size of the Jacobian), value, standard_error.
    """
    systems = list(dict.fromkeys(row["system"] for row in rows))
    panels = []
    for panel, quantity in (
        ("horizon", "mean_square"),
        ("horizon", "sup_square"),
        ("scaling", "mean_square"),
    ):
        for system in systems:
            part = [
                row
                for row in rows
                if (row["panel"], row["quantity"], row["system"]) == (panel, quantity, system)
            ]
            if not part:
                continue
            kind, label = QUANTITIES[quantity]
            if panel == "scaling":
                kind, label = f"End $T={part[0]['time']:g}$, scaled step", label.replace("_t", "_T")
            draw = partial(_panel, rows=part, panel=panel, label=label)
            panels.append(Panel(f"{kind}: {system_name(system)}", draw))
    note = (
        f"{facts['paths']} paths and {facts['steps']} steps at the longest horizon. Band of "
        "measured values: 95 % (±1.96 standard errors). Curves end where they leave the panel. "
        "Scaled step: the step map and the noise are multiplied by a factor below 1."
    )
    return Drawing(panels, note)


def _panel(axes: Axes, rows: Rows, panel: str, label: str) -> Entries:
    entries: Entries = {}
    for name, kind in dict.fromkeys((row["series"], row["kind"]) for row in rows):
        own = [row for row in rows if (row["series"], row["kind"]) == (name, kind)]
        x, value = ([row[key] for row in own] for key in ("x", "value"))
        if name == "measured":
            half = [BAND * row["standard_error"] for row in own]
            entries |= line(axes, x, value, MEASURED, "measured", half, zorder=5)
        elif name == "exact":
            entries |= line(axes, x, value, EXACT, "exact", zorder=6)
        else:
            text, look = bound_look(str(name), str(kind))
            entries |= line(axes, x, value, look, text)
    low = min(row["value"] for row in rows if row["series"] == "measured")
    axes.set(yscale="log", ylim=(0.6 * low, _TOP[panel]), ylabel=label)
    axes.set_xlabel("horizon $t$ (units of time)" if panel == "horizon" else JACOBIAN)
    return entries
