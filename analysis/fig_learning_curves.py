"""Learning curves of runs, compared with the published curves of DreamerV3 and DreamerV2.

    python analysis/fig_learning_curves.py                        the committed table alone
    python analysis/fig_learning_curves.py runs/a runs/b          these runs
    python analysis/fig_learning_curves.py "penalty 0.01=runs/c"  a run under another name
    python analysis/fig_learning_curves.py figures/data/fig_learning_curves.csv runs/new
                                                                  the committed table and a new run

A source is a run directory or a table written by this script. Runs of equal name, environment and
kind of observation are seeds of one curve; a run replaces the same seed of a table. The returns of
all drawn runs are written to data/fig_learning_curves.csv with the hardware, commit and command of
each, so that the figure can be redrawn from there.

The return of a run is the mean of each evaluation (mean actions, fixed initial states). For a run
without evaluations it is the mean over the training episodes that ended within each interval of
10 000 env_frames. A curve is the mean over seeds, linearly interpolated to the frames of all seeds,
on their common range.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdewm.base.records import ROOT, Row, manifest, read_log, read_table, write_table
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.plots.tables import estimate_text, text_table
from sdewm.plots.training_plots import learning_curves
from sdewm.scripts.theory_figure import add_drawing_options

STEM = "fig_learning_curves"
PUBLISHED = ROOT / "figures" / "data" / "published_learning_curves.csv"
COLUMNS = "label env obs seed protocol env_frames return run preset hardware commit command".split()
TRAINING_BIN = 10_000  # env_frames
# What a return is of; they are not the same quantity, so every legend says it.
PROTOCOLS = {
    "evaluation": "evaluation episodes, mean action",
    "training": "training episodes, sampled actions",
    "random": "evaluation episodes, uniformly random actions",
}
PUBLISHED_BY = {"DreamerV3": PROTOCOLS["training"], "DreamerV2": "evaluation episodes"}
Curve = tuple[str, str, str]  # label, env, obs
Points = dict[int, tuple[list[float], list[float]]]  # by seed: env_frames and returns


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the sources, write the table and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", help="RUN, NAME=RUN or TABLE.csv")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the files")
    add_drawing_options(parser)
    options = parser.parse_args(arguments)
    table = options.out / "data" / f"{STEM}.csv"
    sources = options.sources or [str(table)]
    if not options.sources and not table.is_file():
        parser.error(
            f"no runs given, and {table} does not exist: give at least one run directory, as "
            "created by `sdewm train … --run RUN`."
        )
    try:
        check_drawing(options.width, options.panel)
        rows = read_sources(sources)
        drawn = figure_rows(rows, read_table(PUBLISHED)[0])
        if options.sources:  # else the table stays as it is
            write_table(table, rows, manifest(seed=0) | {"seed": "a column: one for each run"})
        drawing = learning_curves(drawn)
        paths = save_figure(drawing, options.out, STEM, options.width, options.panel)
    except ValueError as problem:
        parser.error(str(problem))
    for path in (*paths, table):
        print(path)
    print(comparison(drawn))


def read_sources(sources: Sequence[str]) -> list[Row]:
    """Rows of all runs and tables, curve by curve, with seeds in order.

    Raises:
        ValueError: a source cannot be read, or two sources are the same seed of one curve.
    """
    found: dict[tuple[Any, ...], tuple[bool, str, list[Row]]] = {}
    for source in sources:
        name, _, path = source.rpartition("=")
        is_run = not path.endswith(".csv")
        rows = read_run(Path(path), name) if is_run else read_rows(Path(path))
        keys = dict.fromkeys(tuple(row[column] for column in COLUMNS[:4]) for row in rows)
        for key in keys:
            own = [row for row in rows if tuple(row[column] for column in COLUMNS[:4]) == key]
            if key in found and found[key][0] >= is_run:
                label, env, obs, seed = key
                raise ValueError(
                    f"{found[key][1]} and {source} are both seed {seed} of {label!r} on {env} from "
                    f"{obs}: give one of them another name, as in 'NAME={path}'."
                )
            found[key] = (is_run, source, own)
    return [row for key in sorted(found, key=str) for row in found[key][2]]


def read_rows(path: Path) -> list[Row]:
    """The rows of a table written by this script."""
    if not path.is_file():
        raise ValueError(f"{path}: no such table.")
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(line for line in file if not line.startswith("# "))
        rows = list(table)
    if not rows or table.fieldnames != COLUMNS:
        raise ValueError(f"{path}: expected rows with the columns {', '.join(COLUMNS)}.")
    numbers = {"seed": int, "env_frames": int, "return": float}  # a commit may look like one
    return [row | {name: kind(row[name]) for name, kind in numbers.items()} for row in rows]


def read_run(run: Path, name: str) -> list[Row]:
    """The returns of a run with the facts needed to repeat it."""
    try:
        config = json.loads((run / "config.json").read_text("utf-8"))
        facts = json.loads((run / "manifest.json").read_text("utf-8"))
        gpu = facts["gpu"]
        machine = f"{facts['processor']}, {facts['cores']} cores"
        fixed = {
            "label": name or config["preset"],
            "env": config["env"],
            "obs": config["obs"],
            "seed": config["seed"],
        }
        after = {
            "run": run.name,
            "preset": config["preset"],
            "hardware": machine if config["device"] == "cpu" else f"{gpu}; {machine}",
            "commit": facts["commit"],
            "command": facts["command"],
        }
    except (OSError, ValueError, KeyError) as problem:
        raise ValueError(
            f"{run} is not a run directory: config.json or manifest.json cannot be used "
            f"({type(problem).__name__}: {problem})."
        ) from problem
    rows, _ = read_log(run / "evaluation.jsonl")
    kind, points = (
        "evaluation",
        [(row["env_frames"], row["mean_return"]) for row in rows if row.get("by") == "train"],
    )
    if not points:
        kind, points = "training", list(training_returns(read_log(run / "metrics.jsonl")[0]))
    if not points:
        raise ValueError(f"{run}: no evaluation and no finished episode is recorded yet.")
    return [
        fixed | {"protocol": kind, "env_frames": frames, "return": value} | after
        for frames, value in points
    ]


def training_returns(rows: Sequence[Row]) -> Iterator[tuple[int, float]]:
    """(end of each interval of env_frames, mean return of the episodes that ended in it)."""
    bins: dict[int, list[float]] = {}
    for row in rows:
        if row.get("episode_return") is not None:
            end = -(-int(row["env_frames"]) // TRAINING_BIN) * TRAINING_BIN  # type: ignore[arg-type]
            bins.setdefault(end, []).extend([float(row["episode_return"])] * int(row["episodes"]))  # type: ignore[arg-type]
    for end, values in sorted(bins.items()):
        yield end, statistics.fmean(values)


def figure_rows(rows: Sequence[Row], published: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows of the figure: in each panel the published curves, our mean curves, and our seeds.

    Raises:
        ValueError: seeds of one curve have returns of different protocols.
    """
    drawn: list[dict[str, Any]] = []
    ours = curves_of(rows, "label")
    kinds = protocols(rows)
    theirs = curves_of(published, "method")
    for env, obs in dict.fromkeys(curve[1:] for curve in ours):
        panel = f"{env.removeprefix('dmc:').removeprefix('gym:')}, {obs}"
        for kind, some in (("published", theirs), ("own", ours)):
            for (label, *task), points in some.items():
                if task != [env, obs]:
                    continue
                series = f"{label}, published: {PUBLISHED_BY.get(label)}"
                if kind == "own":
                    series = f"{label}: {PROTOCOLS[kinds[label, env, obs]]}"
                common = {"panel": panel, "series": series, "seeds": len(points)}
                for frames, mean, deviation in mean_scores(points):
                    drawn.append(
                        common
                        | {"kind": kind, "seed": None, "env_frames": frames}
                        | {"mean": mean, "deviation": deviation}
                    )
                for seed, (x, y) in points.items() if kind == "own" else ():
                    drawn += [
                        common
                        | {"kind": "seed", "seed": seed, "env_frames": frames}
                        | {"mean": value, "deviation": None}
                        for frames, value in zip(x, y, strict=True)
                    ]
    return drawn


