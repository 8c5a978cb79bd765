"""Figures of rollouts of a trained model from a wrong latent: rows in, what is drawn out."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.rollout_plots import crossing, left_text, mark_leaving
from sdewm.plots.series import Rows, over_episodes
from sdewm.plots.style import (
    BLACK,
    DASHES,
    FIRST,
    GRADES,
    LIGHT,
    MEASURED,
    PREDICTION,
    SECOND,
    Entries,
    Look,
    bound_look,
    line,
    points,
    zero_line,
)

HIGHEST = 1e3  # times the largest distance: bounds above it leave the panel
BIAS_REACH = 3.0  # times the largest measured bias: predictions beyond it are cut
ITS_PATHS = "measured on its paths"
ENCLOSED = Look(BLACK, DASHES[2], "", 1.0)
ENCLOSURE = GRADES["enclosure"][0]
DECADES = 1e-3  # of the largest distance, at least shown
BIAS = {
    "measured": ("measured bias of $Q$", None),
    "first": ("bias of $Q$, first order", FIRST),
    "second": ("bias of $Q$, second order", SECOND),
}
NOTE = (
    "Two imagined rollouts on the same noise, from the posterior state and from that state after "
    "perturbed observations; $D_k$ is their difference. Bars and bands around lines: 95 % "
    "intervals over episodes; those of bounds are in the table. The bias is drawn up to "
    f"{BIAS_REACH:g} times its largest measured value."
)


def model_divergence(rows: Rows) -> Drawing:
    """E|D_k| with prediction and bounds by step, and the bias of Q by scale, per panel.

    Rows of `evaluate.divergence_rows`: kind "mean" (series "measured", "prediction" or a grade of
    bound with its label, a key of KINDS), "quantile" (series "2.5 %" and "97.5 %") and "bias" (a
    key of BIAS), with panel, horizon, epsilon, value and standard_error. Other kinds are not drawn.
    A bound that leaves a panel ends in a triangle; the note has its last value, or the step from
    which on an enclosure abstains (kind "constant").
    """
    distances, changes, biases = [], [], []
    for name in dict.fromkeys(row["panel"] for row in rows):
        own = [row for row in rows if row["panel"] == name]
        draw, leaving = (
            partial(_rollouts, rows=own),
            [one for one in _leaving(own) if not one[2].startswith(ENCLOSURE)],
        )
        note = f"{left_text(leaving)} {_abstention(own)}".strip()
        distances.append(Panel(f"Divergence, {name}", draw, note))
        kinds = {row["kind"] for row in own}
        if "value change" in kinds:
            draw = partial(_change, rows=own)
            changes.append(Panel(f"Change of the value, {name}", draw, _change_note(own)))
        if "bias" in kinds:
            biases.append(Panel(f"Bias of the value, {name}", partial(_bias, rows=own)))
    return Drawing([*distances, *changes, *biases], NOTE)


def _rollouts(axes: Axes, rows: Rows) -> Entries:
    step, mean, half = _columns(rows, "mean", "measured")
    floor, top = _limits(rows)
    axes.set(yscale="log", ylim=(floor, top), xlim=(0, float(step[-1])))
    low, high = (_columns(rows, "quantile", level)[1] for level in ("2.5 %", "97.5 %"))
    axes.fill_between(step, np.maximum(low, 0.1 * floor), high, color=LIGHT, lw=0)
    entries = line(axes, step, mean, MEASURED, r"measured $\mathrm{E}|D_k|$", half, zorder=5)
    entries["$|D_k|$, 2.5 to 97.5 % of paths"] = Patch(color=LIGHT)
    _, predicted, error = _columns(rows, "mean", "prediction")
    text = r"first variation $\mathrm{E}|y_k|$"
    entries |= line(axes, step, predicted, PREDICTION, text, error, zorder=6)
    entries |= _on_its_paths(axes, rows, "mean")
    for grade, label in _bounds(rows):
        _, bound, _ = _columns(rows, "mean", grade)
        text, look = bound_look(grade, label)
        entries |= line(axes, step, bound, look, text)
    entries |= mark_leaving(axes, _leaving(rows), top)
    axes.set_xlabel("policy_steps of imagination, $k$")
    axes.set_ylabel(r"distance of latents $\mathrm{E}|D_k|$")
    return entries


def _on_its_paths(axes: Axes, rows: Rows, kind: str) -> Entries:
    """What is measured on the paths that are enclosed, if there are any."""
    step, value, _ = _columns(rows, kind, ITS_PATHS)
    if not len(step):
        return {}
    return line(axes, step, value, ENCLOSED, "measured on the enclosed paths", zorder=7)


def _change(axes: Axes, rows: Rows) -> Entries:
    """E|Q(X_k^e) − Q(X_k^0)| on the enclosed paths, and its bound."""
    axes.set(yscale="log")
    entries = _on_its_paths(axes, rows, "value change")
    label = next(row["label"] for row in rows if row["series"] == "enclosure" and row["label"])
    step, bound, _ = _columns(rows, "value change", "enclosure")
    there = np.isfinite(bound)
    text, look = bound_look("enclosure", str(label))
    entries |= line(axes, step[there], bound[there], look, text)
    axes.set_xlim(0, float(step[-1]))
    axes.set_xlabel("policy_steps of imagination, $k$")
    axes.set_ylabel(r"$\mathrm{E}|Q(X_k^e)-Q(X_k^0)|$ (return)")
    return entries


def _abstention(rows: Rows) -> str:
    """Of which paths the enclosure is, and from which step on it has no bound, in words."""
    for row in rows:
        if row["series"] == "enclosure: abstains":
            paths = "The enclosure is a mean over one path of each episode (dotted: measured there)"
            return f"{paths}{_until(row['value'])}."
    return ""


def _until(step: float) -> str:
    return f"; it abstains from step {step:.0f} on" if step < math.inf else ""


def _change_note(rows: Rows) -> str:
    """From which step on the enclosure of the value has no bound, in words."""
    step, bound, _ = _columns(rows, "value change", "enclosure")
    none = step[~np.isfinite(bound)]
    first = float(none[0]) if len(none) else math.inf
    return f"One path of each episode, others than above{_until(first)}."


def _bounds(rows: Rows) -> list[tuple[str, str]]:
    keys = dict.fromkeys((r["series"], r["label"]) for r in rows if r["kind"] == "mean")
    return [(str(grade), str(label)) for grade, label in keys if grade in GRADES]


def _limits(rows: Rows) -> tuple[float, float]:
    _, mean, _ = _columns(rows, "mean", "measured")
    largest = float(mean.max())
    # A mean of 0 and an interval that reaches below cannot be drawn on a logarithmic axis.
    return max(DECADES * largest, 0.2 * float(mean[mean > 0].min())), HIGHEST * largest


def _leaving(rows: Rows) -> list[tuple[float, float, str, Look]]:
    top = _limits(rows)[1]
    found = []
    for grade, label in _bounds(rows):
        step, bound, _ = _columns(rows, "mean", grade)
        if not bound[-1] <= top:
            found.append((crossing(step, bound, top), float(bound[-1]), *bound_look(grade, label)))
    return found


def _bias(axes: Axes, rows: Rows) -> Entries:
    entries = zero_line(axes)
    _, value, half = _columns(rows, "bias", "measured", along="epsilon")
    reach = BIAS_REACH * float(np.max(np.abs(value) + half, initial=0.0))
    for series, (text, look) in BIAS.items():
        scale, value, half = _columns(rows, "bias", series, along="epsilon")
        if not len(scale):
            continue
        if look is None:
            entries |= points(axes, scale, value, half, text)
        else:
            entries |= line(axes, scale, value, look, text, half)
    low, high = axes.get_ylim()
    if reach > 0:
        axes.set_ylim(max(low, -reach), min(high, reach))
    axes.set_xlabel(r"scale $s$ of the initial error, $x_0+s\,e$")
    axes.set_ylabel(r"$\mathrm{E}[Q(X^{se})-Q(X^0)]$")
    return entries


def _columns(
    rows: Rows, kind: str, series: str, along: str = "horizon"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Abscissa, value and half the width of a 95 % interval, in the order of the abscissa."""
    own = sorted(
        (row for row in rows if (row["kind"], row["series"]) == (kind, series)),
        key=lambda row: row[along],
    )
    columns = [[row[name] for row in own] for name in (along, "value")]
    x, value = (np.array(column, dtype=float) for column in columns)
    half = np.array([over_episodes(row, "standard_error") for row in own], dtype=float)
    return x, value, np.where(np.isfinite(half), half, 0.0)
