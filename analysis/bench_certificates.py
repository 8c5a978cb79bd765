"""Measures how long `certify` takes; `table_bench.py` runs this and keeps the rows.

python analysis/bench_certificates.py --list                  every name with its numbers of threads
python analysis/bench_certificates.py certify/width400        one row, as JSON

Perceptrons of five SiLU layers of equal width, certified over the whole space, without the attack.
The baseline is what any product of layer norms has to pay, the singular values of the five
matrices, timed in turns with ours. certify_growth is the exponent p of seconds ~ widthᵖ, fitted by
least squares to the logarithms (3 is the cost of matrix products).
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import sdewm
from sdewm.base.checks import check_device

WIDTHS = (100, 200, 400, 800)
LAYERS = 5
ROUNDS = 5
AIM_WIDTH, AIM = 400, "<= 1"
ROWS = {f"certify/width{width}": [1, 2] for width in WIDTHS} | {"certify_growth/width": [1]}


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


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def times(width: int) -> list[tuple[float, float]]:
    """Seconds of ours and of the singular values, once per round after a first one."""
    network = perceptron(width)
    runs = (lambda: sdewm.certify(network)), (lambda: singular_values(network))
    return [(seconds(runs[0]), seconds(runs[1])) for _ in range(ROUNDS + 1)][1:]


def growth() -> dict[str, float | str | None]:
    costs = {width: [ours for ours, _ in times(width)] for width in WIDTHS}
    logarithms = [math.log(width) for width in WIDTHS]
    fits = [
        statistics.linear_regression(
            logarithms, [math.log(costs[width][index]) for width in WIDTHS]
        ).slope
        for index in range(ROUNDS)
    ]
    return {
        "name": "certify_growth/width",
        "value": statistics.median(fits),
        "unit": "exponent",
        "baseline": f"width {', '.join(map(str, WIDTHS))}",
        "ratio": None,
        "low": min(fits),
        "high": max(fits),
        "aim": "<= 3",
    }


def one_width(width: int) -> dict[str, float | str | None]:
    """Ours is the value; the ratio, ours over the singular values, goes into the baseline."""
    pairs = times(width)
    ours = [mine for mine, _ in pairs]
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    return {
        "name": f"certify/width{width}",
        "value": statistics.median(ours),
        "unit": "s",
        "baseline": f"{ratio:.2f} times the singular values of the {LAYERS} matrices",
        "ratio": None,
        "low": min(ours),
        "high": max(ours),
        "aim": AIM if width == AIM_WIDTH else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure rows of figures/data/bench.csv.")
    parser.add_argument("names", nargs="*", help="rows")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--threads", type=int, default=1, help="threads to compute with")
    parser.add_argument("--device", default="cpu", help="certificates are computed on the CPU")
    given = parser.parse_args()
    if given.list:
        print("\n".join(json.dumps({"name": row, "threads": ROWS[row]}) for row in ROWS))
        return
    check_device(given.device)
    torch.set_num_threads(given.threads)
    for row in ROWS:
        if row in given.names:
            width = row.removeprefix("certify/width")
            result = one_width(int(width)) if width != row else growth()
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
