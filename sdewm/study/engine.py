"""Training and measuring the cells of a study, in processes of their own, resumable at any time.

Rows are appended to one CSV file as cells finish; a cell is finished when all its end points are
there under the study's digest. A second call does what is missing: runs that were begun go on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO

from sdewm.base.progress import format_seconds
from sdewm.study.declaration import Cell, Study
from sdewm.study.rows import Place, append_rows, missing_cells, read_cell
from sdewm.train.signals import StopRequest

WORKER = (sys.executable, "-m", "sdewm.commands.study_cell")
ATTEMPTS, POLL_SECONDS = 2, 0.2
Line = Callable[[str], None]


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
                running[cell] = _start(place, cell)
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
                    append_rows(place.table, read_cell(place, cell))
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


def _start(place: Place, cell: Cell) -> tuple[subprocess.Popen[str], IO[str]]:
    log = place.log(cell)
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.open("a", encoding="utf-8")
    process = subprocess.Popen(
        [*WORKER, str(place.file), str(place.folder), cell.arm, str(cell.seed)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=file,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it once, from this process
    )
    return process, file
