"""What scripts of the speed table share: timing in turns, a row, and the command line."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch

from sdewm.base.checks import check_device

BenchRow = dict[str, float | str | None]
Measure = Callable[[torch.device], Iterator[BenchRow]]


def now(device: torch.device) -> float:
    """The time in seconds, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """How long a call takes.

    >>> seconds(lambda: time.sleep(0.01), torch.device("cpu")) >= 0.01
    True
    """
    start = now(device)
    run()
    return now(device) - start


def in_turns(
    runs: Mapping[str, Callable[[], object]], device: torch.device, rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each run in every round, A B C A B C …, after untimed rounds.

    Ratios of neighbouring runs do not see a machine that becomes slower meanwhile.
    """
    for _ in range(warm_up):
        for run in runs.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return times


def bench_row(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    ratios: Sequence[float] = (),
    baseline: str = "",
    aim: str = "",
) -> BenchRow:
    """A row of the table: medians, and the least and largest ratio, or value where there is none.

    >>> row = bench_row("copy", [3.0, 1.0, 2.0], "ms", baseline="batch of 16")
    >>> row["value"], row["ratio"], row["low"], row["high"]
    (2.0, None, 1.0, 3.0)
    """
    return {
        "name": name,
        "value": statistics.median(values),
        "unit": unit,
        "baseline": baseline,
        "ratio": statistics.median(ratios) if ratios else None,
        "low": min(ratios or values),
        "high": max(ratios or values),
        "aim": aim,
    }


def exponent_row(
    name: str, variable: str, sizes: Sequence[int], costs: Sequence[Sequence[float]], aim: str
) -> BenchRow:
    """A row with the exponent p of cost ~ sizeᵖ, fitted to the logarithms once per round.

    Args:
        name: of the row.
        variable: what the sizes are.
        sizes: of the runs.
        costs: one for each size, in every round.
        aim: of the exponent.

    >>> row = exponent_row("copy", "bytes", (1, 2, 4), [[3.0, 6.0, 12.0]], "<= 1.1")
    >>> round(row["value"], 6), row["baseline"]
    (1.0, 'bytes 1, 2, 4')
    """
    logarithms = [math.log(size) for size in sizes]
    fits = [
        statistics.linear_regression(logarithms, [math.log(cost) for cost in row]).slope
        for row in costs
    ]
    baseline = f"{variable} {', '.join(map(str, sizes))}"
    return bench_row(name, fits, "exponent", baseline=baseline, aim=aim)


def run_script(
    jobs: Callable[[str], Mapping[tuple[str, ...], Measure]],
    threads: Sequence[int],
    arguments: Sequence[str] | None = None,
    one_thread: Collection[str] = (),
) -> None:
    """The command line of a script: `--list` its rows, or measure those named, as JSON lines.

    Args:
        jobs: given the kind of device, what is measured together, by the names of the rows.
        threads: numbers of threads with which the rows are measured on a CPU.
        arguments: the command line; None: that of the process.
        one_thread: rows that are measured with one thread only.
    """
    parser = argparse.ArgumentParser(description="Measure rows of figures/data/bench.csv.")
    parser.add_argument("names", nargs="*", help="rows")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--threads", type=int, default=1, help="threads to compute with")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    given = parser.parse_args(arguments)
    some = jobs(given.device.split(":")[0])
    if given.list:
        for name in (name for names in some for name in names):
            print(json.dumps({"name": name, "threads": [1] if name in one_thread else [*threads]}))
        return
    device = check_device(given.device)
    torch.set_num_threads(given.threads)
    for names, measure in some.items():
        if set(names) & set(given.names):
            for row in measure(device):
                if row["name"] in given.names:
                    print(json.dumps(row, ensure_ascii=False), flush=True)
