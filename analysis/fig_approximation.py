"""What can be checked of the approximation theorem: trained autoencoders of growing width on
rendered manifolds, and interpolants of known rate (S31 to S33).

    python analysis/fig_approximation.py            redraw the committed table
    python analysis/fig_approximation.py --compute  measure the rows that are missing, about
                                                    twenty minutes on two busy cores

`python -m paper_checks.approximation.measure` makes the measurements. Every autoencoder has 600
updates on 64 or 512 images; errors are those on 2048 other states, in units of half the least
distance of antipodal images. The slope of a trained error in the width is a property of the
optimisation and of the sample: it neither confirms nor refutes a rate of approximation.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdewm.base.checks import check_count
from sdewm.base.records import ROOT, read_table
from sdewm.plots.approximation_plots import approximation
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.robustness.statistics import Interval, t_interval
from sdewm.scripts.theory_figure import add_drawing_options

STEM = "fig_approximation"
MEASURE = "paper_checks.approximation.measure"
MANY, FEW = 512, 64  # images
Rows = list[dict[str, Any]]


def figure_rows(rows: Rows) -> Rows:
    """What is drawn, by `part`.

    obstructed, embedded: largest error, of the smallest and of the largest code of each manifold
    (the arc, whose code of one number is both, counts as embedded). mean: mean error of the
    latter, with the slope of its logarithm. sample: mean error of 64 over that of 512 images.
    matched: W₁ over the mean error of the same states, and that of the exact code 2|θ| of S33.
    interpolant: largest error and bound.
    """
    trained = [row for row in rows if row["kind"] == "trained"]
    many = [row for row in trained if row["images"] == MANY]
    largest = {name: max(r["latent"] for r in many if r["name"] == name) for name in _names(many)}
    embedded = [row for row in many if row["latent"] == largest[row["name"]]]
    obstructed = [row for row in many if row["latent"] < largest[row["name"]]]
    few = {_key(row): row["mean_error"] for row in trained if row["images"] == FEW}
    found = [
        *_over_seeds("obstructed", obstructed, lambda row: row["largest_error"]),
        *_over_seeds("embedded", embedded, lambda row: row["largest_error"]),
        *_over_seeds("mean", embedded, lambda row: row["mean_error"]),
        *_over_seeds("sample", embedded, lambda row: few[_key(row)] / row["mean_error"]),
    ]
    for row in many:
        x, ratio = row["matched_error"], row["wasserstein"] / row["matched_error"]
        found.append(_row("matched", row, value=ratio, x=x))
    code = {"name": "2|θ|", "latent": 1, "width": None, "bound": None}
    found.append(_row("matched", code, value=0.0, x=4.0 / math.pi))
    for row in rows:
        if row["kind"] == "interpolant":
            found.append(_row("interpolant", row, value=row["largest_error"]))
    return found


def _names(rows: Rows) -> list[str]:
    return [*dict.fromkeys(row["name"] for row in rows)]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["name"], row["latent"], row["width"], row["seed"]


def _row(part: str, row: dict[str, Any], **more: Any) -> dict[str, Any]:
    same = {name: row[name] for name in ("name", "latent", "width", "bound")}
    return {"part": part} | same | more


def _over_seeds(part: str, rows: Rows, value: Callable[[dict[str, Any]], float]) -> Rows:
    """Geometric means over seeds, with the lowest and the highest value."""
    found = []
    for name in _names(rows):
        own = [row for row in rows if row["name"] == name]
        slope = slope_of(own, value)
        for width in sorted({row["width"] for row in own}):
            cell = [row for row in own if row["width"] == width]
            values = [value(row) for row in cell]
            mean, low, high = float(np.exp(np.log(values).mean())), min(values), max(values)
            interval = {
                "slope": slope.estimate,
                "slope_low": slope.low,
                "slope_high": slope.high,
            }
            more = {"value": mean, "low": low, "high": high, "seeds": len(cell)} | interval
            found.append(_row(part, cell[0], **more))
    return found


def slope_of(rows: Rows, value: Callable[[dict[str, Any]], float]) -> Interval:
    """Slope of the logarithm in that of the width, with its interval over seeds."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        own = [(row["width"], value(row)) for row in rows if row["seed"] == seed]
        x, y = np.log(np.array(own)).T
        found.append(float(np.polyfit(x, y, 1)[0]))
    return t_interval(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure if asked to, and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compute", action="store_true", help="measure the rows that are missing")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, at least 2")
    parser.add_argument("--updates", type=int, default=600, help="updates of each autoencoder")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the files")
    add_drawing_options(parser)
    given = parser.parse_args(arguments)
    table = given.out / "data" / f"{STEM}.csv"
    try:
        check_drawing(given.width, given.panel)
        seeds = check_count("--seeds", given.seeds, 2)
        updates = check_count("--updates", given.updates)
        if given.compute:
            words = ["--seeds", seeds, "--updates", updates, "--out", given.out.resolve()]
            command = [sys.executable, "-m", MEASURE, *map(str, words)]
            if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
                raise SystemExit(code)
        elif not table.is_file():
            raise ValueError(f"{table} is missing; give --compute.")
        rows, facts = read_table(table)
        drawing = approximation(figure_rows(rows))
        save_figure(drawing, given.out, STEM, given.width, given.panel)
    except ValueError as problem:
        parser.error(str(problem))
    for row in figure_rows(rows):
        if row["part"] == "mean" and row["width"] == 2:
            print(
                f"{row['name']}: slope {row['slope']:.2f} ({row['slope_low']:.2f} to "
                f"{row['slope_high']:.2f}), optimisation"
            )
    print(f"{given.out / STEM}.png: {facts['updates']} updates")


if __name__ == "__main__":
    main()
