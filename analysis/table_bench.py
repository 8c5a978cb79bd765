"""Benchmarks of speed and memory, as ratios to baselines; written to figures/data/bench.csv.

python analysis/table_bench.py                          every row, some minutes on two cores
python analysis/table_bench.py --only normal 'ou_*_vs_loop/*'     substrings or patterns of names
python analysis/table_bench.py --list                   the names

The rows are measured by the scripts bench_*.py in this folder, in a separate process for each
number of threads. A row is written as soon as it is measured and replaces the row of the same name;
other rows are not changed. A ratio is the median over neighbouring runs, with minimum `low` and
maximum `high`: the baseline's time over ours for an aim ">=", ours over the baseline's for "<=".
`value` is our time or memory alone; without a ratio, `low` and `high` refer to the value. The
results are reliable only if no other work runs on the machine.
"""

import argparse
import difflib
import fnmatch
import functools
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from sdewm.base.records import Row, code_commit, read_table, write_table
from sdewm.plots.tables import number_text, text_table

HERE = Path(__file__).resolve().parent
TABLE = HERE.parent / "figures" / "data" / "bench.csv"
COLUMNS = "name value unit baseline ratio low high aim machine commit".split()
Job = tuple[Path, int]  # a script and a number of threads


@functools.cache
def listing(device: str) -> dict[str, Job]:
    """The full names of all rows for this device, each with its script and number of threads."""
    jobs = {}
    scripts = sorted(HERE.glob("bench_*.py"))
    with ThreadPoolExecutor() as pool:  # each takes seconds to import what it measures
        printed = pool.map(lambda script: [*run(script, "--list", "--device", device)], scripts)
    for script, lines in zip(scripts, printed, strict=True):
        for row in map(json.loads, lines):
            for threads in row["threads"] if device == "cpu" else row["threads"][:1]:
                jobs[row["name"] + ending(threads, device)] = (script, threads)
    return jobs


def ending(threads: int, device: str) -> str:
    return f"/threads{threads}" if device == "cpu" else f"/{device.replace(':', '')}"


def select(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that contain or match one of the patterns; all names if there is no pattern."""
    chosen = set() if patterns else set(names)
    for pattern in patterns:
        matched = [n for n in names if pattern in n or fnmatch.fnmatchcase(n, pattern)]
        if not matched:
            near = difflib.get_close_matches(pattern, [n.split("/")[0] for n in names], 1, 0.0)
            near = difflib.get_close_matches(pattern, names, 1) or near
            raise SystemExit(f"--only {pattern}: no such row; did you mean {near[0]}?")
        chosen.update(matched)
    return [name for name in names if name in chosen]


def run(script: Path, *words: str, threads: int = 1) -> Iterator[str]:
    """The lines that a script prints, as it prints them."""
    here = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(HERE.parent), *([here] if here else [])])
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
    command = [sys.executable, str(script), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode:
        print(f"{script.name} {' '.join(words)}: exit code {process.returncode}", file=sys.stderr)


def measure(jobs: dict[str, Job], names: Sequence[str], device: str) -> Iterator[dict]:
    for script, threads in dict.fromkeys(jobs[name] for name in names):
        tail = ending(threads, device)
        mine = [name.removesuffix(tail) for name in names if jobs[name] == (script, threads)]
        options = ["--threads", str(threads), "--device", device]
        for line in run(script, *options, *mine, threads=threads):
            row = json.loads(line)
            yield row | {"name": row["name"] + tail}


def keep(row: Row, path: Path) -> None:
    """Replace the row of the same name in the table, or append the row."""
    rows: list[Row] = list(read_table(path)[0]) if path.exists() else []
    place = [other["name"] for other in [*rows, row]].index(row["name"])
    rows[place : place + 1] = [row]
    aside = path.with_name(path.name + ".part")
    write_table(aside, rows, {})  # machine and commit are columns
    os.replace(aside, path)  # atomic: the earlier rows are on disk at all times


def verdict(row: Row) -> str:
    """Whether the median meets the aim."""
    aim = re.fullmatch(r"([<>])= (\S+)", str(row["aim"] or ""))
    if aim is None:
        return ""
    measured = row["value"] if row["ratio"] is None else row["ratio"]
    assert isinstance(measured, (int, float))
    met = measured >= float(aim[2]) if aim[1] == ">" else measured <= float(aim[2])
    return "met" if met else "MISSED"


def printed(rows: Sequence[Row]) -> str:
    def cells(row: Row) -> list[str]:
        ratio = number_text(row["ratio"], 3)  # type: ignore[arg-type]
        low, high = (number_text(row[key], 3) for key in ("low", "high"))  # type: ignore[arg-type]
        value = f"{number_text(row['value'], 3)} {row['unit']}"  # type: ignore[arg-type]
        aim = str(row["aim"] or "")
        return [str(row["name"]), value, ratio, f"{low} … {high}", aim, verdict(row)]

    header = ["name", "value", "ratio", "low … high", "aim", "verdict"]
    return text_table(header, [cells(row) for row in rows], right="value ratio")


def machine(device: str) -> str:
    """Processor, vector instructions and cores, or the accelerator, and the version of torch."""
    import torch

    torch_version = f"torch {version('torch')}"
    if device != "cpu":
        return f"{torch.cuda.get_device_name(device)}, {torch_version}"
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    vectors = torch.backends.cpu.get_cpu_capability()  # processors of one name differ in them
    return f"{name}, {vectors}, {os.cpu_count()} cores, {torch_version}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="substrings or patterns of row names")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and exit")
    parser.add_argument("--device", default="cpu", help="device measured: cpu (default) or cuda")
    parser.add_argument("--table", type=Path, default=TABLE, help="CSV file of the results")
    given = parser.parse_args(arguments)
    jobs = listing(given.device)
    names = select(list(jobs), given.only)
    if given.list:
        print("\n".join(names))
        return
    if os.getloadavg()[0] > 0.3:
        print("other processes use this machine: timings may be inaccurate", file=sys.stderr)
    rows = []
    places = {"machine": machine(given.device), "commit": code_commit()}
    for row in measure(jobs, names, given.device):
        rows.append({column: (row | places)[column] for column in COLUMNS})
        keep(rows[-1], given.table)
        print(f"{len(rows)}/{len(names)} {row['name']}", file=sys.stderr, flush=True)
    print(printed(rows) if rows else "no row was measured")
    if len(rows) < len(names):
        missing = set(names) - {row["name"] for row in rows}
        raise SystemExit(f"not measured: {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main()
