"""Figures of a study: paired differences of its arms, rows in, what is drawn out."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows
from sdewm.plots.style import (
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    MARKERS,
    VERMILION,
    Entries,
    Look,
    level_line,
    points,
    zero_line,
)


def weight_sweep(rows: Rows) -> Drawing:
    """Logarithms of end points at every weight of the penalty, less those at weight 0.

    Weights stand side by side, not on a scale.

    Rows: panel, quantity, end_point, weight, difference, low, high, pairs, margin.
    """
    weights = sorted({row["weight"] for row in rows})
    names = [*dict.fromkeys(row["end_point"] for row in rows)]
    looks = {name: _look(number) for number, name in enumerate(names)}
    panels = [
        Panel(name, partial(_panel, rows=[r for r in rows if r["panel"] == name], weights=weights,
                            looks=looks))
        for name in dict.fromkeys(row["panel"] for row in rows)
    ]  # fmt: skip
    pairs = sorted({int(row["pairs"]) for row in rows})
    seeds = str(pairs[0]) if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    note = (
        f"Means over {seeds} training seeds of the difference to the same seed without penalty; "
        "bars are 95 % intervals by Student's t, each for itself. Below zero the penalty reduces "
        "an error; an effect counts as support below the margin."
    )
    return Drawing(panels, note, width=3.0, height=1.9)


def _look(number: int) -> Look:
    """Colour and marker of a series: no two of a figure share both."""
    colours = COLOURS[:-1]  # yellow is for areas
    turn, place = divmod(number, len(colours))
    return Look(colours[place], "none", MARKERS[(place + turn) % len(MARKERS)])


def _panel(axes: Axes, rows: Rows, weights: list[float], looks: dict[str, Look]) -> Entries:
    entries: Entries = {}
    names = [*dict.fromkeys(row["end_point"] for row in rows)]
    for number, name in enumerate(names):
        own = [row for row in rows if row["end_point"] == name]
        spots = [
            weights.index(row["weight"]) + 0.14 * (number - (len(names) - 1) / 2) for row in own
        ]
        halves = [row["difference"] - row["low"] for row in own]
        bars = [half if math.isfinite(half) else 0.0 for half in halves]
        means = [row["difference"] for row in own]
        entries |= points(axes, spots, means, bars, name, looks[name], ms=4)
    entries |= zero_line(axes)
    if rows[0]["margin"]:
        level = -rows[0]["margin"]
        entries["margin"] = axes.axhline(level, color=GREY, ls=DASHES[2], lw=1.0, label="margin")
    axes.set_xticks(range(len(weights)), [f"{weight:g}" for weight in weights])
    axes.set_xlim(-0.5, len(weights) - 0.5)
    axes.set(xlabel="weight of the penalty", ylabel=f"ln ratio of {rows[0]['quantity']}")
    return entries


ARMS = {
    "noise": ("zero drift, ± pairs", COLOURS[0]),
    "single": ("zero drift, single errors", GREEN),
    "drift": ("drift", VERMILION),
}


def implicit_regularisation(rows: Rows, band: tuple[float, float]) -> Drawing:
    """The effect of an error in training beside that of its explicit term: ratio and distance.

    Rows: kind, strength, ratio, gap, order, each with its interval (…_low, …_high), seeds.
    """
    note = (
        f"Means over {int(rows[0]['seeds'])} seeds, bars: 95 % intervals by Student's t. Effects "
        "are changes of the weights against training without error."
    )

    def draw(axes: Axes, name: str) -> Entries:
        entries: Entries = {}
        for number, (kind, (label, colour)) in enumerate(ARMS.items()):
            own = [row for row in rows if row["kind"] == kind]
            x = [row["strength"] * 1.03 ** (number - 1) for row in own]
            low, mean, high = (
                [row[f"{name}{end}"] for row in own] for end in ("_low", "", "_high")
            )
            bars = np.array([np.subtract(mean, low), np.subtract(high, mean)])
            look = Look(colour, "none", MARKERS[number])
            entries |= points(axes, x, mean, bars, label, look, ms=4)
            if name == "gap":
                at = (own[-1]["strength"], own[-1]["gap"])
                axes.annotate(f"order {own[0]['order']:.2f}", at, xytext=(5, -3),
                              textcoords="offset points", fontsize=7, color=colour)  # fmt: skip
        strengths = sorted({row["strength"] for row in rows})
        axes.set(xscale="log", xlabel="error ε (standard deviations of the latent)")
        axes.set_xticks(strengths, [f"{s:g}" for s in strengths], minor=False)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(0.8 * strengths[0], 1.8 * strengths[-1])
        if name == "gap":
            axes.set(yscale="log", ylabel="|Δ − Δ′|")
        else:
            axes.axhspan(*band, color=GREY, alpha=0.2, lw=0)
            axes.set(ylabel="⟨Δ, Δ′⟩ / |Δ′|²")
            entries |= level_line(axes, 1.0, "equal effects")
        return entries

    panels = (
        Panel("Ratio of the effects", partial(draw, name="ratio")),
        Panel("Distance of the effects", partial(draw, name="gap")),
    )
    return Drawing(panels, note, height=2.2)


def horizon_convergence(rows: Rows) -> Drawing:
    """Log open-loop errors less those without penalty, over the horizon and over training.

    Rows: weight, updates, horizon, difference, low, high, pairs.
    """
    weights = sorted({row["weight"] for row in rows})
    last, longest = max(row["updates"] for row in rows), max(row["horizon"] for row in rows)
    pairs = sorted({int(row["pairs"]) for row in rows})
    seeds = str(pairs[0]) if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    note = (
        f"Means over {seeds} training seeds of the difference to the same seed without penalty; "
        "bars are 95 % intervals by Student's t, each for itself. Above zero the penalty makes "
        "predictions worse."
    )

    def draw(axes: Axes, along: str, fixed: str, value: float) -> Entries:
        part = [row for row in rows if row[fixed] == value]
        places = sorted({row[along] for row in part})
        entries: Entries = {}
        for number, weight in enumerate(weights):
            own = sorted((r for r in part if r["weight"] == weight), key=lambda r: r[along])
            shift = 0.12 * (number - (len(weights) - 1) / 2)
            spots = [places.index(row[along]) + shift for row in own]
            means = [row["difference"] for row in own]
            bars = [row["high"] - row["difference"] for row in own]
            entries |= points(axes, spots, means, bars, f"weight {weight:g}", _look(number), ms=4)
        entries |= zero_line(axes)
        axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.set(ylabel="ln ratio of squared errors")
        axes.set_xlabel("horizon (policy steps)" if along == "horizon" else "training (updates)")
        return entries

    panels = (
        Panel(
            f"After {last:g} updates", partial(draw, along="horizon", fixed="updates", value=last)
        ),
        Panel(
            f"{longest:g} steps ahead",
            partial(draw, along="updates", fixed="horizon", value=longest),
        ),
    )
    return Drawing(panels, note, height=2.2)


def robustness_of_filters(rows: Rows) -> Drawing:
    """Returns of one agent behind different filters against the strength of a perturbation.

    Rows: family, arm, strength, value, low, high, runs.
    """
    arms = [*dict.fromkeys(row["arm"] for row in rows)]
    families = [*dict.fromkeys(row["family"] for row in rows)]
    panels = [
        Panel(f"Returns under {name}", partial(
            _returns, rows=[r for r in rows if r["family"] == name], arms=arms
        ))
        for name in families
    ]  # fmt: skip
    runs = sorted({int(row["runs"]) for row in rows if row["arm"] != arms[0]})
    count = str(runs[0]) if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    note = (
        "One agent acts on what a world model decodes from the perturbed observations. Means over "
        f"{count} world models, which differ in the training seed; bars are 95 % intervals by "
        "Student's t. Without a filter the agent sees the perturbed observations themselves; its "
        "bars are over episodes."
    )
    return Drawing(panels, note, width=2.3, height=1.9)


def _returns(axes: Axes, rows: Rows, arms: list[str]) -> Entries:
    entries: Entries = {}
    strengths = sorted({row["strength"] for row in rows})
    for number, arm in enumerate(arms):
        own = [row for row in rows if row["arm"] == arm]
        spots = [
            strengths.index(row["strength"]) + 0.1 * (number - (len(arms) - 1) / 2) for row in own
        ]
        bars = [row["high"] - row["value"] for row in own]
        look = replace(_look(number), dash=DASHES[number % len(DASHES)])
        values = [row["value"] for row in own]
        entries |= points(axes, spots, values, bars, arm, look, ms=4)
    axes.set_xticks(range(len(strengths)), [f"{one:g}" for one in strengths])
    axes.set_ylim(bottom=0)
    axes.set(xlabel="strength", ylabel="mean return")
    return entries
