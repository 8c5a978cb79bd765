"""Is noise in training an implicit regulariser (claim C6)? A world model trained with an error of
its latents, and with the explicit term of that error instead.

    python analysis/fig_implicit_regularisation.py            redraw the committed table
    python analysis/fig_implicit_regularisation.py --compute  train again, about an hour on one core

From the shipped world model, in float64: 50 updates without error warm the optimiser up, then every
arm makes 500 updates on the same batches with the same random numbers. The error e is added to the
latent state of the filter at every step, in units of the latent's standard deviation: white noise
("noise": mirrored pairs ±ε, whose odd orders vanish; "single": one error), or one constant ±1 for
each component ("drift", the negative control). The explicit term is ε² c with c = ½ ∂²L/∂s² along
the same e. The loss is the model's own without its free nats, whose kink has no second derivative.

Seeds are the units of all intervals: of the batches, the model's random numbers and the errors.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.base.records import ROOT, manifest, read_table, write_table
from sdewm.data.recorded_episodes import read_episodes
from sdewm.model_theorems.implicit_regularisation import (
    BATCH,
    LENGTH,
    FilteredModel,
    compare_training,
    explicit_term,
    mirrored,
)
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.plots.study_plots import implicit_regularisation
from sdewm.report.trained_run import load_trained_run
from sdewm.robustness.statistics import Interval, t_interval
from sdewm.scripts.theory_figure import add_drawing_options

STEM = "fig_implicit_regularisation"
SHIPPED = ROOT / "paper_checks" / "small_models"
STRENGTHS = (0.025, 0.05, 0.1, 0.2)
WARM_UP, RATE = 50, 3e-4
ROWS = 100  # of each episode, from which windows are taken
KINDS = ("noise", "single", "drift")
# The claim, as declared before the first run: for strengths up to LARGEST the ratio of the effects
# lies in RATIO, and the gap has an order in ORDER.
LARGEST, RATIO, ORDER = 0.1, (0.8, 1.25), (3.5, 4.5)


def compute(
    filtered: FilteredModel, seeds: Sequence[int], updates: int, finished: Callable[[], None]
) -> list[dict[str, Any]]:
    """One row for each seed, kind of error and strength."""
    rows = []
    for seed in seeds:
        for kinds, error in ((("noise", "single"), "white"), (("drift",), "drift")):
            batches = filtered.batches(seed, WARM_UP + updates, error)
            pairs = {
                (kind, s): (mirrored(s) if kind == "noise" else {s: 1.0}, explicit_term(s))
                for kind in kinds
                for s in STRENGTHS
            }
            effects = compare_training(
                filtered.model,
                optimiser,
                filtered.losses,
                batches[:WARM_UP],
                batches[WARM_UP:],
                pairs,
                finished,
            )
            rows += [
                {
                    "kind": kind,
                    "strength": strength,
                    "seed": seed,
                    "ratio": effect.ratio,
                    "gap": effect.gap,
                    "size": effect.size,
                }
                for (kind, strength), effect in effects.items()
            ]
    return rows


def optimiser(model: torch.nn.Module) -> torch.optim.Optimizer:
    """Adam, in float64."""
    return torch.optim.Adam(model.parameters(), lr=RATE)


def orders(rows: Sequence[dict[str, Any]], kind: str) -> Interval:
    """Slope of ln gap in ln ε over the strengths up to LARGEST, with its interval over seeds."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        own = [
            (row["strength"], row["gap"])
            for row in rows
            if row["kind"] == kind and row["seed"] == seed and row["strength"] <= LARGEST
        ]
        x, y = np.log(np.array(own)).T
        found.append(float(np.polyfit(x, y, 1)[0]))
    return t_interval(found)


