"""Run time of `rollout_bounds`; `table_bench.py` runs this script and stores the rows.

python analysis/bench_bounds.py --list                        every name with its numbers of threads
python analysis/bench_bounds.py rollout_bounds/units200       one row, as JSON

The system is a recurrent world model at its native step: 1000 trajectories, 50 steps, the default
grades, estimates. The baseline of the first row is the simulation of the two rollouts, timed in
alternation with the bounds. The other rows are exponents p of seconds ~ sizeᵖ, fitted by least
squares to the logarithms.
"""

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import sdewm
from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.scripts.benchmark import (
    BenchRow,
    Measure,
    bench_row,
    exponent_row,
    in_turns,
    run_script,
)

PATHS, STEPS, UNITS, LATENT = 1000, 50, 200, 32
SIZES = {"width": (100, 200, 400), "horizon": (25, 50, 100)}
AIMS = {"width": "<= 2", "horizon": "<= 1.1"}  # of a product with a weight matrix; of a step
ROW, GROWTH = f"rollout_bounds/units{UNITS}", "rollout_bounds_growth"
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


def at_one_size(device: torch.device) -> Iterator[BenchRow]:
    times = in_turns({"ours": bound, "theirs": simulate}, device, ROUNDS)
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["theirs"], strict=True))
    baseline = f"{ratio:.1f} times the simulation of both rollouts"
    yield bench_row(ROW, times["ours"], "s", baseline=baseline, aim="<= 10")


def growth(size: str, device: torch.device) -> Iterator[BenchRow]:
    name = {"width": "units", "horizon": "steps"}[size]
    runs = {str(n): partial(bound, **{name: n}) for n in SIZES[size]}
    costs = zip(*in_turns(runs, device, ROUNDS - 1).values(), strict=True)
    yield exponent_row(f"{GROWTH}/{size}", name, SIZES[size], [*costs], AIMS[size])


def jobs(device: str) -> dict[tuple[str, ...], Measure]:
    """The measurements, on the CPU only, by the names of their rows."""
    if device != "cpu":
        return {}
    found: dict[tuple[str, ...], Measure] = {(ROW,): at_one_size}
    return found | {(f"{GROWTH}/{size}",): partial(growth, size) for size in SIZES}


if __name__ == "__main__":
    run_script(jobs, threads=(1, 2), one_thread=[f"{GROWTH}/{size}" for size in SIZES])