def protocols(rows: Sequence[Row]) -> dict[Curve, str]:
    """What the returns of each curve are of; ValueError if its seeds differ in that."""
    kinds: dict[Curve, str] = {}
    for row in rows:
        curve = (str(row["label"]), str(row["env"]), str(row["obs"]))
        kind = kinds.setdefault(curve, str(row["protocol"]))
        if kind != row["protocol"]:
            raise ValueError(
                f"{row['label']!r} on {row['env']} from {row['obs']} has returns of "
                f"{PROTOCOLS[kind]} and, of seed {row['seed']}, of "
                f"{PROTOCOLS[str(row['protocol'])]}: give such runs another name, as in NAME=RUN."
            )
    return kinds


def curves_of(rows: Sequence[Row], label: str) -> dict[Curve, Points]:
    """The points of each curve by seed."""
    curves: dict[Curve, Points] = {}
    for row in rows:
        curve = (str(row[label]), str(row["env"]), str(row["obs"]))
        x, y = curves.setdefault(curve, {}).setdefault(int(row["seed"]), ([], []))  # type: ignore[arg-type]
        x.append(float(row["env_frames"]))  # type: ignore[arg-type]
        y.append(float(row["return"]))  # type: ignore[arg-type]
    return curves


def mean_scores(points: Points) -> Iterator[tuple[float, float, float | None]]:
    """(env_frames, mean, standard deviation over seeds with divisor n − 1) on the common range."""
    first = max(x[0] for x, _ in points.values())
    last = min(x[-1] for x, _ in points.values())
    grid = sorted({frames for x, _ in points.values() for frames in x if first <= frames <= last})
    values = np.array([np.interp(grid, x, y) for x, y in points.values()])
    for n, frames in enumerate(grid):
        column = values[:, n]
        deviation = float(column.std(ddof=1)) if len(column) > 1 else None
        yield frames, float(column.mean()), deviation


