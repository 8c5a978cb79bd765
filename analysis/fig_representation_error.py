"""Is zero-mean noise on observations zero drift in the latent? Measured on a trained world model.

python analysis/fig_representation_error.py     the committed table, drawn anew
python analysis/fig_representation_error.py runs/cartpole --data data/cartpole
python analysis/fig_representation_error.py runs/cartpole --data data/cartpole --draws 16

The run is one of `sdewm train`, the data one of `sdewm record`. Every perturbation that the
observations allow is shown to the encoder at several strengths, at states of clean episodes
(single frame), and the error of the latent is split into drift and diffusion, with episodes as
units. Drawn are squared sizes over the variance of the posterior; the table holds the shares of
drift, the tests of zero drift and the correlation in time as well.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdewm.base.checks import check_count
from sdewm.base.records import ROOT, Row, manifest, read_table, write_table
from sdewm.evaluate.episodes import Episodes, read_episodes
from sdewm.evaluate.error_statistics import mean_of, ratio
from sdewm.evaluate.perturbations import ObservationPerturbation
from sdewm.evaluate.representation_error import measure_representation_error
from sdewm.latent_sde.models import RSSMModel
from sdewm.plots.error_plots import error_sizes
from sdewm.plots.style import save_figure
from sdewm.plots.tables import text_table
from sdewm.train.evaluation import saved_agent

STEM = "fig_representation_error"
VECTORS = {
    "noise": (0.01, 0.03, 0.1, 0.3),
    "mask": (0.02, 0.05, 0.2, 0.5),
    "shift": (0.01, 0.03, 0.1, 0.3),
}
IMAGES = {
    "noise": (0.02, 0.05, 0.1, 0.2),
    "mask": (0.02, 0.05, 0.2, 0.5),
    "brightness": (0.02, 0.05, 0.1, 0.2),
    "rotation": (1.0, 3.0, 10.0, 30.0),
    "occlusion": (0.01, 0.03, 0.1, 0.25),
}
UNITS = {
    "noise": "standard deviation",
    "mask": "share set to zero",
    "shift": "constant added",
    "brightness": "constant added (range 1)",
    "rotation": "degrees (±)",
    "occlusion": "share of the image",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", help="directory of a run")
    parser.add_argument("--data", type=Path, help="directory of recorded episodes")
    parser.add_argument("--episodes", type=int, default=None, help="episodes (all)")
    parser.add_argument("--steps", type=int, default=100, help="rows of each, from the first (100)")
    parser.add_argument("--draws", type=int, default=64, help="perturbed copies of each (64)")
    parser.add_argument("--seed", type=int, default=0, help="root seed (0)")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the files")
    options = parser.parse_args(arguments)
    table = options.out / "data" / f"{STEM}.csv"
    if options.run is None and options.data is None and table.is_file():
        for path in save_figure(error_sizes(read_table(table)[0]), options.out, STEM):
            print(path)
        return
    if options.run is None or options.data is None:
        parser.error(f"expected RUN and --data DIRECTORY ({table} is drawn anew without both).")
    try:
        check_count("--draws", options.draws, minimum=2)
        config, agent, counters = saved_agent(options.run)
        episodes = read_episodes(options.data, steps=options.steps, count=options.episodes)
    except ValueError as problem:
        parser.error(str(problem))
    model = RSSMModel(agent.world_model)
    if model.surrogate:
        print("One-hot latents: drift and diffusion are those of the class probabilities.")
    rows = measured_rows(model, episodes, options.draws, options.seed)
    facts = manifest(seed=options.seed) | {
        "run": options.run.name,
        "env": config.env,
        "obs": config.obs,
        "env_frames": counters["env_frames"],
        "episodes": len(episodes.rewards),
        "steps": options.steps,
        "draws": options.draws,
    }
    write_table(table, rows, facts)
    for path in (*save_figure(error_sizes(rows), options.out, STEM), table):
        print(path)
    shown = ("panel", "strength", "drift", "diffusion", "share", "p_value")
    print(
        text_table(
            [*shown],
            [
                [f"{row[name]:.3g}" if name != "panel" else row[name] for name in shown]
                for row in rows
            ],
        )
    )


def measured_rows(model: RSSMModel, episodes: Episodes, draws: int, seed: int) -> list[Row]:
    """One row for each perturbation and strength."""
    images = episodes.observations.dim() == 5
    rows = []
    for name, strengths in (IMAGES if images else VECTORS).items():
        for strength in strengths:
            print(f"{name} {strength:g}", file=sys.stderr)
            found = measure_representation_error(
                model, episodes, ObservationPerturbation(name, strength), draws=draws, seed=seed
            )
            unit = (found.reference_std**2).sum(-1).mean(1)  # of each episode
            drift = ratio(found.drift_squares.mean(1), unit)
            diffusion = ratio(found.variance.sum(-1).mean(1), unit)
            spread = mean_of(found.variance_change.sum(-1).mean(1) / unit)
            share, test = found.drift_fraction(), found.zero_drift_test(seed)
            time, whole = found.correlation_time
            rows.append(
                {
                    "panel": name,
                    "unit": UNITS[name],
                    "strength": strength,
                    "drift": drift.value,
                    "drift_error": drift.standard_error,
                    "diffusion": diffusion.value,
                    "diffusion_error": diffusion.standard_error,
                    "spread_change": spread.value,
                    "spread_change_error": spread.standard_error,
                    "share": share.value,
                    "share_error": share.standard_error,
                    "test": test.name,
                    "p_value": test.p_value,
                    "correlation_time": time,
                    "lasts_the_episode": whole,
                }
            )
    return rows


if __name__ == "__main__":
    main()
