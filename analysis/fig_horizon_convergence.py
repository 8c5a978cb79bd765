"""Does a penalty help long predictions, and does that depend on how long a model is trained?

    python analysis/fig_horizon_convergence.py

Drawn from figures/data/study_cartpole.csv: open-loop errors over the horizon and over the number of
updates, as differences of logarithms to the models without penalty, paired by training seed.
"""

from collections.abc import Sequence

from sdewm.plots.study_plots import horizon_convergence
from sdewm.scripts.study_figure import FEWEST, Lines, draw_study
from sdewm.study.committed import Results
from sdewm.study.declaration import penalty_weights
from sdewm.study.verdicts import paired

STEM, STUDY = "fig_horizon_convergence", "cartpole"
HORIZONS = (1, 5, 15, 25, 50)  # policy steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure."""
    draw_study(__doc__, arguments, STEM, STUDY, differences, horizon_convergence)


def differences(results: Results) -> Lines:
    """One line for each weight, horizon and number of updates with at least FEWEST pairs."""
    found = []
    for arm, weight in penalty_weights(results.study).items():
        for count in results.study.measured_at:
            for horizon in HORIZONS:
                seen = paired(results.rows, arm, "baseline", f"open_loop {horizon}", count)
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
