"""Run times that the README tells; `table_bench.py` runs this script and stores the rows.

python analysis/bench_readme.py --list               the names with their threads
python analysis/bench_readme.py readme_example_1     one row, as JSON

readme_example_N    seconds of the N-th Python example, from the start of Python to its end
readme_all_terms    seconds of all terms for 10⁶ paths of the first example on one thread
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch

import sdewm
from sdewm.scripts.benchmark import BenchRow, Measure, bench_row, now, run_script, seconds
from sdewm.sde.examples import OrnsteinUhlenbeck

ROOT = Path(__file__).resolve().parents[1]
PATHS, STEPS, ROUNDS = 1_000_000, 50, 3


def examples() -> list[str]:
    """The Python code of the README, one text for each example."""
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def example(name: str, code: str, device: torch.device) -> Iterator[BenchRow]:
    """One example in processes of its own."""
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    where = os.environ | threads | {"PYTHONPATH": str(ROOT)}

    def run() -> None:
        words = [sys.executable, "-c", code]
        subprocess.run(words, check=True, capture_output=True, env=where, cwd=ROOT)

    yield bench_row(name, [seconds(run, device) for _ in range(ROUNDS)], "s")


def all_terms(name: str, device: torch.device) -> Iterator[BenchRow]:
    """All terms, without recording the step again."""
    system = OrnsteinUhlenbeck()
    error = sdewm.Perturbation(drift=system.error_drift, diffusion=system.error_diffusion)
    taken = []
    for _ in range(ROUNDS):
        start = now(device)
        result = sdewm.expand(
            system, error, system.loss, system.x0, t1=1.5, steps=STEPS, paths=PATHS
        )
        assert result.terms["c2"].standard_error > 0
        taken.append(now(device) - start)
    yield bench_row(name, taken, "s", baseline=f"{PATHS} paths, {STEPS} steps")


def jobs(kind: str) -> Mapping[tuple[str, ...], Measure]:
    """What is measured, by the names of its rows."""
    if kind != "cpu":
        return {}
    found: dict[tuple[str, ...], Measure] = {
        (name := f"readme_example_{number}",): partial(example, name, code)
        for number, code in enumerate(examples(), start=1)
    }
    return found | {("readme_all_terms",): partial(all_terms, "readme_all_terms")}


if __name__ == "__main__":
    run_script(jobs, threads=[2], one_thread=["readme_all_terms"])
