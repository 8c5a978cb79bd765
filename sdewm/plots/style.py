"""The look of all figures: widths, type, colours, and one look for each kind of series.

Colours are those of Okabe and Ito with a few darker ones; readers with any common colour vision can
tell them apart. Series differ in dash or marker as well, so that nothing is said by colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

COLUMN, PAGE = 3.4, 7.0  # inches: one column of a page, and both
SIZE, SMALL, LEAST = 8.0, 7.5, 7.0  # points: titles and labels; ticks, legends, notes; the least
BLACK, GREY, LIGHT, MEDIUM = "#000000", "#666666", "#D8D8D8", "#A0A0A0"
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#F0E442"  # yellow for areas only
INDIGO, WINE, OLIVE = "#332288", "#882255", "#808000"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "oo")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 2, 1, 2)), (0, (9, 3)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BAND = 1.96  # standard errors on each side of a 95 % interval
Entries = dict[str, Any]  # text of the legend -> what it explains
RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.titlepad": 4.0,
    "axes.labelpad": 2.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # text stays text
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    "text.hinting": "none",  # text is as wide on paper as where it was measured
    "figure.dpi": 200,
}


@dataclass(frozen=True)
class Look:
    """How a series is drawn: colour, dash, marker ("" for none) and width in points."""

    colour: str
    dash: Any = "-"
    marker: str = ""
    width: float = 1.2


# One colour and one marker for each grade of bound; its dash says what may be claimed of it.
GRADES = {
    "gronwall": ("Grönwall", ORANGE, "v"),
    "log_norm": ("logarithmic norm", BLUE, "s"),
    "block": ("logarithmic norm, by blocks", PURPLE, "D"),
    "weighted": ("logarithmic norm, weighted", VERMILION, "^"),
    "linearised": ("linearised, with remainder", GREEN, "o"),
    "enclosure": ("enclosure", OLIVE, "P"),
    "double_exponential": ("double exponential", GREY, ""),
}
KINDS = {
    "certificate": ("certificate", "-"),
    "estimate": ("estimate", (0, (4, 2))),
    "certificate per path, mean over sampled paths": ("certificate per path", "-"),
    "recalled": ("as recalled, no bound", (0, (1, 1.2))),
}
MEASURED = Look(BLACK, "-", "", 1.8)
FIRST, SECOND = Look(WINE, DASHES[3]), Look(INDIGO)  # order of an expansion
PREDICTION = Look(SKY, DASHES[1], "", 1.6)  # by the first variation


def bound_look(grade: str, kind: str) -> tuple[str, Look]:
    """Text of the legend and look of a bound."""
    (text, colour, marker), (label, dash) = GRADES[grade], KINDS[kind]
    return f"{text}: {label}", Look(colour, dash, marker)


def line(
    axes: Axes, x: Any, y: Any, look: Look, label: str, half: Any = None, **more: Any
) -> Entries:
    """Draw a line, with a band of ± `half` where that is positive; its entry of the legend."""
    values = np.asarray(y, dtype=float)
    every = max(1, len(values) // 6)
    offset = MARKERS.index(look.marker) * every // len(MARKERS) if look.marker else 0
    (drawn,) = axes.plot(
        x, values, color=look.colour, ls=look.dash, lw=look.width, marker=look.marker,
        markevery=(offset, every), label=label, **more,
    )  # fmt: skip
    if half is None or not np.any(np.asarray(half, dtype=float) > 0):
        return {label: drawn}
    width = np.nan_to_num(np.asarray(half, dtype=float))
    area(axes, x, values - width, values + width, look.colour)
    return {label: (Patch(color=look.colour, alpha=0.25, lw=0), drawn)}


def points(
    axes: Axes,
    x: Any,
    y: Any,
    half: Any,
    label: str,
    look: Look | None = None,
    zorder: float = 5,
    **more: Any,
) -> Entries:
    """Draw markers with bars of ± `half`; the entry of the legend."""
    look = look or Look(BLACK, "none", "o")
    bars = axes.errorbar(
        x, y, half, color=look.colour, ls="none", marker=look.marker, label=label,
        elinewidth=1.0, zorder=zorder, **more,
    )  # fmt: skip
    bars.lines[0].set_label(label)
    return {label: bars}


def area(axes: Axes, x: Any, low: Any, high: Any, colour: str, alpha: float = 0.25) -> None:
    """Fill between two curves."""
    axes.fill_between(x, low, high, color=colour, alpha=alpha, lw=0)


def zero_line(axes: Axes) -> Entries:
    """A thin line at 0."""
    return level_line(axes, 0.0, "zero")


def level_line(axes: Axes, level: float, label: str) -> Entries:
    """A thin horizontal line."""
    return {label: axes.axhline(level, color=GREY, linewidth=0.7, zorder=1, label=label)}
