"""What the weight of the Jacobian penalty does to a world model, from the rows of a study.

    python analysis/fig_weight_sweep.py

Drawn from figures/data/study_cartpole.csv: differences of logarithms to the models without penalty,
after the last update, paired by training seed.
"""

from collections.abc import Sequence

from sdewm.plots.study_plots import weight_sweep
from sdewm.scripts.study_figure import FEWEST, Lines, draw_study
from sdewm.study.committed import Results
from sdewm.study.declaration import penalty_weights
from sdewm.study.verdicts import paired

STEM, STUDY = "fig_weight_sweep", "cartpole"
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
    """Draw the figure."""
    draw_study(__doc__, arguments, STEM, STUDY, differences, weight_sweep)


def differences(results: Results) -> Lines:
    """What is drawn: one line for each end point and weight."""
    found = []
    for panel, names in PANELS.items():
        declared = [one.margin for one in results.study.comparisons if one.end_point in names]
        for name, label in names.items():
            for arm, weight in penalty_weights(results.study).items():
                seen = paired(results.rows, arm, "baseline", name, results.study.updates)
                if seen is None or seen.pairs < FEWEST:
                    continue
                found.append(
                    {
                        "panel": panel,
                        "quantity": "norms" if panel == "Jacobian" else "squared errors",
                        "end_point": label,
                        "weight": weight,
                        "difference": seen.difference.estimate,
                        "low": seen.difference.low,
                        "high": seen.difference.high,
                        "pairs": seen.pairs,
                        "margin": min(declared, default=0.0),
                    }
                )
    if not found:
        raise ValueError(f"rows: fewer than {FEWEST} seeds of every weight are there yet.")
    return found


if __name__ == "__main__":
    main()
