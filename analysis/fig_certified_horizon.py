"""How far ahead are rollouts of a world model certified, and what decides it?

    python analysis/fig_certified_horizon.py                   redraw the committed table
    python analysis/fig_certified_horizon.py RUN… --data DIR   measure runs

The runs differ in the weight of the Jacobian penalty and in the seed; others are refused. From a
posterior state of each of several episodes, all errors of size 0.1 in z are enclosed
(`sdewm.enclose_rollouts`) under the recorded actions, on one noise path each. `certified` is the
last step with a bound, at most `steps`: the enclosure abstains where its bound exceeds ten times
the error to first order. `growth` is that first-order error after GROWTH_STEP steps over the one at
the start, the largest over all directions of the error. The committed table is of the runs of the
study `cartpole_hidden`, in runs/studies/cartpole_hidden. Runs whose rows are already in the log are
not measured again.
"""

import argparse
from collections.abc import Sequence
from functools import partial

import torch

from sdewm.base.records import Row
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.latent_sde.system import as_system
from sdewm.plots.certified_horizon_plots import certified_horizon
from sdewm.report.trained_run import TrainedRun, load_trained_run
from sdewm.scripts.measured_runs import Facts, Runs, RunsTable, data_facts, draw_runs, require_alike
from sdewm.theory.flow.rollout_enclosure import enclose_rollouts

START, STEPS, RADIUS, GROWTH_STEP = 20, 50, 0.1, 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the runs, write the table and draw the figure."""
    draw_runs(TABLE, __doc__, arguments, certified_horizon)


def runs_of(given: argparse.Namespace) -> tuple[Runs, Facts]:
    """What is measured of each run."""
    trained = [load_trained_run(run, given.data) for run in given.runs]
    require_alike({str(one.run): one for one in trained}, ["jacobian.weight"])
    facts = data_facts(given.data)
    facts |= {"start": START, "radius": RADIUS, "growth_step": GROWTH_STEP}
    runs = [
        (f"{one.run.name} {one.weights_digest}", partial(rows_of, one, given.episodes, given.seed))
        for one in trained
    ]
    return runs, facts


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


TABLE = RunsTable(
    "fig_certified_horizon", "data", "directory of recorded episodes", runs_of, episodes=(4, 1)
)

if __name__ == "__main__":
    main()
