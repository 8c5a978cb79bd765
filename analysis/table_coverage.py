"""How often the intervals that users see cover the truth, and how often the drift test errs.

python analysis/table_coverage.py

Each row repeats one experiment with E independent episodes whose means follow a normal, a skewed
(centred exponential) or a heavy-tailed (Student's t with 3 degrees of freedom) law of mean 0. The
nominal values are 95 % for an interval and 5 % for the test. `width` is the mean width over that of
Student's t. What is "not used" by sdewm shows what the methods in use change, or would not mend.

The aim of 93 to 97 % is met by the means of normal and heavy-tailed units, and missed by skewed
ones: their intervals cover 88 to 93 %. Hall's transformation and the bootstrap-t bring the skewed
cells to 93 to 95 %, but lower the heavy-tailed ones to about 93 % and widen the intervals by up to
a half; Johnson's correction of the centre changes next to nothing. As no method brings all cells
nearer, Student's t stays.
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
Hit = tuple[bool, float]  # whether the truth is covered, or the null rejected; relative width
LAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda generator, shape: generator.standard_normal(shape),
    "skewed": lambda generator, shape: generator.exponential(size=shape) - 1.0,
    "heavy-tailed": lambda generator, shape: generator.standard_t(3, size=shape),
}
SIZE = 4  # components of the drift that is tested
REPEATS = {"interval": 4000, "bootstrap": 1000, "test": 1000}
RESAMPLES = 999


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
                outcomes = [hit(draw, generator, episodes) for _ in range(repeats)]
                found = sum(bool(inside) for inside, _ in outcomes) / repeats
                width = sum(relative for _, relative in outcomes) / repeats
                rows.append(
                    {
                        "quantity": quantity,
                        "law": law,
                        "episodes": episodes,
                        "nominal": nominal,
                        "measured": round(found, 4),
                        "standard_error": round(math.sqrt(found * (1 - found) / repeats), 4),
                        "width": None if kind == "test" else round(width, 2),
                        "repeats": repeats,
                    }
                )
    return rows


def _covers(values: np.ndarray, low: float, high: float) -> tuple[bool, float]:
    """Whether the interval of a mean contains 0, and its width over that of Student's t."""
    student = 2.0 * half_width(mean_estimate(values).standard_error, len(values))
    return low <= 0.0 <= high, (high - low) / student


def _student(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    values = draw(generator, (episodes,))
    found, half = mean_estimate(values), half_width(mean_estimate(values).standard_error, episodes)
    return _covers(values, found.value - half, found.value + half)


def _normal(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    values = draw(generator, (episodes,))
    found, half = mean_estimate(values), half_width(mean_estimate(values).standard_error)
    return _covers(values, found.value - half, found.value + half)


def _ratio(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    """Σ above / Σ below of truth 1, where below is 4 ± 1/2."""
    below = 4.0 + generator.uniform(-0.5, 0.5, episodes)
    found = ratio(below + draw(generator, (episodes,)), below)
    return abs(found.value - 1.0) <= half_width(found.standard_error, episodes), 1.0


def _skewness(values: np.ndarray) -> float:
    centred = values - values.mean()
    return float((centred**3).mean() / (centred**2).mean() ** 1.5)


def _johnson(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    """The centre of Student's t moved by γ s/(6E) (Johnson 1978)."""
    values = draw(generator, (episodes,))
    found = mean_estimate(values)
    shift = _skewness(values) * found.standard_error / (6.0 * math.sqrt(episodes))
    half = half_width(found.standard_error, episodes)
    return _covers(values, found.value + shift - half, found.value + shift + half)


def _hall(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    """Student's quantiles through the inverse of Hall's cubic transformation (Hall 1992)."""
    values = draw(generator, (episodes,))
    found, skew = mean_estimate(values), _skewness(values)
    quantile = half_width(1.0, episodes) / math.sqrt(episodes)
    spread = found.standard_error * math.sqrt(episodes)
    ends = (
        3.0 * (np.cbrt(1.0 + skew * (sign * quantile - skew / (6.0 * episodes))) - 1.0) / skew
        for sign in (1.0, -1.0)
    )
    low, high = (found.value - spread * end for end in ends)
    return _covers(values, float(low), float(high))


def _bootstrap_t(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    values = draw(generator, (episodes,))
    found = mean_estimate(values)
    rows = values[generator.integers(episodes, size=(RESAMPLES, episodes))]
    errors = rows.std(axis=1, ddof=1) / math.sqrt(episodes)
    studentised = (rows.mean(1) - found.value)[errors > 0] / errors[errors > 0]
    low, high = np.quantile(studentised, (0.975, 0.025)) * found.standard_error
    return _covers(values, found.value - float(low), found.value - float(high))


def _bootstrap(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    values = draw(generator, (episodes,))
    seed = int(generator.integers(2**31))
    band = episode_bootstrap(lambda x: x.mean(0), values, seed=seed, resamples=RESAMPLES)
    return _covers(values, float(band.low), float(band.high))


def _percentiles(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    values = draw(generator, (episodes,))
    means = values[generator.integers(episodes, size=(RESAMPLES, episodes))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return _covers(values, float(low), float(high))


def _test(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    shift = draw(generator, (episodes, 1, 1, SIZE))
    found = ErrorStatistics(shift, np.ones(shift.shape), np.ones((episodes, 1, SIZE)))
    return found.zero_drift_test(int(generator.integers(2**31))).p_value <= 0.05, 1.0


def _hotelling(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    rows = draw(generator, (episodes, SIZE))
    mean, covariance = rows.mean(0), np.cov(rows, rowvar=False)
    square = float(episodes * mean @ np.linalg.solve(covariance, mean))
    scaled = square * (episodes - SIZE) / (SIZE * (episodes - 1))
    return float(fdtrc(SIZE, episodes - SIZE, scaled)) <= 0.05, 1.0


def _signs_of_hotelling(draw: Any, generator: np.random.Generator, episodes: int) -> Hit:
    """T² under random signs: it increases with m'M⁻¹m, where M = Σ x x' does not feel signs."""
    rows = draw(generator, (episodes, SIZE))
    turned = rows @ np.linalg.cholesky(np.linalg.inv(rows.T @ rows))
    signs = generator.choice([-1.0, 1.0], size=(999, episodes))
    flipped, square = ((signs @ turned) ** 2).sum(1), (turned.sum(0) ** 2).sum()
    return (1 + (flipped >= square * (1 - 1e-12)).sum()) / 1000 <= 0.05, 1.0


# quantity -> kind of REPEATS, nominal value, simulation
QUANTITIES: dict[str, tuple[str, float, Callable[..., Hit]]] = {
    "mean, Student's t": ("interval", 0.95, _student),
    "mean, normal quantile (not used)": ("interval", 0.95, _normal),
    "mean, Johnson's t (not used)": ("interval", 0.95, _johnson),
    "mean, Hall's transformation (not used)": ("interval", 0.95, _hall),
    "mean, bootstrap-t (not used)": ("bootstrap", 0.95, _bootstrap_t),
    "ratio of means, Student's t": ("interval", 0.95, _ratio),
    "mean, bootstrap of episodes": ("bootstrap", 0.95, _bootstrap),
    "mean, plain percentiles (not used)": ("bootstrap", 0.95, _percentiles),
    "zero drift, random signs": ("test", 0.05, _test),
    "zero drift, Hotelling (not used)": ("test", 0.05, _hotelling),
    "zero drift, random signs of Hotelling (not used)": ("test", 0.05, _signs_of_hotelling),
}


if __name__ == "__main__":
    main()
