"""The look of all figures, and files that are the same bit for bit for the same rows.

Colours are those of Okabe and Ito, which readers with any common colour vision can tell apart;
lines differ in dash and marker as well, so that nothing is said by colour alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLACK = "#000000"
COLOURS = (
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#009E73",  # bluish green
    "#CC79A7",  # reddish purple
    "#E69F00",  # orange
    "#56B4E9",  # sky blue
    "#F0E442",  # yellow, for areas only
)
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "oo")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 2, 1, 2)), (0, (9, 3)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BAND = 1.96  # standard errors on each side of a 95 % band
RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,  # text stays text
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` × `height` inches whose layout leaves room for outside legends."""
    with rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
    return figure


def legend_below(figure: Figure, handles: dict[str, Artist], columns: int) -> None:
    """One legend for the whole figure, below the axes; `handles` maps each text to its artist."""
    with rc_context(RC):
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=columns,
            handlelength=3.2,
        )


def zero_line(axes: Axes) -> None:
    """A thin line at 0."""
    axes.axhline(0.0, color="#666666", linewidth=0.8, zorder=1)


def save_figure(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write <stem>.png and <stem>.pdf into `folder` without dates, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}.png", folder / f"{stem}.pdf"]
    with rc_context(RC):
        figure.savefig(paths[0], dpi=200, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return paths
