"""Figures of representation errors: rows (dicts) in, a new figure out."""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from sdewm.plots.series import Rows
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

UNIT = "unit: variance of the posterior"
ROUNDING = 1e-12  # below it a perturbation without randomness has no diffusion


def error_sizes(rows: Rows) -> Figure:
    """Drift and diffusion of the latent's error against the strength, one panel per perturbation.

    Both are squared and divided by the variance of the posterior, |b|²/tr s² and tr v/tr s², with
    bars of 95 %; filled markers where the test finds a drift, open ones where it does not. Squares
    that are zero to rounding are left out.

    Rows: panel, unit (of the strength), strength, drift, drift_error, diffusion, diffusion_error
    (standard errors) and p_value of zero drift.
    """
    names = list(dict.fromkeys(row["panel"] for row in rows))
    figure = new_figure(max(5.0, 3.1 * len(names)), 4.2)
    with rc_context(RC):
        panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        for axes, name in zip(panels, names, strict=True):
            _panel(axes, [row for row in rows if row["panel"] == name])
            axes.set_title(name)
        sizes = [row[name] for row in rows for name in ("drift", "diffusion")]
        # Bars whose interval reaches 0 leave the logarithmic axis at its foot.
        panels[0].set_ylim(bottom=0.2 * min(size for size in sizes if size > ROUNDING))
        panels[0].set_ylabel(f"squared size per step\n({UNIT})")
        handles: dict[str, Artist] = {
            "drift, $|b|^2$ (unbiased), 95 % interval": _line(0, "full"),
            "diffusion, $\\mathrm{tr}\\,v$, 95 % interval": _line(1, "full"),
            "zero drift not rejected (p ≥ 0.01)": _line(0, "none"),
        }
        legend_below(figure, handles, columns=3)
    return figure


def _line(number: int, fill: str) -> Line2D:
    face = COLOURS[number] if fill == "full" else "white"
    dash = DASHES[number] if fill == "full" else "none"
    return Line2D(
        [], [], color=COLOURS[number], ls=dash, marker=MARKERS[number], markerfacecolor=face
    )


def _panel(axes: Axes, rows: Rows) -> None:
    strengths = [row["strength"] for row in rows]
    for number, name in enumerate(("drift", "diffusion")):
        colour = COLOURS[number]
        shown = [(row["strength"], row[name], row) for row in rows if row[name] > ROUNDING]
        axes.plot(
            [x for x, _, _ in shown], [y for _, y, _ in shown], color=colour, ls=DASHES[number]
        )
        for x, y, row in shown:
            found = name == "diffusion" or row["p_value"] < 0.01
            half = BAND * row[f"{name}_error"]
            axes.errorbar(
                x,
                y,
                yerr=[[min(half, 0.999 * y)], [half]],
                color=colour,
                marker=MARKERS[number],
                markerfacecolor=colour if found else "white",
                elinewidth=1,
            )
    axes.axhline(1.0, color=BLACK, lw=0.6, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(strengths, [f"{x:g}" for x in strengths])
    axes.set_xlabel(rows[0]["unit"])


CHANGES = {
    "measured, encoder": "measured; at ε = 1 the model on perturbed observations",
    "predicted, encoder": "second order, error as the encoder makes it",
    "predicted, measured": "second order, measured drift and diffusion",
}


def loss_changes(rows: Rows) -> Figure:
    """Change of each loss against the size ε of the error, one panel per loss.

    Rows of kind "change": panel, series (a key of CHANGES), epsilon, value, standard_error. Rows of
    other kinds are not drawn.
    """
    drawn = [row for row in rows if row["kind"] == "change"]
    names = list(dict.fromkeys(row["panel"] for row in drawn))
    figure = new_figure(max(5.0, 3.3 * len(names)), 4.0)
    with rc_context(RC):
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        handles: dict[str, Artist] = {}
        for axes, name in zip(panels, names, strict=True):
            zero_line(axes)
            for number, (series, text) in enumerate(CHANGES.items()):
                own = [r for r in drawn if (r["panel"], r["series"]) == (name, series)]
                look = {"color": COLOURS[number], "ls": DASHES[number]}
                handles[text] = axes.errorbar(
                    [row["epsilon"] for row in own],
                    [row["value"] for row in own],
                    yerr=[BAND * row["standard_error"] for row in own],
                    marker=MARKERS[number] if number == 0 else "",
                    elinewidth=1,
                    **look,
                ).lines[0]
            axes.set_title(name)
            axes.set_xlabel(r"size of the error $\varepsilon$")
        panels[0].set_ylabel("change of the expected loss")
        legend_below(figure, handles, columns=1)
    return figure
