"""Measures how long `rollout_bounds` takes; `table_bench.py` runs this and keeps the rows.

python analysis/bench_bounds.py --list                        every name with its numbers of threads
python analysis/bench_bounds.py rollout_bounds/units200       one row, as JSON

A recurrent world model at its native step: 1000 trajectories, 50 steps, all grades, estimates. The
first row's baseline is the simulation of the two rollouts alone, timed in turns with ours. The
other rows are exponents p of seconds ~ sizeᵖ, fitted by least squares to the logarithms.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import sdewm
from sdewm.base.checks import check_device
from sdewm.certificates.gru_system import RecurrentSystem

PATHS, STEPS, UNITS, LATENT = 1000, 50, 200, 32
SIZES = {"width": (100, 200, 400), "horizon": (25, 50, 100)}
AIMS = {"width": "<= 2", "horizon": "<= 1.1"}  # of a product with a weight matrix; of a step
ROWS = {f"rollout_bounds/units{UNITS}": [1, 2]} | {
    f"rollout_bounds_growth/{size}": [1] for size in SIZES
}
ROUNDS = 3


def problem(units: int, steps: int) -> tuple[Any, ...]:
    system = RecurrentSystem.like_trained(hidden=units, latent=LATENT)
    error = torch.zeros_like(system.x0)
    error[system.blocks["z"]] = 0.1 / LATENT**0.5
    return system, system.x0, error, {"t1": float(steps), "steps": steps, "paths": PATHS}


def bound(units: int = UNITS, steps: int = STEPS) -> None:
    system, x0, error, grid = problem(units, steps)
    sdewm.rollout_bounds(system, x0, error, kind="estimate", **grid)


def simulate() -> None:
    system, x0, error, grid = problem(UNITS, STEPS)
    sdewm.rollout_divergence(system, x0, error, **grid)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def one() -> dict[str, Any]:
    pairs = [(seconds(bound), seconds(simulate)) for _ in range(ROUNDS + 1)][1:]
    ours, ratio = [mine for mine, _ in pairs], statistics.median(a / b for a, b in pairs)
    return {
        "name": f"rollout_bounds/units{UNITS}",
        "value": statistics.median(ours),
        "unit": "s",
        "baseline": f"{ratio:.1f} times the simulation of both rollouts",
        "ratio": None,
        "low": min(ours),
        "high": max(ours),
        "aim": "<= 10",
    }


def growth(size: str) -> dict[str, Any]:
    name = {"width": "units", "horizon": "steps"}[size]
    costs = [[seconds(partial(bound, **{name: n})) for n in SIZES[size]] for _ in range(ROUNDS)]
    fits = [
        statistics.linear_regression([*map(math.log, SIZES[size])], [*map(math.log, row)]).slope
        for row in costs[1:]
    ]
    return {
        "name": f"rollout_bounds_growth/{size}",
        "value": statistics.median(fits),
        "unit": "exponent",
        "baseline": f"{name} {', '.join(map(str, SIZES[size]))}",
        "ratio": None,
        "low": min(fits),
        "high": max(fits),
        "aim": AIMS[size],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure rows of figures/data/bench.csv.")
    parser.add_argument("names", nargs="*", help="rows")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--threads", type=int, default=1, help="threads to compute with")
    parser.add_argument("--device", default="cpu", help="these rows are measured on the CPU")
    given = parser.parse_args()
    if given.list:
        print("\n".join(json.dumps({"name": row, "threads": ROWS[row]}) for row in ROWS))
        return
    check_device(given.device)
    torch.set_num_threads(given.threads)
    for row in ROWS:
        if row in given.names:
            size = row.removeprefix("rollout_bounds_growth/")
            print(json.dumps(one() if size == row else growth(size)), flush=True)


if __name__ == "__main__":
    main()