def comparison(drawn: Sequence[dict[str, Any]]) -> str:
    """The ends of our curves and the published returns at the same env_frames, as text."""
    lines = []
    for panel in dict.fromkeys(row["panel"] for row in drawn):
        means = [row for row in drawn if row["panel"] == panel and row["kind"] != "seed"]
        for series in dict.fromkeys(row["series"] for row in means if row["kind"] == "own"):
            end = [row for row in means if row["series"] == series][-1]
            beside = [
                f"{other.partition(',')[0]} "
                + _at([row for row in means if row["series"] == other], end["env_frames"])
                for other in dict.fromkeys(r["series"] for r in means if r["kind"] == "published")
            ]
            own = estimate_text(end["mean"], end["deviation"])
            frames, seeds = f"{end['env_frames']:.0f}", str(end["seeds"])
            lines.append(
                [panel, series.partition(":")[0], seeds, frames, own, "; ".join(beside) or "–"]
            )
    header = ["task", "run", "seeds", "env_frames", "return ± sd", "published return"]
    return text_table(header, lines, right="seeds env_frames")


def _at(rows: Sequence[dict[str, Any]], frames: float) -> str:
    x = [row["env_frames"] for row in rows]
    if not x[0] <= frames <= x[-1]:
        return "–"
    mean, deviation = (
        float(np.interp(frames, x, [row[name] for row in rows])) for name in ("mean", "deviation")
    )
    return f"{mean:.0f} ± {deviation:.0f}"


if __name__ == "__main__":
    main()
