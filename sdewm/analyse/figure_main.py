"""The command line of a script that draws one analysis: its table anew, or one of a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sdewm.analyse.subject import Part, load_subject
from sdewm.base.checks import check_count
from sdewm.base.records import ROOT, read_table, write_table
from sdewm.plots.figure_script import PANEL_HELP, WIDTH_HELP
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.plots.style import PAGE


def figure_main(part: Part, description: str, arguments: Sequence[str] | None = None) -> None:
    """Measure, draw, write; without run and data, draw the table that is there anew.

    Args:
        part: the analysis.
        description: of the script.
        arguments: the command line; None: that of the process.

    Raises:
        SystemExit: with one sentence: code 2 for arguments that cannot be used, 1 where there is no
            good checkpoint or trajectories leave the finite numbers.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options: Any = tyro.cli(_options(part), description=description, args=words)
    out = options.out or ROOT / "figures"
    table = out / "data" / f"{part.stem}.csv"
    try:
        check_drawing(options.width, options.panel)
        if options.run is None and options.data is None and table.is_file():
            rows = read_table(table)[0]
        elif options.run is None or options.data is None:
            raise ValueError(
                f"expected RUN and --data DIRECTORY ({table} is drawn anew without both)."
            )
        else:
            check_count("--seed", options.seed, minimum=0)
            subject = load_subject(options.run, options.data)
            found = part.rows(subject, options.settings, options.seed)
            write_table(table, found, subject.facts(options.settings, options.seed))
            rows = read_table(table)[0]
        paths = save_figure(part.figure(rows), out, part.stem, options.width, options.panel)
    except (ValueError, OSError, FloatingPointError) as problem:
        sys.stderr.write(f"{part.stem}: {problem}\n")
        raise SystemExit(2 if isinstance(problem, ValueError) else 1) from None
    for path in (*paths, table):
        print(path)
    print(part.summary(rows))


def _options(part: Part) -> type[Any]:
    """Run, data, the settings of the analysis under their own names, seed and folder."""
    path = Path | None
    return make_dataclass(
        "Options",
        [
            ("run", Annotated[path, tyro.conf.Positional, tyro.conf.arg(help="A run.")], None),
            ("data", Annotated[path, tyro.conf.arg(help="Its recorded episodes.")], None),
            ("settings", Annotated[part.settings, tyro.conf.arg(name="")], part.settings()),
            ("seed", Annotated[int, tyro.conf.arg(help="Root seed.")], 0),
            ("width", Annotated[float, tyro.conf.arg(help=f"{WIDTH_HELP}.")], PAGE),
            ("panel", Annotated[str | None, tyro.conf.arg(help=f"{PANEL_HELP}.")], None),
            ("out", Annotated[path, tyro.conf.arg(help="Folder; figures/ by default.")], None),
        ],
        frozen=True,
    )
