"""Figure of the approximation theorem: rows in, what is drawn out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from sdewm.plots.panels import Drawing, Panel
from sdewm.plots.series import Rows
from sdewm.plots.style import (
    BLACK,
    BLUE,
    DASHES,
    GREEN,
    INDIGO,
    OLIVE,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WINE,
    Entries,
    Look,
    area,
    level_line,
    line,
    points,
)

LOOKS = {
    "arc": Look(SKY, "-", "P"),
    "circle": Look(BLUE, "-", "o"),
    "pendulum": Look(VERMILION, "-", "s"),
    "sphere": Look(GREEN, "-", "^"),
    "torus": Look(PURPLE, "-", "D"),
    "arm": Look(ORANGE, "-", "v"),
}
LABELS = {"arm": "two-link arm"}
TARGETS = (Look(INDIGO, "-", "o"), Look(WINE, "-", "s"), Look(OLIVE, "-", "^"))


def approximation(rows: Rows) -> Drawing:
    """Errors of trained autoencoders and of interpolants, with their bounds.

    Rows: part, name, latent, width, value, low, high, bound, x, seeds, slope, slope_low,
    slope_high; `figure_rows` of the script describes them.
    """
    parts = {part: [row for row in rows if row["part"] == part] for part in PARTS}
    sizes = {row["name"]: int(row["latent"]) for row in parts["embedded"]}
    slopes = {row["name"]: row for row in parts["mean"]}
    note = (
        "Bands: ± one standard deviation of the logarithm over "
        f"{int(parts['mean'][0]['seeds'])} seeds. Errors are Euclidean norms of 16 × 16 images, in "
        "units of half the least distance of antipodal images (torus and arm: of images of "
        "opposite last angles)."
    )
    texts = {
        "embedded": "numbers in the code: "
        + ", ".join(f"{LABELS.get(name, name)} {size}" for name, size in sizes.items())
        + ".",
        "mean": "codes as in (b). Slopes, with 95 % intervals over seeds, are those of an "
        "optimisation and neither confirm nor refute a rate: "
        + ", ".join(
            f"{LABELS.get(name, name)} {row['slope']:.2f} "
            f"({row['slope_low']:.2f} to {row['slope_high']:.2f})"
            for name, row in slopes.items()
        )
        + ".",
        "matched": "one point for each autoencoder trained on 512 images.",
        "interpolant": "no training, nothing is sampled.",
    }
    panels = [
        Panel(title, partial(draw, rows=parts[part]), texts.get(part, ""))
        for part, (title, draw) in PARTS.items()
    ]
    return Drawing(panels, note, width=2.2, height=1.7)


def _widths(axes: Axes, rows: Rows) -> None:
    widths = sorted({row["width"] for row in rows})
    axes.set(xscale="log", yscale="log", xlabel="width (channels of the first layer)")
    axes.set_xticks(widths, [f"{width:g}" for width in widths], minor=False)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _curves(axes: Axes, rows: Rows, ylabel: str, level: tuple[float, str] | None) -> Entries:
    entries: Entries = {}
    for name, look in LOOKS.items():
        own = [row for row in rows if row["name"] == name]
        if not own:
            continue
        x, y, low, high = ([row[k] for row in own] for k in ("width", "value", "low", "high"))
        label = LABELS.get(name, name)
        drawn = line(axes, x, y, look, label)[label]
        area(axes, x, low, high, look.colour, alpha=0.15)
        entries[label] = (Patch(color=look.colour, alpha=0.15, lw=0), drawn)
    _widths(axes, rows)
    axes.set(ylabel=ylabel)
    if level is not None:
        entries |= level_line(axes, *level)
    return entries


def _obstructed(axes: Axes, rows: Rows) -> Entries:
    entries = _curves(axes, rows, "largest error", None)
    bounded = [row for row in rows if row["bound"] is not None]
    ends = [min(row["width"] for row in bounded), max(row["width"] for row in bounded)]
    label = "lower bound for circle, pendulum, sphere (S31)"
    look = Look(BLACK, DASHES[1], "", 1.6)
    return entries | line(axes, ends, 2 * [bounded[0]["bound"]], look, label)


def _embedded(axes: Axes, rows: Rows) -> Entries:
    return _curves(axes, rows, "largest error", None)


def _mean(axes: Axes, rows: Rows) -> Entries:
    return _curves(axes, rows, "mean error", None)


def _sample(axes: Axes, rows: Rows) -> Entries:
    return _curves(axes, rows, "mean error, 64 over 512 images", (1.0, "equal errors"))


def _matched(axes: Axes, rows: Rows) -> Entries:
    entries: Entries = {}
    for name, look in LOOKS.items():
        own = [row for row in rows if row["name"] == name]
        x, y = [row["x"] for row in own], [row["value"] for row in own]
        points(axes, x, y, None, LABELS.get(name, name), Look(look.colour, "none", look.marker),
               ms=2.5)  # fmt: skip
    ends = np.array([min(row["x"] for row in rows), max(row["x"] for row in rows)])
    entries |= line(axes, ends, ends, Look(BLACK, DASHES[2]), "W₁ at most the mean error (S33)")
    axes.set(xscale="log", yscale="log", xlabel="mean error", ylabel="W₁ of the laws")
    return entries


def _interpolants(axes: Axes, rows: Rows) -> Entries:
    entries: Entries = {}
    for look, name in zip(TARGETS, dict.fromkeys(row["name"] for row in rows), strict=True):
        own = [row for row in rows if row["name"] == name]
        x = [row["width"] for row in own]
        entries |= line(axes, x, [row["value"] for row in own], look, f"interpolant of {name}")
        bound = Look(look.colour, DASHES[1])
        entries |= line(axes, x, [row["bound"] for row in own], bound, f"bound for {name} (S32)")
    axes.set(xscale="log", yscale="log", xlabel="width (hidden units)", ylabel="largest error")
    return entries


PARTS: dict[str, tuple[str, Callable[..., Entries]]] = {
    "obstructed": ("Codes of as many numbers as the manifold has dimensions", _obstructed),
    "embedded": ("Codes that admit an embedding", _embedded),
    "mean": ("Mean error, trained (optimisation)", _mean),
    "sample": ("Fewer images", _sample),
    "matched": ("Laws against pairs", _matched),
    "interpolant": ("Interpolants by ReLU networks", _interpolants),
}
