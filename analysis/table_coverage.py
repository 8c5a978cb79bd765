"""How often the intervals that users see cover the truth, and how often the drift test errs.

python analysis/table_coverage.py

Each row repeats one experiment with E independent episodes whose means follow a normal, a skewed
(centred exponential) or a heavy-tailed (Student's t with 3 degrees of freedom) law of mean 0. The
nominal values are 95 % for an interval and 5 % for the test. The interval by the normal quantile
and Hotelling's T² are not used by sdewm; they show what Student's t and the signs change.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import fdtrc

from sdewm.base.records import ROOT, manifest, write_table
from sdewm.base.stats import half_width
from sdewm.model_theorems.episode_statistics import mean_estimate, ratio
from sdewm.model_theorems.error_statistics import ErrorStatistics
from sdewm.open_loop.bootstrap import episode_bootstrap
from sdewm.plots.tables import text_table

EPISODES = (8, 12, 32)
LAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda generator, shape: generator.standard_normal(shape),
    "skewed": lambda generator, shape: generator.exponential(size=shape) - 1.0,
    "heavy-tailed": lambda generator, shape: generator.standard_t(3, size=shape),
}
SIZE = 4  # components of the drift that is tested
REPEATS = {"interval": 4000, "bootstrap": 400, "test": 1000}
RESAMPLES = 400


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the figures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rows = coverage(options.seed)
    target = options.out / "data" / "table_coverage.csv"
    write_table(target, rows, manifest(seed=options.seed, components_of_drift=SIZE))
    lines = [[f"{row[name]}" for name in rows[0]] for row in rows]
    print(text_table([*rows[0]], lines))
    print(f"\n{target}")


def coverage(seed: int, share: float = 1.0) -> list[dict[str, Any]]:
    """One row for each quantity, law and number of episodes; `share` of the repetitions."""
    rows = []
    for law, draw in LAWS.items():
        for episodes in EPISODES:
            for quantity, (kind, nominal, hit) in QUANTITIES.items():
                repeats = max(2, round(share * REPEATS[kind]))
                generator = np.random.default_rng((seed, episodes, len(rows)))
                hits = sum(hit(draw, generator, episodes) for _ in range(repeats))
                found = hits / repeats
                rows.append(
                    {
                        "quantity": quantity,
                        "law": law,
                        "episodes": episodes,
                        "nominal": nominal,
                        "measured": round(found, 4),
                        "standard_error": round(math.sqrt(found * (1 - found) / repeats), 4),
                        "repeats": repeats,
                    }
                )
    return rows


def _mean(quantile: Callable[[int], float]) -> Callable[..., bool]:
    def hit(draw: Any, generator: np.random.Generator, episodes: int) -> bool:
        found = mean_estimate(draw(generator, (episodes,)))
        return abs(found.value) <= quantile(episodes) * found.standard_error

    return hit


def _ratio(draw: Any, generator: np.random.Generator, episodes: int) -> bool:
    """Σ above / Σ below of truth 1, where below is 4 ± 1/2."""
    below = 4.0 + generator.uniform(-0.5, 0.5, episodes)
    found = ratio(below + draw(generator, (episodes,)), below)
    return abs(found.value - 1.0) <= half_width(found.standard_error, episodes)


def _bootstrap(draw: Any, generator: np.random.Generator, episodes: int) -> bool:
    values = draw(generator, (episodes,))
    seed = int(generator.integers(2**31))
    band = episode_bootstrap(lambda x: x.mean(0), values, seed=seed, resamples=RESAMPLES)
    return float(band.low) <= 0.0 <= float(band.high)


def _test(draw: Any, generator: np.random.Generator, episodes: int) -> bool:
    shift = draw(generator, (episodes, 1, 1, SIZE))
    found = ErrorStatistics(shift, np.ones(shift.shape), np.ones((episodes, 1, SIZE)))
    return found.zero_drift_test(int(generator.integers(2**31))).p_value <= 0.05


def _hotelling(draw: Any, generator: np.random.Generator, episodes: int) -> bool:
    rows = draw(generator, (episodes, SIZE))
    mean, covariance = rows.mean(0), np.cov(rows, rowvar=False)
    square = float(episodes * mean @ np.linalg.solve(covariance, mean))
    scaled = square * (episodes - SIZE) / (SIZE * (episodes - 1))
    return float(fdtrc(SIZE, episodes - SIZE, scaled)) <= 0.05


def _signs_of_hotelling(draw: Any, generator: np.random.Generator, episodes: int) -> bool:
    """T² under random signs: it increases with m'M⁻¹m, where M = Σ x x' does not feel signs."""
    rows = draw(generator, (episodes, SIZE))
    turned = rows @ np.linalg.cholesky(np.linalg.inv(rows.T @ rows))
    signs = generator.choice([-1.0, 1.0], size=(999, episodes))
    flipped, square = ((signs @ turned) ** 2).sum(1), (turned.sum(0) ** 2).sum()
    return (1 + (flipped >= square * (1 - 1e-12)).sum()) / 1000 <= 0.05


QUANTITIES: dict[str, tuple[str, float, Callable[..., bool]]] = {
    "mean, Student's t": ("interval", 0.95, _mean(lambda n: half_width(1.0, n))),
    "mean, normal quantile (not used)": ("interval", 0.95, _mean(lambda n: half_width(1.0))),
    "ratio of means, Student's t": ("interval", 0.95, _ratio),
    "mean, bootstrap of episodes": ("bootstrap", 0.95, _bootstrap),
    "zero drift, random signs": ("test", 0.05, _test),
    "zero drift, Hotelling (not used)": ("interval", 0.05, _hotelling),
    "zero drift, random signs of Hotelling (not used)": ("test", 0.05, _signs_of_hotelling),
}


if __name__ == "__main__":
    main()
