"""What the weight of the Jacobian penalty does to a world model, from the rows of a study.

    python analysis/fig_weight_sweep.py                    redraw the committed table
    python analysis/fig_weight_sweep.py --rows runs/studies/cartpole/rows.csv

The rows are those of `sdewm study analysis/studies/cartpole.toml`. They are written to
figures/data/fig_weight_sweep.csv, one line for each cell and number of updates, and all that is
drawn is computed from that table.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdewm.base.records import ROOT, manifest, read_table, write_table
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.plots.study_plots import weight_sweep
from sdewm.scripts.theory_figure import add_drawing_options
from sdewm.study.declaration import penalty_weights, read_study
from sdewm.study.rows import Place, from_lines, one_line_a_cell, read_rows
from sdewm.study.verdicts import paired

STEM, STUDY = "fig_weight_sweep", "cartpole"
FILE = ROOT / "analysis" / "studies" / f"{STUDY}.toml"
MARGIN, FEWEST = 0.1, 3  # of the declaration; pairs of seeds from which an interval is drawn
PANELS = {
    "Prediction": {
        "open_loop 5": "5 policy steps ahead",
        "open_loop 15": "15 steps",
        "open_loop 50": "50 steps",
    },
    "Perturbed observations": {
        "decoded noise:0": "unperturbed",
        "area noise": "noise",
        "area mask": "masks",
        "area shift": "shift",
    },
    "Errors of the latent": {
        "latent_error zero_drift:0.3 15": "zero drift, after 15 steps",
        "latent_error drift:0.3 15": "drift, after 15 steps",
        "latent_error zero_drift:0.3 50": "zero drift, after 50 steps",
    },
    "Jacobian": {
        "jacobian": "norm of the Jacobian",
        "memory": "least norm, by eigenvalues",
    },
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table of rows if rows are given, and draw the figure."""
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
            copy_rows(given.rows, table)
        elif not table.is_file():
            raise ValueError(f"{table} is missing; give --rows.")
        lines, facts = read_table(table)
        save_figure(weight_sweep(differences(lines)), given.out, STEM, given.width, given.panel)
    except ValueError as problem:
        parser.error(str(problem))
    print(f"{given.out / STEM}.png: {len(lines)} lines of study {facts['digest']}")


def copy_rows(rows: Path, table: Path) -> None:
    """Write the rows of the declared study, one line for each cell and number of updates."""
    study = read_study(FILE)
    found = read_rows(study, Place(rows.parent, study.digest, FILE))
    if not found:
        raise ValueError(f"{rows} has no rows of {FILE.name} (digest {study.digest}).")
    facts = manifest(seed=0, study=STUDY, digest=study.digest)
    write_table(table, one_line_a_cell(found), facts | {"seed": str(study.seeds)})


def weights() -> dict[str, float]:
    """The arms that differ from the baseline in the weight alone, with their weights."""
    return penalty_weights(FILE)


def differences(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is drawn: differences to the baseline, paired by seed, at the last number of updates."""
    rows = from_lines(lines)
    last = max(int(row["updates"]) for row in rows)
    found = []
    for panel, names in PANELS.items():
        for name, label in names.items():
            for arm, weight in weights().items():
                seen = paired(rows, arm, "baseline", name, last)
                if seen is None or seen.pairs < FEWEST:
                    continue
                found.append(
                    {
                        "panel": panel,
                        "end_point": label,
                        "weight": weight,
                        "difference": seen.difference.estimate,
                        "low": seen.difference.low,
                        "high": seen.difference.high,
                        "pairs": seen.pairs,
                        "margin": 0.0 if panel == "Jacobian" else MARGIN,
                    }
                )
    if not found:
        raise ValueError("rows: fewer than three seeds of every weight are there yet.")
    return found


if __name__ == "__main__":
    main()
