"""Measures how the cost of `expand` grows; `table_bench.py` runs this and keeps the rows.

python analysis/bench_growth.py --list                    every name with its numbers of threads
python analysis/bench_growth.py expand_time/paths         one row, as JSON

A row is the exponent p of cost ~ sizeᵖ, fitted by least squares to the logarithms; `low` and `high`
are the least and the largest of several fits. Time is that of `measure` at one error size, which
computes terms and remainder without recording the step again. Memory is what a fresh process takes
for `expand` beyond what it has after its imports.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import sdewm
from sdewm.base.checks import check_device
from sdewm.sde.examples import TanhWorldModel
from sdewm.theory.expansion.expand import Expansion

SIZES = {"paths": (4096, 8192, 16384), "steps": (128, 256, 512), "dimension": (4, 8, 16)}
OTHERWISE = {"paths": 1024, "steps": 128, "dimension": 4}
ROWS = ("time/paths", "time/steps", "time/dimension", "memory/paths", "memory/steps")
AIMS = {"time": "<= 1.1", "memory": "<= 0.1"}
ROUNDS = 2


def expand(paths: int, steps: int, dimension: int, device: torch.device) -> Expansion:
    system = TanhWorldModel(state_size=dimension)
    error = sdewm.Perturbation(drift=system.error_drift, diffusion=system.error_diffusion)
    where = {"t1": 1.0, "steps": steps, "paths": paths, "device": device}
    return sdewm.expand(system, error, system.loss, system.x0, **where)


def times(sizes: Sequence[dict[str, int]], device: torch.device) -> list[list[float]]:
    """Seconds for each size, once per round."""
    results = [expand(**size, device=device) for size in sizes]  # records the step, once
    return [[seconds_to_measure(result) for result in results] for _ in range(ROUNDS)]


def seconds_to_measure(result: Expansion) -> float:
    start = time.perf_counter()
    result.measure([0.1])  # ends on the CPU: nothing is pending on another device
    return time.perf_counter() - start


def memory_of(size: dict[str, int], device: torch.device) -> float:
    """MB, in a fresh process."""
    options = ["--device", str(device), "--memory", json.dumps(size)]
    words = [sys.executable, __file__, *options]
    return float(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)


def peak_memory(device: torch.device) -> float:
    """MB. From VmHWM where there is one, since ru_maxrss begins at that of the parent process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    return statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, costs)]).slope


def measure(name: str, device: torch.device) -> dict[str, float | str | None]:
    what, variable = name.split("/")
    sizes = [OTHERWISE | {variable: size} for size in SIZES[variable]]
    if what == "time":
        costs = times(sizes, device)
    else:
        costs = [[memory_of(size, device) for size in sizes]]
    fits = [exponent(SIZES[variable], one) for one in costs]
    return {
        "name": f"expand_{name}",
        "value": statistics.median(fits),
        "unit": "exponent",
        "baseline": f"{variable} {', '.join(map(str, SIZES[variable]))}",
        "ratio": None,
        "low": min(fits),
        "high": max(fits),
        "aim": AIMS[what],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure rows of figures/data/bench.csv.")
    parser.add_argument("names", nargs="*", help="rows")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--threads", type=int, default=1, help="threads to compute with")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--memory", type=json.loads, help="print the memory for these sizes, in MB")
    given = parser.parse_args()
    if given.list:
        print("\n".join(json.dumps({"name": f"expand_{row}", "threads": [1]}) for row in ROWS))
        return
    device = check_device(given.device)
    torch.set_num_threads(given.threads)
    if given.memory:
        before = peak_memory(device)
        expand(**given.memory, device=device)
        print(peak_memory(device) - before)
        return
    for row in ROWS:
        if f"expand_{row}" in given.names:
            print(json.dumps(measure(row, device)), flush=True)


if __name__ == "__main__":
    main()
