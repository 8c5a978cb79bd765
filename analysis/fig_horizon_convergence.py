"""Does a penalty help long predictions, and does that depend on how long a model is trained?

    python analysis/fig_horizon_convergence.py             redraw the committed table
    python analysis/fig_horizon_convergence.py --rows runs/studies/cartpole/rows.csv

Open-loop errors of the arms of analysis/studies/cartpole.toml over the horizon and over the number
of updates: differences of logarithms to the models without penalty, paired by training seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdewm.base.records import ROOT, manifest, read_table, write_table
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.plots.study_plots import horizon_convergence
from sdewm.scripts.theory_figure import add_drawing_options
from sdewm.study.declaration import penalty_weights, read_study
from sdewm.study.rows import Place, read_rows
from sdewm.study.verdicts import paired

STEM = "fig_horizon_convergence"
FILE = ROOT / "analysis" / "studies" / "cartpole.toml"
WEIGHTS = penalty_weights(FILE)
HORIZONS = (1, 5, 15, 25, 50)  # policy steps
FEWEST = 3  # pairs from which an interval is drawn


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table of differences if rows are given, and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, help="rows.csv of the study")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the files")
    add_drawing_options(parser)
    given = parser.parse_args(arguments)
    table = given.out / "data" / f"{STEM}.csv"
    try:
        check_drawing(given.width, given.panel)
        if given.rows is not None:
            study = read_study(FILE)
            rows = read_rows(study, Place(given.rows.parent, study.digest, FILE))
            facts = manifest(seed=0, study=study.name, digest=study.digest)
            updates = sorted({*study.measured_at, study.updates})
            write_table(table, differences(rows, updates), facts)
        elif not table.is_file():
            raise ValueError(f"{table} is missing; give --rows.")
        lines, facts = read_table(table)
        drawing = horizon_convergence(lines)
        save_figure(drawing, given.out, STEM, given.width, given.panel)
    except ValueError as problem:
        parser.error(str(problem))
    print(f"{given.out / STEM}.png: study {facts['digest']}")


def differences(rows: Sequence[dict[str, str]], updates: Sequence[int]) -> list[dict[str, Any]]:
    """One line for each weight, horizon and number of updates with at least FEWEST pairs."""
    found = []
    for arm, weight in WEIGHTS.items():
        for count in updates:
            for horizon in HORIZONS:
                seen = paired(rows, arm, "baseline", f"open_loop {horizon}", count)
                if seen is None or seen.pairs < FEWEST:
                    continue
                found.append(
                    {
                        "weight": weight,
                        "updates": count,
                        "horizon": horizon,
                        "difference": seen.difference.estimate,
                        "low": seen.difference.low,
                        "high": seen.difference.high,
                        "pairs": seen.pairs,
                    }
                )
    if not found:
        raise ValueError(f"rows: fewer than {FEWEST} seeds of every weight are there yet.")
    return found


if __name__ == "__main__":
    main()
