"""Figures of representation errors: rows (dicts) in, what is drawn out."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows, over_episodes
from sdewm.plots.style import (
    BLUE,
    FIRST,
    GREY,
    SECOND,
    VERMILION,
    Entries,
    Look,
    level_line,
    line,
    points,
    zero_line,
)

ROUNDING = 1e-12  # below it a perturbation without randomness has no diffusion
REJECTED = 0.01  # p-value
LOOKS = {"drift": Look(BLUE, "-", "o"), "diffusion": Look(VERMILION, (0, (5, 2)), "s")}
TEXTS = {"drift": r"drift $|b|^2$ (unbiased)", "diffusion": r"diffusion tr$\,v$"}
OPEN = f"zero drift not rejected (p ≥ {REJECTED:g})"
BELOW = "zero or negative estimate (at the foot)"
PERTURBATIONS = {
    "noise": "Additive noise",
    "mask": "Random mask",
    "shift": "Constant shift",
    "brightness": "Brightness",
    "rotation": "Rotation",
    "occlusion": "Occlusion",
}


def error_sizes(rows: Rows) -> Drawing:
    """Drift and diffusion of the latent's error against the strength, one panel per perturbation.

    Both are squared and divided by the variance of the posterior, |b|²/tr s² and tr v/tr s² (by
    that of the latent along the episodes, where variance_of says so: a deterministic latent), with
    bars of 95 %; filled markers where the test rejects zero drift, open ones where it does not. An
    unbiased estimate that is zero or negative stands at the foot of the panel, with an arrow down
    and its interval. A diffusion that is zero to rounding, of a perturbation without randomness, is
    not drawn.

    Rows: panel, unit (of the strength), strength, drift, drift_error, diffusion, diffusion_error
    (standard errors) and p_value of zero drift.
    """
    sizes = [row[name] for row in rows for name in LOOKS if row[name] > ROUNDING]
    shown = [(row, name) for row in rows for name in LOOKS if row[name] > ROUNDING]
    ends = [row[name] + over_episodes(row, f"{name}_error") for row, name in shown]
    floor = 10.0 ** (math.floor(math.log10(min(sizes, default=0.1))) - 1)
    limits = (floor, 2.0 * max([*ends, 1.0]))
    panels = []
    for name in dict.fromkeys(row["panel"] for row in rows):
        own = [row for row in rows if row["panel"] == name]
        draw = partial(_sizes, rows=own, limits=limits)
        panels.append(Panel(PERTURBATIONS.get(str(name), str(name)), draw))
    of = _variance_of(rows)
    note = (
        f"Squared size of the error of the latent per step, over the variance of the {of}. "
        "Bars: 95 % intervals over episodes; a bar that reaches the foot has an "
        "interval that contains zero. A perturbation without randomness has no diffusion."
    )
    episodes = min((row.get("episodes") or math.inf for row in rows), default=math.inf)
    if 2.0 ** (1 - episodes) >= REJECTED:
        note += f" {episodes} episodes are too few for a p-value below {REJECTED:g}."
    return Drawing(panels, note, width=2.3, height=1.9)


def _sizes(axes: Axes, rows: Rows, limits: tuple[float, float]) -> Entries:
    entries: Entries = {}
    foot = 4.0 * limits[0]
    axes.set(xscale="log", yscale="log", ylim=limits)
    for name, look in LOOKS.items():
        if name == "diffusion" and not any(row[name] > ROUNDING for row in rows):
            continue
        shown = [row for row in rows if row[name] >= foot]
        entries |= line(
            axes, [row["strength"] for row in shown], [row[name] for row in shown],
            Look(look.colour, look.dash), TEXTS[name],
        )  # fmt: skip
        for row in rows:
            below = row[name] < foot
            y, half = max(row[name], foot), over_episodes(row, f"{name}_error")
            top = max(row[name] + half - y, 0.0)
            accepted = name == "drift" and row["p_value"] >= REJECTED
            fill = "white" if accepted else look.colour
            text = OPEN if accepted else TEXTS[name]
            drawn = points(
                axes, [row["strength"]], [y], [[min(half, y - 0.1 * limits[0])], [top]], text, look,
                markerfacecolor=fill, ms=5,
            )  # fmt: skip
            if accepted:
                entries |= drawn
            else:
                entries[text] = (_line_of(entries.get(text)), drawn[text])
            if below:
                entries |= points(
                    axes, [row["strength"]], [1.5 * limits[0]], None, BELOW,
                    Look(GREY, "none", "v"), ms=4.5, zorder=7,
                )  # fmt: skip
    of = _variance_of(rows)
    entries |= level_line(axes, 1.0, f"variance of the {of}")
    strengths = [row["strength"] for row in rows]
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(strengths, [f"{x:g}" for x in strengths])
    axes.set_xlabel(rows[0]["unit"])
    axes.set_ylabel(f"squared error of the latent ({of} variances)")
    return entries


def _variance_of(rows: Rows) -> str:
    """What the variance is of by which errors are divided; tables of old do not say it."""
    return str(rows[0].get("variance_of", "posterior"))


def _line_of(entry: object) -> object:
    return entry[0] if isinstance(entry, tuple) else entry


CHANGES = {
    "measured, encoder": (r"measured; at $\varepsilon=1$ the encoder on perturbed data", None),
    "predicted, encoder": ("second order, the encoder's own error", SECOND),
    "predicted, measured": ("second order, measured drift and diffusion", FIRST),
}
LOSSES = {
    "reconstruction loss": ("Reconstruction loss", "change (the decoder's loss)"),
    "reward error": ("Squared reward error", "change of the loss (reward²)"),
    "value": ("Value", "change of the value (return)"),
}


def loss_changes(rows: Rows) -> Drawing:
    """Change of each loss against the size ε of the error, one panel per loss.

    Rows of kind "change": panel, series (a key of CHANGES), epsilon, value, standard_error. Rows of
    other kinds are not drawn.
    """
    drawn = [row for row in rows if row["kind"] == "change"]
    panels = []
    for name in dict.fromkeys(row["panel"] for row in drawn):
        title, label = LOSSES.get(str(name), (str(name), "change of the expected loss"))
        own = [row for row in drawn if row["panel"] == name]
        panels.append(Panel(title, partial(_changes, rows=own, label=label)))
    note = (
        r"Change of the expected loss at the end of the horizon when the error of the encoder under"
        r" perturbed observations is scaled by $\varepsilon$. Bars and bands: 95 % intervals "
        "over episodes."
    )
    return Drawing(panels, note, width=2.3, height=1.9)


def _changes(axes: Axes, rows: Rows, label: str) -> Entries:
    entries = zero_line(axes)
    for series, (text, look) in CHANGES.items():
        own = [row for row in rows if row["series"] == series]
        columns = ([row[key] for row in own] for key in ("epsilon", "value"))
        x, value = (np.array(column, dtype=float) for column in columns)
        half = np.array([over_episodes(row, "standard_error") for row in own])
        if look is None:
            entries |= points(axes, x, value, half, text)
        else:
            entries |= line(axes, x, value, look, text, half)
    axes.set(xlabel=r"size of the error $\varepsilon$", ylabel=label)
    return entries
