"""Run time of `certify`; `table_bench.py` runs this script and stores the rows.

python analysis/bench_certificates.py --list                  every name with its numbers of threads
python analysis/bench_certificates.py certify/width400        one row, as JSON

The networks are perceptrons of five SiLU layers of equal width, certified over all of Rⁿ, without
the attack. The baseline is the least cost of any product of layer norms, the singular values of the
five matrices, timed in alternation with ours. certify_growth is the exponent p of
seconds ~ widthᵖ, fitted by least squares to the logarithms (matrix products have exponent 3).
"""

import statistics
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

import sdewm
from sdewm.scripts.benchmark import (
    BenchRow,
    Measure,
    bench_row,
    exponent_row,
    in_turns,
    run_script,
)

WIDTHS = (100, 200, 400, 800)
LAYERS = 5
ROUNDS = 5
AIM_WIDTH, AIM = 400, "<= 1"
GROWTH = "certify_growth/width"


def perceptron(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [nn.Linear(width, width, dtype=torch.float64), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def singular_values(network: nn.Sequential) -> None:
    for layer in network:
        if isinstance(layer, nn.Linear):
            torch.linalg.svdvals(layer.weight.detach())


def certify(width: int, device: torch.device) -> Iterator[BenchRow]:
    """The value is our time; the ratio to the singular values is given in the baseline column."""
    network = perceptron(width)
    runs = {"ours": lambda: sdewm.certify(network), "theirs": lambda: singular_values(network)}
    times = in_turns(runs, device, ROUNDS)
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["theirs"], strict=True))
    baseline = f"{ratio:.2f} times the singular values of the {LAYERS} matrices"
    aim = AIM if width == AIM_WIDTH else ""
    yield bench_row(f"certify/width{width}", times["ours"], "s", baseline=baseline, aim=aim)


def growth(device: torch.device) -> Iterator[BenchRow]:
    runs = {str(width): partial(sdewm.certify, perceptron(width)) for width in WIDTHS}
    costs = zip(*in_turns(runs, device, ROUNDS).values(), strict=True)
    yield exponent_row(GROWTH, "width", WIDTHS, [*costs], "<= 3")


def jobs(device: str) -> dict[tuple[str, ...], Measure]:
    """The measurements, on the CPU only, by the names of their rows."""
    if device != "cpu":
        return {}
    found: dict[tuple[str, ...], Measure] = {
        (f"certify/width{width}",): partial(certify, width) for width in WIDTHS
    }
    return found | {(GROWTH,): growth}


if __name__ == "__main__":
    run_script(jobs, threads=(1, 2), one_thread=[GROWTH])
