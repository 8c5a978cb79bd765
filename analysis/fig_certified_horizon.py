"""How far ahead are rollouts of a world model certified, and what decides it?

    python analysis/fig_certified_horizon.py                   redraw the committed table
    python analysis/fig_certified_horizon.py RUN… --data DIR   measure runs

The runs differ in the weight of the Jacobian penalty and in the seed. From a posterior state of
each of several episodes, all errors of size 0.1 in z are enclosed (`sdewm.enclose_rollouts`) under
the recorded actions, on one noise path each. `certified` is the last step with a bound, at most
`steps`: the enclosure abstains where its bound exceeds ten times the error to first order. `growth`
is that first-order error after GROWTH_STEP steps over the one at the start, the largest over all
directions of the error. The committed table is of the runs of the study `cartpole_hidden`, in
runs/studies/cartpole_hidden. Runs whose rows are already in the log are not measured again.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from sdewm.base.checks import check_count
from sdewm.base.records import ROOT, Row, code_digest, manifest, read_table, write_table
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.latent_sde.system import as_system
from sdewm.plots.certified_horizon_plots import certified_horizon
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.report.trained_run import TrainedRun, load_trained_run
from sdewm.scripts.measured_runs import measured_runs
from sdewm.scripts.theory_figure import add_drawing_options
from sdewm.theory.flow.rollout_enclosure import enclose_rollouts

STEM = "fig_certified_horizon"
LOG = ROOT / "runs" / f"{STEM}.jsonl"
START, STEPS, RADIUS, GROWTH_STEP = 20, 50, 0.1, 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the runs, write the table and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", help="directories of runs")
    parser.add_argument("--data", type=Path, help="directory of recorded episodes")
    parser.add_argument("--episodes", type=int, default=4, help="episodes (4)")
    parser.add_argument("--seed", type=int, default=0, help="root seed (0)")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the files")
    parser.add_argument("--log", type=Path, default=LOG, help="rows as they are finished")
    add_drawing_options(parser)
    given = parser.parse_args(arguments)
    table = given.out / "data" / f"{STEM}.csv"
    try:
        check_drawing(given.width, given.panel)
        if given.runs or given.data:
            write_table(table, *measured(given))
        elif not table.is_file():
            raise ValueError(
                f"expected RUNS and --data DIRECTORY ({table} is drawn anew without both)."
            )
        drawing = certified_horizon(read_table(table)[0])
        paths = save_figure(drawing, given.out, STEM, given.width, given.panel)
    except ValueError as problem:
        parser.error(str(problem))
    for path in (*paths, table):
        print(path)


def measured(given: argparse.Namespace) -> tuple[list[Row], dict]:
    """The rows of all runs; rows in the log with the same code and data are reused."""
    if not given.runs or given.data is None:
        raise ValueError("expected RUNS and --data DIRECTORY.")
    check_count("--episodes", given.episodes)
    check_count("--seed", given.seed, minimum=0)
    trained = [load_trained_run(run, given.data) for run in given.runs]
    facts = manifest(seed=given.seed, episodes=given.episodes, data=given.data.name, start=START)
    facts |= {"radius": RADIUS, "growth_step": GROWTH_STEP, "code": code_digest()}
    runs = [
        (
            f"{one.run.name} {one.weights_digest}",
            partial(rows_of, one, given.episodes, given.seed),
        )
        for one in trained
    ]
    deciding = ("seed", "episodes", "data", "start", "radius", "growth_step", "code")
    return measured_runs(runs, given.log, facts, deciding), facts


def rows_of(run: TrainedRun, count: int, seed: int) -> list[Row]:
    """One row for each episode."""
    episodes = run.episodes(START + 1 + STEPS, count, seed)
    states = clean_paths(run.model, episodes.first_rows(START + 1), seed).states[:, START]
    directions = torch.eye(run.model.state_size, dtype=torch.float64)[:, run.model.latent]
    penalty = run.config.jacobian
    rows: list[Row] = []
    for e in range(len(episodes.rewards)):
        actions = episodes.previous_actions[e, START + 1 : START + 1 + STEPS]
        tube = enclose_rollouts(
            as_system(run.model, actions=actions),
            states[e],
            RADIUS,
            directions,
            steps=STEPS,
            paths=1,
            seed=seed + e,
        )
        growth = float(tube.linear[0, GROWTH_STEP] / tube.linear[0, 0])
        rows.append(
            {
                "run": run.run.name,
                "weight": float(penalty.weight),
                "train_seed": run.config.seed,
                "episode": e,
                "radius": RADIUS,
                "steps": STEPS,
                "certified": tube.abstains[0].step - 1 if tube.abstains else STEPS,
                "growth": growth,
                "reason": tube.abstains[0].reason if tube.abstains else None,
            }
        )
    return rows


if __name__ == "__main__":
    main()
