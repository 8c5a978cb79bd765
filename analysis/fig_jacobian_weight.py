r"""Effects of the Jacobian penalty on world models: intended effects and costs, over several runs.

    python analysis/fig_jacobian_weight.py                   redraw the committed table
    python analysis/fig_jacobian_weight.py RUN… --data paper_checks/small_models/episodes

The runs differ in the weight of the penalty and in the seed. For each run the figure shows the size
of the Jacobian, growth rates, the growth of an initial error in imagination, clean and open-loop
errors, and the expansion terms under noise and under a constant shift of the observations.
The committed table is of runs of the study `cartpole`, in runs/studies/cartpole. Runs whose rows
are already in the log are not measured again, so the same command resumes an interrupted one.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sdewm.base.checks import check_count
from sdewm.base.records import ROOT, Row, code_digest, manifest, read_table, write_table
from sdewm.plots.jacobian_weight_plots import effects_of_penalty
from sdewm.plots.panels import check_drawing, save_figure
from sdewm.report.jacobian_weight import penalty_rows, summary
from sdewm.report.trained_run import load_trained_run
from sdewm.scripts.measured_runs import measured_runs
from sdewm.scripts.theory_figure import add_drawing_options

STEM = "fig_jacobian_weight"
LOG = ROOT / "runs" / f"{STEM}.jsonl"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the runs, write the table and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", help="directories of runs")
    parser.add_argument("--data", type=Path, help="directory of recorded episodes")
    parser.add_argument("--episodes", type=int, default=16, help="episodes (16)")
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
        found = read_table(table)[0]
        drawing = effects_of_penalty(found)
        paths = save_figure(drawing, given.out, STEM, given.width, given.panel)
    except ValueError as problem:
        parser.error(str(problem))
    for path in (*paths, table):
        print(path)
    print(summary(found))


def measured(given: argparse.Namespace) -> tuple[list[Row], dict]:
    """The rows of all runs; rows in the log with the same code and data are reused."""
    if not given.runs or given.data is None:
        raise ValueError("expected RUNS and --data DIRECTORY.")
    check_count("--episodes", given.episodes, minimum=2)
    check_count("--seed", given.seed, minimum=0)
    trained_runs = [load_trained_run(run, given.data) for run in given.runs]
    facts = manifest(seed=given.seed, episodes=given.episodes, data=given.data.name)
    facts |= {"code": code_digest()}
    runs = [
        (
            f"{one.run.name} {one.weights_digest}",
            partial(penalty_rows, one, given.episodes, given.seed),
        )
        for one in trained_runs
    ]
    return measured_runs(runs, given.log, facts, ("seed", "episodes", "data", "code")), facts


if __name__ == "__main__":
    main()
