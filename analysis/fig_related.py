"""What related papers measure, against the weight of the penalty.

    python analysis/fig_related.py

Drawn from figures/data/table_related.csv, which analysis/table_related.py measures.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdewm.base.records import ROOT, read_table
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.plots.related_plots import related_measurements
from sdewm.related import ensemble
from sdewm.related.registry import OF_RUNS
from sdewm.scripts.theory_figure import add_drawing_options

STEM, TABLE = "fig_related", "table_related"
CLEAN, ROBUST = "equivariance: clean", "equivariance: truth"
Rows = Sequence[dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    text = "folder of the files; the rows are in its subfolder data"
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help=text)
    add_drawing_options(parser)
    given = parser.parse_args(arguments)
    table = given.out / "data" / f"{TABLE}.csv"
    try:
        check_drawing(given.width, given.panel)
        if not table.is_file():
            raise ValueError(f"{table} is missing: python analysis/{TABLE}.py RUN… --data DIR")
        rows = read_table(table)[0]
        drawing = related_measurements(figure_rows(rows), trade_off(rows))
        paths = save_figure(drawing, given.out, STEM, given.width, given.panel)
    except ValueError as problem:
        parser.error(str(problem))
    for path in paths:
        print(path)


def figure_rows(rows: Rows) -> list[dict[str, Any]]:
    """What is drawn against the weight: the measurements that have a title."""
    shown = [(one.name, one.title, one.unit) for one in OF_RUNS if one.title]
    shown.append((ensemble.NAME, ensemble.TITLE, ensemble.UNIT))
    return [
        {
            "quantity": name,
            "title": title,
            "unit": unit,
            "weight": row["weight"],
            "seed": row["seed"],
            "value": row["value"],
        }
        for name, title, unit in shown
        for row in rows
        if row["measurement"] == name
    ]


def trade_off(rows: Rows) -> list[dict[str, Any]]:
    """Errors without and with noise of each run."""
    found: dict[tuple[float, int], dict[str, Any]] = {}
    for row in rows:
        own = found.setdefault((row["weight"], row["seed"]), {})
        own |= {"weight": row["weight"], "seed": row["seed"]}
        side = {CLEAN: "clean", ROBUST: "robust"}.get(row["measurement"])
        own |= {side: row["value"]} if side else {}
    return [*found.values()]


if __name__ == "__main__":
    main()
