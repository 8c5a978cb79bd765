"""A figure is a list of panels; here they are lettered, laid out, explained and written.

Files are the same bit for bit for the same rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sdewm.base.checks import check_finite_number
from sdewm.plots.style import PAGE, RC, SIZE, SMALL, Entries

NARROWEST, WIDEST = 3.4, 14.0  # inches
GAP = 0.06  # inches between axes, legend, note and edge
LINE = 1.25  # height of a line of text over its size
POINT = 1.0 / 72.0


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: stands after the letter.
        draw: draws into the axes and returns the entries of the legend.
        note: what the text below the figure says of this panel.
    """

    title: str
    draw: Callable[[Axes], Entries]
    note: str = ""


@dataclass(frozen=True)
class Drawing:
    """What a figure shows.

    Attributes:
        panels: in reading order.
        note: text below the figure: what bands and bars are, and the conditions.
        width: least width of a panel with its labels, in inches; it decides how many stand in a
            row.
        height: of the axes of a panel, in inches.
    """

    panels: Sequence[Panel]
    note: str
    width: float = 3.3
    height: float = 1.75


def check_drawing(width: float, panel: str | None) -> None:
    """Width and panel as far as they can be judged before there are rows.

    Raises:
        ValueError: a width outside 3.4 to 14 inches, or a panel that is no letter.
    """
    if not NARROWEST <= check_finite_number("--width", width) <= WIDEST:
        raise ValueError(f"--width={width!r}: expected inches from {NARROWEST} to {WIDEST:g}.")
    if panel is not None and (len(panel) != 1 or panel not in ascii_lowercase):
        raise ValueError(f"--panel={panel!r}: expected one letter, such as b.")


def check_panel(panel: str | None, count: int) -> None:
    """That a figure of `count` panels has this one.

    Raises:
        ValueError: it has not; names those that exist.
    """
    letters = ascii_lowercase[:count]
    if panel is not None and panel not in [*letters]:
        raise ValueError(f"--panel={panel!r}: the figure has the panels {', '.join(letters)}.")


def lay_out(drawing: Drawing, width: float = PAGE, panel: str | None = None) -> Figure:
    """A new figure of `width` inches with all panels, or the one of this letter.

    Raises:
        ValueError: see `check_drawing` and `check_panel`.
    """
    check_drawing(width, panel)
    check_panel(panel, len(drawing.panels))
    letters = ascii_lowercase if len(drawing.panels) > 1 else ""
    chosen = [
        (letter, each)
        for letter, each in zip(letters or "a", drawing.panels, strict=False)
        if panel in (None, letter)
    ]
    across = max(1, min(len(chosen), math.floor(width / drawing.width + 1e-9)))
    down = math.ceil(len(chosen) / across)
    with rc_context(RC):
        figure = Figure(figsize=(width, 3.0 + down * (drawing.height + 1.5)), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, across, squeeze=False)
        entries: Entries = {}
        notes = [drawing.note] if drawing.note else []
        for axes, (letter, each) in zip(grid.flat, chosen, strict=False):
            for text, shown in each.draw(axes).items():
                if text not in entries or isinstance(shown, tuple):  # with its band, if any has one
                    entries[text] = shown
            axes.tick_params(which="both", labelsize=SMALL)
            prefix = f"({letter}) " if letters else ""
            axes.set_title(prefix + each.title, loc="left")
            notes += [prefix + each.note] if each.note else []
        for axes in list(grid.flat)[len(chosen) :]:
            axes.remove()
        kept = grid.copy()
        kept.flat[len(chosen) :] = None
        _drop_repeated_labels(kept)
        _fit(figure, [axes for axes in grid.flat[: len(chosen)]], down, drawing.height, entries,
             notes)  # fmt: skip
    return figure


def _drop_repeated_labels(grid: np.ndarray) -> None:
    """Neighbours with the same label have it once; with the same axis, its numbers once."""
    down, across = grid.shape
    for i in range(down):
        for j in range(across - 1, 0, -1):
            left, axes = grid[i, j - 1], grid[i, j]
            if axes is not None and axes.get_ylabel() == left.get_ylabel():
                axes.set_ylabel("")
                if left.get_ylim() == axes.get_ylim() and left.get_yscale() == axes.get_yscale():
                    axes.tick_params(axis="y", which="both", labelleft=False)
    for j in range(across):
        for i in range(down - 1):
            axes, below = grid[i, j], grid[i + 1, j]
            if below is not None and axes.get_xlabel() == below.get_xlabel():
                axes.set_xlabel("")
                if axes.get_xlim() == below.get_xlim() and axes.get_xscale() == below.get_xscale():
                    axes.tick_params(axis="x", which="both", labelbottom=False)


