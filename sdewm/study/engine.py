"""Training and measuring the cells of a study, in processes of their own, resumable at any time.

Rows are appended to one CSV file as cells finish; a cell is finished when all its end points are
there under the study's digest. A second call does what is missing: runs that were begun go on.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sdewm.base.progress import format_seconds
from sdewm.base.records import code_commit
from sdewm.study.declaration import Cell, Study
from sdewm.study.end_points import measure
from sdewm.train.signals import StopRequest

COLUMNS = (
    *("study", "digest", "arm", "seed", "updates", "end_point", "value", "standard_error"),
    *("commit", "command"),
)
TRAINER = (sys.executable, "-m", "sdewm.cli")
ATTEMPTS, POLL_SECONDS = 2, 0.2
Line = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where a study keeps its runs and its rows."""

    folder: Path
    digest: str  # of the declaration: runs of another one are never taken for its own

    @property
    def table(self) -> Path:
        """The CSV file of all rows."""
        return self.folder / "rows.csv"

    def run(self, cell: Cell) -> Path:
        """The run directory of a cell."""
        return self.folder / self.digest / cell.name

    def log(self, cell: Cell) -> Path:
        """What the training of a cell printed."""
        return self.folder / self.digest / f"{cell.name}.log"


def read_rows(study: Study, place: Place) -> list[dict[str, str]]:
    """The rows of this declaration; a last line that was cut off is left out."""
    if not place.table.exists():
        return []
    text = place.table.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.DictReader(whole.splitlines()))
    return [row for row in rows if row["digest"] == study.digest]


def missing_cells(study: Study, place: Place) -> list[Cell]:
    """The cells without all their end points."""
    found = {(row["arm"], row["seed"], row["end_point"]) for row in read_rows(study, place)}
    return [
        cell
        for cell in study.cells
        if any((cell.arm, str(cell.seed), name) not in found for name in study.end_points)
    ]


def run_study(study: Study, place: Place, jobs: int, stop: StopRequest, say: Line) -> list[str]:
    """Train and measure what is missing.

    Args:
        study: the declaration.
        place: where runs and rows are.
        jobs: cells trained at a time, one thread each.
        stop: request to stop; the runs in progress save first.
        say: takes a line for every cell that ends.

    Returns:
        The cells that failed twice, with the place of their log.

    Raises:
        Interrupted: the study was asked to stop.
    """
    waiting = missing_cells(study, place)
    total, start, failed = len(waiting), time.monotonic(), []
    say(f"{len(study.cells) - total} of {len(study.cells)} cells are done; {jobs} at a time")
    attempts: dict[Cell, int] = {}
    running: dict[Cell, tuple[subprocess.Popen[str], IO[str]]] = {}
    try:
        while waiting or running:
            stop.check()
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                attempts[cell] = attempts.get(cell, 0) + 1
                running[cell] = _start(study, place, cell)
            for cell, (process, log) in [*running.items()]:
                if process.poll() is None:
                    continue
                log.close()
                del running[cell]
                if process.returncode and attempts[cell] < ATTEMPTS:
                    say(f"{cell.name}: exit code {process.returncode}, tried again")
                    waiting.append(cell)
                    continue
                text = "done"
                if process.returncode:
                    failed.append(f"{cell.name} (see {place.log(cell)})")
                    text = f"failed, exit code {process.returncode}"
                else:
                    append_rows(place.table, _measured(study, place, cell))
                ended = total - len(waiting) - len(running)
                passed = time.monotonic() - start
                left = format_seconds(passed / ended * (total - ended))
                say(f"[{ended}/{total}] about {left} left · {cell.name}: {text}")
            time.sleep(POLL_SECONDS)
    finally:
        for process, _ in running.values():
            process.send_signal(signal.SIGINT)
        for process, log in running.values():
            process.wait()
            log.close()
    return failed


def _start(study: Study, place: Place, cell: Cell) -> tuple[subprocess.Popen[str], IO[str]]:
    run, log = place.run(cell), place.log(cell)
    begun = (run / "config.json").exists()
    words = ["resume", str(run)] if begun else study.words(cell, run)
    for folder in (log.parent, run.parent):
        folder.mkdir(parents=True, exist_ok=True)
    file = log.open("a", encoding="utf-8")
    process = subprocess.Popen(
        [*TRAINER, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=file,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it once, from this process
    )
    return process, file


def _measured(study: Study, place: Place, cell: Cell) -> list[dict[str, object]]:
    run = place.run(cell)
    found = measure(run, Path(study.test_data), study.end_points)
    return [
        {
            "study": study.name,
            "digest": study.digest,
            "arm": cell.arm,
            "seed": cell.seed,
            "updates": study.updates,
            "end_point": name,
            "value": repr(one.value),
            "standard_error": repr(one.standard_error),
            "commit": code_commit(),
            "command": " ".join(["sdewm", *study.words(cell, run)]),
        }
        for name, one in zip(study.end_points, found, strict=True)
    ]


def append_rows(table: Path, rows: Iterable[dict[str, object]]) -> None:
    """Append rows in one write and flush them; a line that was cut off before is removed."""
    table.parent.mkdir(parents=True, exist_ok=True)
    text = table.read_text("utf-8") if table.exists() else ""
    if text and not text.endswith("\n"):
        table.write_text(text[: text.rfind("\n") + 1], "utf-8")
    new = not table.exists() or not text
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())


def arms_of(rows: Sequence[dict[str, str]], arm: str, end_point: str) -> dict[int, float]:
    """Values of an arm by seed."""
    return {
        int(row["seed"]): float(row["value"])
        for row in rows
        if row["arm"] == arm and row["end_point"] == end_point
    }
