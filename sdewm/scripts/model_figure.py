"""The command line of a script that draws one analysis, from its table or from a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sdewm.base.checks import check_count
from sdewm.base.records import ROOT, read_table, require_writable, write_table
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.plots.style import PAGE
from sdewm.report.analysis import Analysis
from sdewm.report.trained_run import load_trained_run
from sdewm.scripts.theory_figure import PANEL_HELP, WIDTH_HELP


def figure_main(
    analysis: Analysis, description: str, arguments: Sequence[str] | None = None
) -> None:
    """Run an analysis, write its table and draw it; without run and data, redraw the table.

    Args:
        analysis: the analysis.
        description: description of the script, for --help.
        arguments: the command line; None: that of the process.

    Raises:
        SystemExit: after one sentence, with code 2 for arguments that cannot be used, and 1 if
            there is no valid checkpoint or trajectories become infinite or nan.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options: Any = tyro.cli(_options(analysis), description=description, args=words)
    out = options.out or ROOT / "figures"
    table = out / "data" / f"{analysis.stem}.csv"
    try:
        check_drawing(options.width, options.panel)
        if options.run is None and options.data is None and table.is_file():
            if options.settings != analysis.settings() or options.seed:
                raise ValueError(
                    f"without RUN and --data {table} is drawn as it is: leave out the settings of "
                    "the analysis and --seed, which would not change it."
                )
            rows = read_table(table)[0]
        elif options.run is None or options.data is None:
            raise ValueError(
                f"expected RUN and --data DIRECTORY (without both, an existing {table} is redrawn)."
            )
        else:
            check_count("--seed", options.seed, minimum=0)
            subject = load_trained_run(options.run, options.data).subject
            analysis.check(subject, options.settings, options.seed)
            require_writable(out, table.parent)
            found = analysis.rows(subject, options.settings, options.seed)
            write_table(table, found, subject.facts(options.settings, options.seed))
            rows = read_table(table)[0]
        drawing = analysis.figure(rows)
        paths = save_figure(drawing, out, analysis.stem, options.width, options.panel)
    except (ValueError, OSError, FloatingPointError) as problem:
        sys.stderr.write(f"{analysis.stem}: {problem}\n")
        raise SystemExit(2 if isinstance(problem, ValueError) else 1) from None
    for path in (*paths, table):
        print(path)
    print(analysis.summary(rows))


def _options(analysis: Analysis) -> type[Any]:
    """Options of the command line: run, data, the settings of the analysis, seed and folder."""
    path = Path | None
    return make_dataclass(
        "Options",
        [
            (
                "run",
                Annotated[
                    path,
                    tyro.conf.Positional,
                    tyro.conf.arg(
                        metavar="[RUN]",
                        help="Run directory.",
                        help_behavior_hint="(default: redraw the existing table)",
                    ),
                ],
                None,
            ),
            (
                "data",
                Annotated[
                    path,
                    tyro.conf.arg(
                        metavar="DIRECTORY",
                        help="Dataset recorded by sdewm record, of the run's environment.",
                        help_behavior_hint="(required with RUN)",
                    ),
                ],
                None,
            ),
            ("settings", Annotated[analysis.settings, tyro.conf.arg(name="")], analysis.settings()),
            ("seed", Annotated[int, tyro.conf.arg(help="Root seed of the analysis.")], 0),
            ("width", Annotated[float, tyro.conf.arg(help=f"{WIDTH_HELP}.")], PAGE),
            ("panel", Annotated[str | None, tyro.conf.arg(help=f"{PANEL_HELP}.")], None),
            (
                "out",
                Annotated[
                    path,
                    tyro.conf.arg(
                        metavar="DIRECTORY",
                        help="Folder of the figure; the table is written to its subfolder data.",
                        help_behavior_hint="(default: figures)",
                    ),
                ],
                None,
            ),
        ],
        frozen=True,
    )
