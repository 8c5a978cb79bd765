"""Figures of bounds on rollouts: rows (dicts) in, what is drawn out."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from sdewm.plots.names import short_name
from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Facts, Rows, series_of
from sdewm.plots.style import (
    BAND,
    GRADES,
    GREY,
    KINDS,
    LIGHT,
    MEASURED,
    Entries,
    Look,
    bound_look,
    line,
    points,
)

LEVELS = (1.0, 3.0, 10.0, 100.0, 1000.0)
VACUOUS = 1000.0
TICKS = (1, 5, 15, 30, 50)
RATIOS = {
    "sup_ratio": (
        "Tightness of the supremum",
        r"bound / measured, $\mathrm{E}\,{\sup}_{s\leq t}|D_s|$",
    ),
    "mean_ratio": ("Tightness of the mean", r"bound / measured, $\mathrm{E}|D_t|$"),
}


def rollout_bounds(rows: Rows, facts: Facts) -> Drawing:
    """E|D| with a 95 % band of |D| under its bounds; bound/measured, per system.

    Rows: panel (the system), series ("measured", a grade of bound, or "prediction"), kind (a key of
    KINDS), size |e|, step, time, mean and sup with mean_ratio and sup_ratio, their standard
    errors (…_error), low and high (quantiles of |D|). A curve that leaves a panel ends in a
    triangle; the note has its last value.
    """
    systems = list(dict.fromkeys(row["panel"] for row in rows))
    parts = {name: [row for row in rows if row["panel"] == name] for name in systems}
    panels = [
        Panel(
            short_name(name),
            partial(_curves, rows=part),
            " ".join(filter(None, [left_text(_leaving(part)), _prediction(part)])),
        )
        for name, part in parts.items()
    ]
    for quantity, (title, label) in RATIOS.items():
        for name, part in parts.items():
            draw = partial(_tightness, rows=part, quantity=quantity, label=label)
            panels.append(Panel(title if len(parts) == 1 else short_name(name), draw))
    note = (
        rf"Two rollouts on the same Brownian path from $x_0$ and $x_0+e$, $|e|={rows[0]['size']:g}$"
        rf", {facts['paths']} paths; $D_t$ is their difference. Certificates have proven, "
        "estimates sampled constants. Band of the measured mean: 95 % (±1.96 standard errors). "
        "Standard errors of bounds are in the table."
    )
    return Drawing(panels, note, width=1.7 if len(systems) > 2 else 2.3, height=1.45)


def _curves(axes: Axes, rows: Rows) -> Entries:
    measured = _measured(rows)
    step, mean = measured["step"], measured["mean"]
    low, high = (np.asarray(measured[key], dtype=float) for key in ("low", "high"))
    floor, top = _limits(rows)
    axes.set(yscale="log", ylim=(floor, top), xlim=(0, step[-1]))
    axes.fill_between(step, np.maximum(low, 0.1 * floor), high, color=LIGHT, lw=0)
    entries: Entries = line(
        axes, step, mean, MEASURED, r"measured $\mathrm{E}|D_t|$",
        BAND * measured["mean_error"], zorder=5,
    )  # fmt: skip
    entries[r"$|D_t|$, 2.5 to 97.5 % of paths"] = Patch(color=LIGHT)
    for series, kind, data in bounds_of(rows):
        text, look = bound_look(series, kind)
        entries |= line(axes, data["step"], data["mean"], look, text)
    entries |= mark_leaving(axes, _leaving(rows), top)
    _steps(axes, rows)
    axes.set_ylabel(r"distance $\mathrm{E}|D_t|$")
    return entries


def _limits(rows: Rows) -> tuple[float, float]:
    measured = _measured(rows)
    mean, low = measured["mean"], np.asarray(measured["low"], dtype=float)
    floor = max(0.5 * low.min(), 0.1 * mean.min(), 1e-12 * mean.max())
    highest = max(data["mean"].max() for *_, data in bounds_of(rows))
    return floor, min(1e4 * mean.max(), 3.0 * max(highest, mean.max()))


def _leaving(rows: Rows) -> list[tuple[float, float, str, Look]]:
    top = _limits(rows)[1]
    return [
        (crossing(data["step"], data["mean"], top), float(data["mean"][-1]), *bound_look(*key))
        for *key, data in bounds_of(rows)
        if data["mean"][-1] > top
    ]


def _measured(rows: Rows) -> dict[str, np.ndarray]:
    return series_of([row for row in rows if row["series"] == "measured"])["measured"]


def _tightness(axes: Axes, rows: Rows, quantity: str, label: str) -> Entries:
    axes.set(yscale="log", ylim=(0.7, 1e4), xlim=(0, max(row["step"] for row in rows)))
    axes.set_yticks(LEVELS, [f"{level:g}" for level in LEVELS])
    axes.minorticks_off()
    axes.axhspan(VACUOUS, 1e4, color="#EDEDED", zorder=0)
    entries: Entries = {}
    for series, kind, data in bounds_of(rows):
        text, look = bound_look(series, kind)
        entries |= line(axes, data["step"], data[quantity], look, text)
    entries["vacuous: above 1000 times measured"] = Patch(color="#EDEDED")
    _steps(axes, rows)
    axes.set_ylabel(label)
    return entries


def _steps(axes: Axes, rows: Rows) -> None:
    last = max(row["step"] for row in rows)
    ticks = [tick for tick in TICKS if tick <= last] or [1]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    size = next(row["time"] for row in rows if row["step"] == 1)
    axes.set_xlabel("horizon (steps)" if size == 1.0 else f"horizon (steps of {size:.3g})")


def bounds_of(rows: Rows) -> list[tuple[str, str, dict[str, np.ndarray]]]:
    """(grade, kind, columns) of each bound: certificates first, so that estimates stay visible."""
    keys = dict.fromkeys((r["kind"], r["series"]) for r in rows if r["series"] in GRADES)
    return [
        (series, kind, series_of([r for r in rows if (r["kind"], r["series"]) == key])[series])
        for key in sorted(keys, key=lambda key: list(KINDS).index(key[0]))
        for kind, series in [key]
    ]


def crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Where a curve first rises above a level, log y being linear between the points."""
    n = int(np.argmax(~(y <= level)))
    if n == 0:
        return float(x[0])
    below, above = math.log(y[n - 1]), math.log(min(y[n], 1e300))
    return float(x[n - 1] + (x[n] - x[n - 1]) * (math.log(level) - below) / (above - below))


