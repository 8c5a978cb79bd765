"""Figure of the approximation theorem: rows in, what is drawn out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

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
LABELS = {
    "arm": "two-link arm",
    "x^0.75": "$x^{0.75}$",
    "x^1.75": "$x^{1.75}$",
    "Weierstrass 0.75": "Weierstrass's function, β = 0.75",
}
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
        f"Bands: lowest to highest of {int(parts['mean'][0]['seeds'])} seeds, lines: their "
        "geometric mean; intervals of slopes: 95 % by Student's t. Errors are Euclidean norms of "
        "16 × 16 images, in antipodal units: half the least distance of images of opposite states "
        "(torus and arm: of opposite last angles)."
    )
    texts = {
        "obstructed": "d is the dimension of the manifold; the bound for torus and arm, "
        "their reach (S31), is not computed.",
        "embedded": "numbers in the code: "
        + ", ".join(f"{LABELS.get(name, name)} {size}" for name, size in sizes.items())
        + ".",
        "mean": "codes as in (b). Slopes, with their intervals, are those of an "
        "optimisation and neither confirm nor refute a rate: "
        + ", ".join(
            f"{LABELS.get(name, name)} {_signed(row['slope'])} "
            f"({_signed(row['slope_low'])} to {_signed(row['slope_high'])})"
            for name, row in slopes.items()
        )
        + ".",
        "matched": "one point for each autoencoder trained on 512 images; W₁ is exact for 512 test "
        "images and never above the mean error. It would vanish for the exact code.",
        "interpolant": "no training, nothing is sampled.",
    }
    panels = [
        Panel(title, partial(draw, rows=parts[part]), texts.get(part, ""))
        for part, (title, draw) in PARTS.items()
    ]
    return Drawing(panels, note, width=2.2, height=1.7)


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _widths(axes: Axes, rows: Rows) -> None:
    widths = sorted({row["width"] for row in rows})
    axes.set(xscale="log", yscale="log", xlabel="width (channels)")
    axes.set_xticks(widths, [f"{width:g}" for width in widths], minor=False)
    axes.xaxis.set_minor_locator(NullLocator())


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
    entries = _curves(axes, rows, LARGEST, None)
    bounded = [row for row in rows if row["bound"] is not None]
    ends = [min(row["width"] for row in bounded), max(row["width"] for row in bounded)]
    label = "lower bound for circle, pendulum, sphere (S31)"
    look = Look(BLACK, DASHES[1], "", 1.6)
    entries |= line(axes, ends, 2 * [bounded[0]["bound"]], look, label)
    _plain(axes)
    return entries


def _embedded(axes: Axes, rows: Rows) -> Entries:
    return _curves(axes, rows, LARGEST, None)


def _mean(axes: Axes, rows: Rows) -> Entries:
    return _curves(axes, rows, "mean error (antipodal units)", None)


def _sample(axes: Axes, rows: Rows) -> Entries:
    entries = _curves(axes, rows, "mean error, 64 over 512 images", (1.0, "equal errors"))
    _plain(axes)
    return entries


def _plain(axes: Axes) -> None:
    """Plain numbers on a logarithmic axis of about one decade."""
    low, high = axes.get_ylim()
    marks = [mark for mark in (0.5, 1.0, 2.0, 4.0, 8.0) if low <= mark <= high]
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks], minor=False)
    axes.yaxis.set_minor_locator(NullLocator())


def _matched(axes: Axes, rows: Rows) -> Entries:
    entries: Entries = {}
    for name, look in LOOKS.items():
        own = [row for row in rows if row["name"] == name]
        x, y = [row["x"] for row in own], [row["value"] for row in own]
        points(axes, x, y, None, LABELS.get(name, name), Look(look.colour, "none", look.marker),
               ms=2.5)  # fmt: skip
    (exact,) = [row for row in rows if row["name"] not in LOOKS]
    look, label = Look(BLACK, "none", "X"), "code 2|θ| of the circle, exact (S33)"
    entries |= points(axes, [exact["x"]], [exact["value"]], None, label, look, ms=5)
    entries |= level_line(axes, 1.0, "equal errors")
    axes.set(xscale="log", xlabel="mean error (antipodal units)", ylabel="W₁ / mean error")
    axes.set_ylim(-0.08, 1.12)
    return entries


def _interpolants(axes: Axes, rows: Rows) -> Entries:
    entries: Entries = {}
    for look, name in zip(TARGETS, dict.fromkeys(row["name"] for row in rows), strict=True):
        own = [row for row in rows if row["name"] == name]
        x = [row["width"] for row in own]
        entries |= line(
            axes, x, [row["value"] for row in own], look, f"interpolant of {LABELS[name]}"
        )
        bound = Look(look.colour, DASHES[1])
        entries |= line(
            axes, x, [row["bound"] for row in own], bound, f"bound for {LABELS[name]} (S32)"
        )
    axes.set(xscale="log", yscale="log", xlabel="width (hidden units)", ylabel="largest error")
    return entries


LARGEST = "largest error (antipodal units)"
PARTS: dict[str, tuple[str, Callable[..., Entries]]] = {
    "obstructed": ("Codes of d numbers", _obstructed),
    "embedded": ("Codes that admit an embedding", _embedded),
    "mean": ("Mean error, trained (optimisation)", _mean),
    "sample": ("64 against 512 images", _sample),
    "matched": ("Laws against pairs", _matched),
    "interpolant": ("Interpolants by ReLU networks", _interpolants),
}
