"""Command line of the figures that are drawn from the committed rows of a study."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sdewm.base.records import ROOT
from sdewm.plots.panels import Drawing, check_drawing, save_figure
from sdewm.scripts.theory_figure import add_drawing_options
from sdewm.study.committed import Results, read_results

FEWEST = 3  # pairs of seeds from which an interval is drawn
Lines = list[dict[str, Any]]


def draw_study(
    description: str | None,
    arguments: Sequence[str] | None,
    stem: str,
    study: str,
    lines: Callable[[Results], Lines],
    figure: Callable[[Lines], Drawing],
) -> None:
    """Draw figures/STEM from figures/data/study_NAME.csv."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    text = "folder of the files; the rows are in its subfolder data"
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help=text)
    add_drawing_options(parser)
    given = parser.parse_args(arguments)
    try:
        check_drawing(given.width, given.panel)
        results = read_results(study, given.out / "data")
        drawing = figure(lines(results))
        paths = save_figure(drawing, given.out, stem, given.width, given.panel)
    except (ValueError, OSError) as problem:
        parser.error(str(problem))
    for path in paths:
        print(path)
    print(f"{results.seeds} of {len(results.study.seeds)} seeds, study {results.study.digest}")
