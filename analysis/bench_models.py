"""Run time of analyses of a trained model; `table_bench.py` runs this script and stores the rows.

python analysis/bench_models.py --list                             every name with its threads
python analysis/bench_models.py representation_error/single_frame  one row, as JSON

The rows measure the representation error of the shipped agent for 50 episodes of 100 rows and 64
draws of noise. The 32 shipped episodes are repeated to obtain 50.
"""

from collections.abc import Iterator
from functools import partial

import torch

from sdewm.base.records import ROOT
from sdewm.data.recorded_episodes import Episodes
from sdewm.model_theorems.representation_error import MODES, measure_representation_error
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.report.trained_run import load_trained_run
from sdewm.scripts.benchmark import BenchRow, Measure, bench_row, run_script, seconds

MODELS = ROOT / "paper_checks" / "small_models"
EPISODES, STEPS, DRAWS, ROUNDS = 50, 100, 64, 3
AIM = "<= 60"


def representation_error(mode: str, device: torch.device) -> Iterator[BenchRow]:
    trained = load_trained_run(MODELS / "agent", MODELS / "episodes")
    shipped = trained.episodes(STEPS, None, 0)
    places = torch.arange(EPISODES) % len(shipped.rewards)
    tables = (shipped.observations, shipped.previous_actions, shipped.rewards)
    episodes = Episodes(*(table[places] for table in tables))
    run = partial(
        measure_representation_error,
        trained.model,
        episodes,
        ObservationPerturbation("noise", 0.1),
        mode=mode,
        draws=DRAWS,
    )
    run()
    times = [seconds(run, device) for _ in range(ROUNDS)]
    baseline = f"{EPISODES} episodes, {STEPS} rows, {DRAWS} draws"
    yield bench_row(f"representation_error/{mode}", times, "s", baseline=baseline, aim=AIM)


def jobs(device: str) -> dict[tuple[str, ...], Measure]:
    """The measurements, on the CPU only, by the names of their rows."""
    if device != "cpu":
        return {}
    return {
        (f"representation_error/{mode}",): partial(representation_error, mode) for mode in MODES
    }


if __name__ == "__main__":
    run_script(jobs, threads=(1, 2))
