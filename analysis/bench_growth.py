"""Growth of the cost of `expand`; `table_bench.py` runs this script and stores the rows.

python analysis/bench_growth.py --list                    every name with its numbers of threads
python analysis/bench_growth.py expand_time/paths         one row, as JSON

A row is the exponent p of cost ~ sizeᵖ, fitted by least squares to the logarithms; `low` and `high`
are the minimum and maximum of several fits. The time is that of `measure` at one error size, which
computes terms and remainder without recording the step again. The memory is the peak memory of
`expand` in a new process, minus that after the imports.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

import sdewm
from sdewm.scripts.benchmark import BenchRow, Measure, exponent_row, in_turns, run_script
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


def times(sizes: Sequence[dict[str, int]], device: torch.device) -> list[tuple[float, ...]]:
    """Seconds for each size, once per round."""
    results = [expand(**size, device=device) for size in sizes]  # records the step, once
    runs = {str(place): partial(result.measure, [0.1]) for place, result in enumerate(results)}
    return [*zip(*in_turns(runs, device, ROUNDS, warm_up=0).values(), strict=True)]


def memory_of(size: dict[str, int], device: torch.device) -> float:
    """Peak memory in MB, measured in a new process."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(memory_taken, size, device).result()


def memory_taken(size: dict[str, int], device: torch.device) -> float:
    """MB that `expand` takes beyond what this process has taken so far."""
    torch.set_num_threads(1)
    before = peak_memory(device)
    expand(**size, device=device)
    return peak_memory(device) - before


def peak_memory(device: torch.device) -> float:
    """Peak memory in MB: VmHWM if available, since ru_maxrss starts at the parent's value."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(name: str, device: torch.device) -> Iterator[BenchRow]:
    what, variable = name.split("/")
    sizes = [OTHERWISE | {variable: size} for size in SIZES[variable]]
    if what == "time":
        costs = times(sizes, device)
    else:
        costs = [tuple(memory_of(size, device) for size in sizes)]
    yield exponent_row(f"expand_{name}", variable, SIZES[variable], costs, AIMS[what])


def jobs(device: str) -> dict[tuple[str, ...], Measure]:
    """The measurements for any kind of device, by the names of their rows."""
    return {(f"expand_{row}",): partial(measure, row) for row in ROWS}


if __name__ == "__main__":
    run_script(jobs, threads=(1,))
