"""Figure of the growth of small differences in a trained model: rows in, what is drawn out."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows, over_episodes
from sdewm.plots.style import (
    COLOURS,
    DASHES,
    MARKERS,
    SKY,
    Entries,
    Look,
    line,
    points,
    zero_line,
)

NAMES = {
    "frobenius": r"$\|J\|_F$",
    "top_singular_value": r"$\sigma_{\max}(J)$",
    "log_norm": "$\\lambda_{\\max}$\n$(\\mathrm{sym}\\,A)$",
    "spectral_radius": r"$\rho(J)$",
}
LEAST_SPAN = 1e-3  # of the axis of exponents, which may all be equal


def stability_of_model(rows: Rows) -> Drawing:
    """Sizes of the Jacobian, and running Lyapunov exponents, one panel per way to act.

    Exponents of −∞, of directions that are mapped to 0, are not drawn; the note says so.

    Rows: panel (a key of NAMES, or how actions are taken), series ("mean", "quantile q" or
    "exponent j"), policy_steps, value, standard_error.
    """
    drawn = [row for row in rows if row["policy_steps"] is not None]
    acted = [*dict.fromkeys(row["panel"] for row in drawn)]
    running = [row for row in rows if row["panel"] in acted]
    finite = [row for row in running if math.isfinite(row["value"])]
    ends = [row["value"] for row in finite if row["policy_steps"] >= 3]
    ends = ends or [row["value"] for row in finite] or [0.0]  # of a few steps only, or none
    span = max(max(ends) - min(ends), LEAST_SPAN)
    limits = (min(ends) - 0.4 * span, max(ends) + 0.4 * span)
    panels = [Panel("Jacobian of a step of the prior", partial(_sizes, rows=rows))]
    for name in acted:
        own = [row for row in rows if row["panel"] == name]
        panels.append(Panel(f"Lyapunov exponents, {name}",
                            partial(_exponents, rows=own, limits=limits)))  # fmt: skip
    note = (
        r"$J=I+A$ is the Jacobian of one policy_step of the prior in the latent state; "
        r"$\lambda_{\max}(\mathrm{sym}\,A)$ has the unit 1/policy_step. Bars and bands: 95 % "
        "intervals over episodes. The first steps of the bands are cut by the frame."
    )
    if len(finite) < len(running):
        note += r" Exponents of $-\infty$, of directions that a step maps to 0, are not drawn."
    return Drawing(panels, note, width=2.3, height=1.9)


def _sizes(axes: Axes, rows: Rows) -> Entries:
    entries = zero_line(axes)
    for place, name in enumerate(NAMES):
        own = {row["series"]: row for row in rows if row["panel"] == name}
        low, high = (own[f"quantile {level}"]["value"] for level in ("0.1", "0.9"))
        entries |= line(axes, [place, place], [low, high], Look(SKY, "-", "", 8.0),
                        "10 to 90 % of states", solid_capstyle="butt")  # fmt: skip
        mean = own["mean"]
        half = [over_episodes(mean, "standard_error")]
        entries |= points(axes, [place], [mean["value"]], half, "mean over states")
    axes.set_xticks(range(len(NAMES)), list(NAMES.values()))
    axes.set_xlim(-0.5, len(NAMES) - 0.5)
    axes.set_ylabel(r"size ($\lambda_{\max}$: 1/policy_step)")
    return entries


def _exponents(axes: Axes, rows: Rows, limits: tuple[float, float]) -> Entries:
    entries = zero_line(axes)
    for number, series in enumerate(dict.fromkeys(row["series"] for row in rows)):
        own = [row for row in rows if row["series"] == series]
        half = np.array([over_episodes(row, "standard_error") for row in own])
        look = Look(COLOURS[number % 6], DASHES[number % 6], MARKERS[number % 7])
        x, value = (np.array([row[key] for row in own]) for key in ("policy_steps", "value"))
        value = np.where(np.isfinite(value), value, np.nan)
        entries |= line(axes, x, value, look, str(series), half)
    axes.set(xlabel="policy_steps counted", ylabel="finite-time exponent (1/policy_step)")
    axes.set_ylim(*limits)
    return entries
