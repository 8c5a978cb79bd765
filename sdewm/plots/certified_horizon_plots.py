"""How far rollouts are certified: by the weight of the penalty, and by the growth of errors."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from sdewm.plots.jacobian_weight_plots import seed_interval
from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows
from sdewm.plots.style import BLACK, COLOURS, GREY, MARKERS, Entries, Look, level_line, points


def certified_horizon(rows: Rows) -> Drawing:
    """The certified horizon of each run at its weight, and against the growth of small errors.

    Rows: weight, train_seed, episode, radius, steps, certified, growth (nan where it is unknown).
    """
    weights = sorted({row["weight"] for row in rows})
    seeds, episodes = ({row[name] for row in rows} for name in ("train_seed", "episode"))
    note = (
        f"Errors of size {rows[0]['radius']:g} in z, {len(episodes)} episodes of each model, one "
        f"noise path each. Left: means over the episodes of {len(seeds)} training seeds for each "
        "weight, with their mean and its 95 % interval by Student's t over seeds. Right: one point "
        "for each episode."
    )
    return Drawing(
        [
            Panel("Certified horizon", partial(_by_weight, rows=rows, weights=weights)),
            Panel(
                "Against the growth of small errors",
                partial(_by_growth, rows=rows, weights=weights),
            ),
        ],
        note,
    )


def _by_weight(axes: Axes, rows: Rows, weights: list[float]) -> Entries:
    entries: Entries = {}
    steps = float(max(row["steps"] for row in rows))
    for place, weight in enumerate(weights):
        own = [row for row in rows if row["weight"] == weight]
        each = [
            float(np.mean([row["certified"] for row in own if row["train_seed"] == seed]))
            for seed in sorted({row["train_seed"] for row in own})
        ]
        spots = place + 0.12 * np.linspace(-1.0, 1.0, len(each))
        seed = Look(GREY, "none", "o")
        entries |= points(axes, spots, each, None, "training seed", seed, ms=3)
        mean, half = seed_interval(each)
        look = Look(BLACK, "none", "D")
        entries |= points(axes, [place + 0.25], [mean], [half], "mean over seeds", look, ms=4)
    entries |= level_line(axes, steps, "largest number of steps tried")
    axes.set_xticks(range(len(weights)), [f"{weight:g}" for weight in weights])
    axes.set(xlabel="weight of the penalty", ylabel="certified policy_steps", ylim=(0, 1.1 * steps))
    return entries


def _by_growth(axes: Axes, rows: Rows, weights: list[float]) -> Entries:
    entries: Entries = {}
    for place, weight in enumerate(weights):
        own = [
            row for row in rows if row["weight"] == weight and row["growth"] and row["growth"] > 0
        ]
        x, y = ([row[name] for row in own] for name in ("growth", "certified"))
        look = Look(COLOURS[place % len(COLOURS)], "none", MARKERS[place % len(MARKERS)])
        entries |= points(axes, x, y, None, f"weight {weight:g}", look, ms=3)
    axes.set(xscale="log", xlabel="growth of an error in 10 policy_steps, first order")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    most = max(row["steps"] for row in rows)
    axes.set(ylabel="certified policy_steps", ylim=(0, 1.1 * most))
    return entries
