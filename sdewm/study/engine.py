"""Training and measuring the cells of a study on a pool of workers, resumable at any time.

Rows are appended to one CSV file as cells finish; a cell is finished when all its end points are
there under the study's digest. A second call does what is missing: runs that were begun go on.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol

from sdewm.base.progress import format_seconds
from sdewm.study.declaration import Cell, Study
from sdewm.study.rows import Place, Row, append_rows, missing_cells, read_cell
from sdewm.train.signals import StopRequest

WORKER = (sys.executable, "-m", "sdewm.commands.study_cell")
ATTEMPTS, POLL_SECONDS = 2, 0.2
Line = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """A cell that ended: its rows, or why it has none."""

    cell: Cell
    rows: list[Row] = field(default_factory=list)
    problem: str = ""


class Pool(Protocol):
    """Where cells are trained and measured."""

    def capacity(self) -> int:
        """Number of cells that can run now."""
        ...

    def start(self, cell: Cell) -> None:
        """Begin a cell, or go on with it."""
        ...

    def ended(self) -> list[Ended]:
        """The cells that ended since the last call."""
        ...

    def stop(self) -> list[Ended]:
        """Stop all cells, after they have saved.

        Returns:
            The cells that ended since the last call of `ended`: one at its end may have finished.
        """
        ...


class LocalPool:
    """Processes of this machine, one thread each.

    Args:
        place: where the study is.
        jobs: number of cells at a time.
    """

    def __init__(self, place: Place, jobs: int) -> None:
        self.place, self.jobs = place, jobs
        self.running: dict[Cell, tuple[subprocess.Popen[str], IO[str]]] = {}

    def capacity(self) -> int:
        """Number of cells that can run now."""
        return self.jobs

    def start(self, cell: Cell) -> None:
        """Begin a cell, or go on with it."""
        log = self.place.log(cell)
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("a", encoding="utf-8")
        process = subprocess.Popen(
            [*WORKER, str(self.place.file), str(self.place.folder), cell.arm, str(cell.seed)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C reaches it once, from this process. In a session of its own, Linux would
            # not compare its niceness with that of other programs (sched(7), autogroup).
            process_group=0,
        )
        self.running[cell] = process, file

    def ended(self) -> list[Ended]:
        """The cells that ended since the last call."""
        found = []
        for cell, (process, log) in [*self.running.items()]:
            if process.poll() is None:
                continue
            log.close()
            del self.running[cell]
            if process.returncode:
                why = f"exit code {process.returncode}, see {self.place.log(cell)}"
                found.append(Ended(cell, problem=why))
            else:
                found.append(Ended(cell, read_cell(self.place, cell)))
        return found

    def stop(self) -> list[Ended]:
        """Stop all cells, after they have saved; see `Pool`."""
        for process, _ in self.running.values():
            process.send_signal(signal.SIGINT)
        for process, _ in self.running.values():
            process.wait()
        return self.ended()


def time_left(took: Sequence[float], passed: Sequence[float], waiting: int, jobs: int) -> float:
    """Seconds until all cells have ended, if each takes as long as the median of those that have.

    Args:
        took: durations of the cells that have ended; those gone on with took less.
        passed: what the running cells have taken so far.
        waiting: number of cells that have not begun.
        jobs: number of cells at a time.

    >>> time_left([600.0], [600.0], 38, 2)  # 38 cells, two at a time
    11400.0
    >>> time_left([600.0, 20.0, 620.0], [200.0], 0, 2)
    400.0
    """
    middle = statistics.median(took)
    left = [middle] * waiting + [max(middle - one, 0.0) for one in passed]
    return max(sum(left) / max(jobs, 1), *left, 0.0)


def run_study(study: Study, place: Place, pool: Pool, stop: StopRequest, say: Line) -> list[str]:
    """Train and measure what is missing.

    Args:
        study: the declaration.
        place: where runs and rows are.
        pool: what trains the cells.
        stop: request to stop; the runs in progress save first.
        say: takes a line for every cell that ends.

    Returns:
        The cells that failed twice, with the reason.

    Raises:
        Interrupted: the study was asked to stop.
    """
    waiting = missing_cells(study, place)
    total, failed = len(waiting), []
    done = len(study.cells) - total
    say(f"{done} of {len(study.cells)} cells are done; {pool.capacity()} at a time")
    attempts: dict[Cell, int] = {}
    begun: dict[Cell, float] = {}  # when each cell that is running began
    took: list[float] = []
    try:
        while waiting or begun:
            stop.check()
            while waiting and len(begun) < pool.capacity():
                cell = waiting.pop(0)
                attempts[cell] = attempts.get(cell, 0) + 1
                pool.start(cell)
                begun[cell] = time.monotonic()
            for one in pool.ended():
                now = time.monotonic()
                seconds = now - begun.pop(one.cell)
                if one.problem and attempts[one.cell] < ATTEMPTS:
                    say(f"{one.cell.name}: {one.problem}; tried again")
                    waiting.append(one.cell)
                    continue
                took.append(seconds)
                if one.problem:
                    failed.append(f"{one.cell.name} ({one.problem})")
                else:
                    append_rows(place.table, one.rows)
                ended = total - len(waiting) - len(begun)
                passed = [now - start for start in begun.values()]
                left = format_seconds(time_left(took, passed, len(waiting), pool.capacity()))
                outcome = f"failed, {one.problem}" if one.problem else "done"
                say(f"[{ended}/{total}] about {left} left · {one.cell.name}: {outcome}")
            time.sleep(POLL_SECONDS)
    finally:
        for one in pool.stop():
            if not one.problem:
                append_rows(place.table, one.rows)
                say(f"{one.cell.name}: done")
    return failed