def _fit(
    figure: Figure, panels: list[Axes], down: int, height: float, entries: Entries, notes: list[str]
) -> None:
    """Wrap every text to its place, put legend and note below, and choose the figure's height."""
    width = figure.get_figwidth()
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.04, h_pad=0.04, wspace=0.0, hspace=0.0)
    engine.execute(figure)
    inner = min(axes.get_position().width for axes in panels) * width
    for axes in panels:
        title, label = axes.get_title(loc="left"), axes.get_xlabel()
        axes.set_title(wrapped(figure, title, inner, SIZE), loc="left")
        axes.set_xlabel(balanced(figure, label, inner + 0.2, SIZE))
        axes.set_ylabel(balanced(figure, axes.get_ylabel(), height + 0.2, SIZE))
    text = "\n".join(wrapped(figure, note, width - 2 * GAP, SMALL) for note in notes)
    lines = len(text.splitlines())
    note_height = lines * LINE * SMALL * POINT + (GAP if lines else 0.0)
    legend = _legend(figure, entries, width)
    legend_height = legend.get_window_extent().height / figure.dpi + GAP
    foot = note_height + legend_height
    total = figure.get_figheight()
    engine.set(rect=(0.0, foot / total, 1.0, 1.0 - foot / total))
    engine.execute(figure)
    now = min(axes.get_position().height for axes in panels) * total
    total += down * (height - now)  # what the axes need around them does not depend on it
    figure.set_figheight(total)
    engine.set(rect=(0.0, foot / total, 1.0, 1.0 - foot / total))
    legend.set_bbox_to_anchor((0.5, foot / total), transform=figure.transFigure)
    if text:
        figure.text(
            GAP / width, GAP / total, text, fontsize=SMALL, linespacing=LINE, va="bottom"
        ).set_in_layout(False)
    figure.draw_without_rendering()  # places the legend
    figure.set_layout_engine("none")  # what is written is what was measured


def _legend(figure: Figure, entries: Entries, width: float) -> Any:
    """As many columns as fit; texts are wrapped where two columns, then one, would not."""
    handles = list(entries.values())
    place: dict[str, Any] = {"loc": "upper center", "borderaxespad": 0.0, "borderpad": 0.0}
    place |= {"columnspacing": 1.2, "labelspacing": 0.35, "handlelength": 2.6}
    for columns, inches in ((4, 99.0), (3, 99.0), (2, 99.0), (2, width / 2 - 0.65)):
        texts = [wrapped(figure, text, inches, SMALL) for text in entries]
        legend = figure.legend(handles, texts, ncols=columns, **place)
        legend.set_in_layout(False)
        narrow = inches < 2.0  # two columns of a narrow figure would be mostly broken lines
        fits = legend.get_window_extent().width <= (width - 2 * GAP) * figure.dpi
        if fits and not narrow:
            return legend
        legend.remove()
    texts = [wrapped(figure, text, width - 0.75, SMALL) for text in entries]
    legend = figure.legend(handles, texts, **place)
    legend.set_in_layout(False)
    return legend


def wrapped(figure: Figure, text: str, inches: float, size: float) -> str:
    """`text` in lines at most `inches` wide; formulas and words are kept whole."""
    if not text:
        return ""
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    probe = figure.text(0.0, 0.0, "", fontsize=size)
    lines: list[str] = []
    for word in re.findall(r"(?:\$[^$]*\$|[^\s$])+", text):
        longer = f"{lines[-1]} {word}" if lines else word
        probe.set_text(longer)
        if lines and probe.get_window_extent(renderer).width <= inches * figure.dpi:
            lines[-1] = longer
        else:
            lines.append(word)
    probe.remove()
    return "\n".join(lines)


def balanced(figure: Figure, text: str, inches: float, size: float) -> str:
    """As `wrapped`, with lines of about the same width and no more of them."""
    best = wrapped(figure, text, inches, size)
    lines = best.count("\n")
    while lines and inches > 0.3:
        inches -= 0.1
        narrower = wrapped(figure, text, inches, size)
        if narrower.count("\n") > lines:
            break
        best = narrower
    return best


def save_figure(
    drawing: Drawing, folder: Path, stem: str, width: float = PAGE, panel: str | None = None
) -> list[Path]:
    """Write <stem>.png and <stem>.pdf, or <stem>_<panel>, without dates; return their paths."""
    figure = lay_out(drawing, width, panel)
    folder.mkdir(parents=True, exist_ok=True)
    name = stem if panel is None else f"{stem}_{panel}"
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    with rc_context(RC):
        figure.savefig(paths[0], metadata={"Software": None})
        figure.savefig(paths[1], metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return paths
