"""Figures of rollouts of a trained model from a wrong latent: rows (dicts) in, a new figure out."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sdewm.plots.rollout_plots import DASHES, GRADE_STYLES, crossing, note_leaving
from sdewm.plots.series import Rows
from sdewm.plots.style import BAND, BLACK, COLOURS, RC, legend_below, new_figure, zero_line
from sdewm.plots.style import DASHES as LINES

HIGHEST = 1e3  # times the largest distance: bounds above it leave the panel
DECADES = 1e-3  # of the largest distance, at least shown
BIAS = {
    "measured": r"measured bias of $Q$, 95 % interval over episodes",
    "first": "first order",
    "second": "second order",
}


def model_divergence(rows: Rows) -> Figure:
    """E|D_k| with prediction and bounds by step (left), bias of Q by scale (right), per panel.

    Rows of `sdewm.report.divergence`: kind "mean" (series "measured", "prediction" or a key of
    GRADE_STYLES with its label, a key of DASHES), "quantile" (series "2.5 %" and "97.5 %") and
    "bias" (a key of BIAS), with panel, horizon, epsilon, value and standard_error. Other kinds
    are not drawn. A bound that leaves a panel ends in a triangle; above stands the order of its
    last value.
    """
    names = list(dict.fromkeys(row["panel"] for row in rows))
    figure = new_figure(9.6, 1.4 + 3.9 * len(names))
    with rc_context(RC):
        grid = figure.subplots(len(names), 2, squeeze=False, width_ratios=(1.25, 1.0))
        shown: dict[str, Artist] = {}
        for line, name in zip(grid, names, strict=True):
            own = [row for row in rows if row["panel"] == name]
            shown |= _rollouts(line[0], own)
            shown |= _bias(line[1], own)
            line[0].annotate(
                name, (0, 1), xytext=(0, 34), xycoords="axes fraction",
                textcoords="offset points", fontsize=10.5,
            )  # fmt: skip
        legend_below(figure, shown, columns=2)
    return figure


def _rollouts(axes: Axes, rows: Rows) -> dict[str, Artist]:
    shown: dict[str, Artist] = {}
    step, mean, half = _columns(rows, "mean", "measured")
    largest = float(mean.max())
    # A mean of 0 and an interval that reaches below cannot be drawn on a logarithmic axis.
    floor = max(DECADES * largest, 0.2 * float(mean[mean > 0].min()))
    axes.set(yscale="log", ylim=(floor, HIGHEST * largest), xlim=(0, float(step[-1])))
    low, high = (_columns(rows, "quantile", level)[1] for level in ("2.5 %", "97.5 %"))
    axes.fill_between(step, np.maximum(low, 0.1 * floor), high, color="#DDDDDD", lw=0)
    axes.fill_between(
        step, np.maximum(mean - half, 0.1 * floor), mean + half, color="#9A9A9A", lw=0
    )
    shown[r"95 % of $|D_k|$"] = Patch(color="#DDDDDD")
    shown[r"$\mathrm{E}|D_k|$ measured, 95 % interval over episodes"] = axes.plot(
        step, mean, color=BLACK, lw=2.2, zorder=5
    )[0]
    _, predicted, _ = _columns(rows, "mean", "prediction")
    shown[r"first variation $\mathrm{E}|y_k|$"] = axes.plot(
        step, predicted, color=COLOURS[5], lw=1.6, ls=LINES[1], zorder=6
    )[0]
    leaving = []
    present = dict.fromkeys(row["series"] for row in rows if row["kind"] == "mean")
    for grade in (name for name in present if name in GRADE_STYLES):
        text, colour = GRADE_STYLES[grade]
        label = next(r["label"] for r in rows if r["kind"] == "mean" and r["series"] == grade)
        _, bound, _ = _columns(rows, "mean", grade)
        dash: Any = DASHES[label]
        axes.plot(step, bound, color=colour, ls=dash)
        shown[f"{text}: {label}".replace(" (no bound): recalled", ": recalled, no bound")] = Line2D(
            [], [], color=colour, ls=dash
        )
        if not bound[-1] <= HIGHEST * largest:
            leaving.append((crossing(step, bound, HIGHEST * largest), float(bound[-1]), colour))
    note_leaving(axes, sorted(leaving))
    axes.set_xlabel("step of imagination")
    axes.set_ylabel(r"distance of two rollouts $\mathrm{E}|D_k|$")
    return shown


def _bias(axes: Axes, rows: Rows) -> dict[str, Artist]:
    shown: dict[str, Artist] = {}
    zero_line(axes)
    for number, (series, text) in enumerate(BIAS.items()):
        scale, value, half = _columns(rows, "bias", series, along="epsilon")
        if not len(scale):
            continue
        if series == "measured":
            bars: Any = axes.errorbar(
                scale, value, half, fmt="o", color=BLACK, ms=3.5, capsize=2.5, lw=1.2, zorder=5
            )
            shown[text] = bars
        else:
            look: Any = {"color": COLOURS[number], "ls": LINES[number]}
            (shown[text],) = axes.plot(scale, value, **look)
    axes.set_xlabel(r"scale $s$ of the initial error, $x_0+s\,e$")
    axes.set_ylabel(r"$\mathrm{E}[Q(X^{se})-Q(X^0)]$")
    return shown


def _columns(
    rows: Rows, kind: str, series: str, along: str = "horizon"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Abscissa, value and half the width of a 95 % interval, in the order of the abscissa."""
    own = sorted(
        (row for row in rows if (row["kind"], row["series"]) == (kind, series)),
        key=lambda row: row[along],
    )
    columns = [[row[name] for row in own] for name in (along, "value", "standard_error")]
    x, value, error = (np.array(column, dtype=float) for column in columns)
    return x, value, BAND * np.where(np.isfinite(error), error, 0.0)