def figure_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is drawn: intervals over seeds of the ratio, and of the relative gap's logarithm."""
    found = []
    for kind in KINDS:
        order = orders(rows, kind)
        for strength in sorted({row["strength"] for row in rows}):
            own = [row for row in rows if (row["kind"], row["strength"]) == (kind, strength)]
            ratio = t_interval([row["ratio"] for row in own])
            gap = t_interval([math.log(row["gap"]) for row in own])
            found.append(
                {
                    "kind": kind,
                    "strength": strength,
                    "ratio": ratio.estimate,
                    "ratio_low": ratio.low,
                    "ratio_high": ratio.high,
                    "gap": math.exp(gap.estimate),
                    "gap_low": math.exp(gap.low),
                    "gap_high": math.exp(gap.high),
                    "order": order.estimate,
                    "order_low": order.low,
                    "order_high": order.high,
                    "seeds": len(own),
                }
            )
    return found


def verdict(rows: Sequence[dict[str, Any]], kind: str) -> str:
    """ "holds" if ratios up to LARGEST lie in RATIO and the order in ORDER, with their intervals.

    "fails" if an interval lies outside, else "undecided".
    """
    drawn = [r for r in figure_rows(rows) if r["kind"] == kind and r["strength"] <= LARGEST]
    order = orders(rows, kind)
    spans = [((r["ratio_low"], r["ratio_high"]), RATIO) for r in drawn]
    spans.append(((order.low, order.high), ORDER))
    if all(low <= a and b <= high for (a, b), (low, high) in spans):
        return "holds"
    outside = any(b < low or high < a for (a, b), (low, high) in spans)
    return "fails" if outside else "undecided"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train again if asked to, draw the figure, print the verdicts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compute", action="store_true", help="train again")
    parser.add_argument("--seeds", type=int, default=8, help="number of seeds, at least 2")
    parser.add_argument("--updates", type=int, default=500, help="updates of every arm")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the files")
    add_drawing_options(parser)
    given = parser.parse_args(arguments)
    table = given.out / "data" / f"{STEM}.csv"
    try:
        check_drawing(given.width, given.panel)
        if given.compute:
            write(
                table, check_count("seeds", given.seeds, 2), check_count("updates", given.updates)
            )
        elif not table.is_file():
            raise ValueError(f"{table} is missing; give --compute.")
        rows, facts = read_table(table)
        drawing = implicit_regularisation(figure_rows(rows), RATIO)
        save_figure(drawing, given.out, STEM, given.width, given.panel)
    except ValueError as problem:
        parser.error(str(problem))
    for kind in ("noise", "drift"):
        order = orders(rows, kind)
        print(
            f"{kind}: order of the gap {order.estimate:.2f} ({order.low:.2f} to {order.high:.2f}), "
            f"verdict {verdict(rows, kind)}"
        )
    print(f"{given.out / STEM}.png: {facts['updates']} updates")


def write(table: Path, seeds: int, updates: int) -> None:
    """Compute the rows of the seeds that the table does not hold; each is written as it comes."""
    run = load_trained_run(SHIPPED / "weight0-seed0", SHIPPED / "episodes")
    settings = {
        "weights": run.weights_digest,
        "updates": updates,
        "batch": BATCH,
        "length": LENGTH,
        "warm_up": WARM_UP,
        "rate": RATE,
    }
    rows: list[dict[str, Any]] = []
    if table.is_file():
        known, facts = read_table(table)
        if all(facts.get(name) == str(value) for name, value in settings.items()):
            rows = [row for row in known if int(row["seed"] or 0) < seeds]
    missing = [seed for seed in range(seeds) if seed not in {row["seed"] for row in rows}]
    arms = 2 + 5 * len(STRENGTHS)  # those of drift have a plain arm of their own
    progress, done = Progress(STEM, len(missing) * arms), iter(range(1, len(missing) * arms + 1))
    torch.set_num_threads(1)  # small matrices; several threads wait for each other
    filtered = FilteredModel(run.agent.world_model, read_episodes(run.data, steps=ROWS))
    for seed in missing:
        rows += compute(filtered, [seed], updates, lambda: progress.update(next(done)))
        write_table(table, rows, manifest(seed=0, **settings))


if __name__ == "__main__":
    main()