def mark_leaving(axes: Axes, leaving: list[tuple[float, float, str, Look]], top: float) -> Entries:
    """A triangle at the upper edge where each curve leaves."""
    entries: Entries = {}
    for x, _, _, look in leaving:
        mark = Look(look.colour, "none", "^")
        entries |= points(axes, [x], [top], None, "leaves the panel", mark, clip_on=False, ms=5)
    if not entries:
        return {}
    (shown,) = axes.plot([], [], ls="none", marker="^", ms=5, color=GREY, label="leaves the panel")
    return {"leaves the panel": shown}


def left_text(leaving: list[tuple[float, float, str, Look]]) -> str:
    """The last values of curves that leave the panel, in words."""
    texts = []
    for _, last, text, _ in leaving:
        order = rf"$10^{{{math.log10(last):.0f}}}$" if math.isfinite(last) else r"$\infty$"
        texts.append(f"{text.replace(', no bound', '')} {order}")
    return f"Values at the last step of curves that leave: {'; '.join(texts)}." if texts else ""


def _prediction(rows: Rows) -> str:
    """How far the prediction is from the mean at the end of its stated range."""
    if not any(row["series"] == "prediction" for row in rows):
        return ""
    data: Any = series_of([row for row in rows if row["series"] == "prediction"])["prediction"]
    worst = 100.0 * float(np.abs(data["mean_ratio"] - 1.0).max())
    if worst < 1e-6:
        return "The system is linear: the first variation is $D$."
    size = data["size"][0]
    return rf"First variation within {worst:.2g} % of $\mathrm{{E}}|D_t|$ up to $|e|={size:.2g}$."
