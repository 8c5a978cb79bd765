"""Are the models of the studies better than predictions without a model?

    python analysis/make_study_data.py     # the episodes, if they are not there
    python analysis/table_baselines.py     # writes figures/data/table_baselines.csv

For every study of recorded episodes with rows, and every number K of policy steps of its end points
"open_loop K": the mean ln squared error of the arm without penalty (interval of Student's t over
training seeds, level .95), of copying the last row seen, and of the mean of the training rows, on
the same windows and in the same units (standard errors over test episodes). A model draws samples;
where it knows nothing, their squared error is twice that of the mean, 0.69 more in the logarithm.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdewm.base.records import manifest, write_table
from sdewm.base.stats import Estimate
from sdewm.model_theorems.episode_statistics import mean_estimate
from sdewm.open_loop.baselines import copy_last, data_mean
from sdewm.open_loop.errors import squared_error
from sdewm.plots.tables import text_table
from sdewm.robustness.statistics import t_interval
from sdewm.study.committed import DATA, STUDIES, Results, read_results, table_of
from sdewm.study.end_points import CONTEXT, unit_of, windows
from sdewm.study.episodes import require_episodes
from sdewm.study.rows import arms_of

ARM, NAME = "baseline", "table_baselines"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the committed rows")
    given = parser.parse_args(arguments)
    try:
        lines = [line for results in measured(given.data) for line in lines_of(results)]
    except ValueError as problem:
        parser.error(str(problem))
    write_table(given.data / f"{NAME}.csv", lines, manifest(seed=0))
    print(text_table([*lines[0]], [[_text(value) for value in line.values()] for line in lines]))


def measured(data: Path) -> list[Results]:
    """The studies that predict recorded episodes, have this arm, and rows of two seeds of it."""
    known = sorted(path.stem for path in STUDIES.glob("*.toml"))
    found = [read_results(name, data) for name in known if table_of(name, data).is_file()]
    return [one for one in found if one.study.data and ARM in one.study.arms and one.seeds >= 2]


def lines_of(results: Results) -> Iterator[dict[str, Any]]:
    """One line for each horizon."""
    study = results.study
    horizons = [int(name.split()[1]) for name in study.end_points if name.startswith("open_loop ")]
    if not horizons:
        return
    require_episodes(study, results.rows)
    without = without_model(Path(study.data), Path(study.test_data), horizons)
    for steps in horizons:
        values = arms_of(results.rows, ARM, f"open_loop {steps}", study.updates)
        mean, low, high = t_interval([*values.values()])
        line: dict[str, Any] = {"study": study.name, "digest": study.digest, "steps": steps}
        line |= {"model": mean, "low": low, "high": high, "seeds": len(values)}
        for name, one in without[steps].items():
            line |= {name: one.value, f"{name}_error": one.standard_error}
        yield line


def without_model(
    train: Path, test: Path, horizons: Sequence[int]
) -> dict[int, dict[str, Estimate]]:
    """ln squared errors of copying and of the mean row, for each number of steps."""
    episodes, trained = windows(test), windows(train).observations
    unit = unit_of(episodes)
    seen = episodes.observations[:, : CONTEXT + max(horizons)].numpy() / unit
    mean = np.mean([one.double().mean(0).numpy() for one in trained], 0) / unit
    found = {}
    for steps in horizons:
        truth = seen[:, CONTEXT + steps - 1 :][:, :1]
        guesses = {
            "copy_last": copy_last(seen[:, CONTEXT - 1], 1),
            "data_mean": data_mean(mean[None], len(truth), 1),
        }
        errors = {name: squared_error(guess, truth)[:, 0] for name, guess in guesses.items()}
        found[steps] = {name: mean_estimate(np.log(one)) for name, one in errors.items()}
    return found


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
