r"""Effects of the Jacobian penalty on world models: intended effects and costs, over several runs.

    python analysis/fig_jacobian_weight.py                   redraw the committed table
    python analysis/fig_jacobian_weight.py RUN… --data paper_checks/small_models/episodes

The runs differ in the weight of the penalty and in the seed; others are refused. For each run the
figure shows the size of the Jacobian, growth rates, the growth of an initial error in imagination,
clean and open-loop errors, and the expansion terms under noise and under a constant shift of the
observations.
The committed table is of runs of the study `cartpole`, in runs/studies/cartpole. Runs whose rows
are already in the log are not measured again, so the same command resumes an interrupted one.
"""

import argparse
from collections.abc import Sequence
from functools import partial

from sdewm.plots.jacobian_weight_plots import effects_of_penalty
from sdewm.report.jacobian_weight import penalty_rows, summary
from sdewm.report.trained_run import load_trained_run
from sdewm.scripts.measured_runs import Facts, Runs, RunsTable, data_facts, draw_runs, require_alike


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the runs, write the table and draw the figure."""
    rows, _ = draw_runs(TABLE, __doc__, arguments, effects_of_penalty)
    print(summary(rows))


def runs_of(given: argparse.Namespace) -> tuple[Runs, Facts]:
    """What is measured of each run."""
    trained = [load_trained_run(run, given.data) for run in given.runs]
    require_alike({str(one.run): one for one in trained}, ["jacobian.weight"])
    runs = [
        (
            f"{one.run.name} {one.weights_digest}",
            partial(penalty_rows, one, given.episodes, given.seed),
        )
        for one in trained
    ]
    return runs, data_facts(given.data)


TABLE = RunsTable(
    "fig_jacobian_weight", "data", "directory of recorded episodes", runs_of, episodes=(16, 2)
)

if __name__ == "__main__":
    main()
