"""`sdewm study`: train and measure the cells of a declared study, and report its verdicts."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sdewm.base.checks import check_count, check_device
from sdewm.commands import study_cell
from sdewm.commands.parsing import FAILURE, parse, say
from sdewm.study.engine import LocalPool, Pool, run_study
from sdewm.study.episodes import require_episodes, require_same_episodes
from sdewm.study.ray_pool import RayPool
from sdewm.study.rows import Place, expected_cost, missing_cells, read_rows
from sdewm.study.runs import require_declared_runs
from sdewm.study.study_file import read_study
from sdewm.study.verdicts import report
from sdewm.train.run_directory import allow_module, locked
from sdewm.train.signals import Interrupted, StopRequest


@dataclass(frozen=True)
class StudyWords:
    """Train and measure what is missing of a study declared in a TOML file, then report."""

    study: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STUDY.toml")]
    """File of the declaration (see sdewm/study/study_file.py)."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/studies/NAME)")
    ] = None
    """Directory of runs, logs and rows.csv."""
    jobs: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: one per core)")
    ] = None
    """Cells trained at a time, one thread each."""
    ray: Annotated[
        str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="(default: this machine)")
    ] = None
    """Train the cells on a Ray cluster instead (pip install 'sdewm[ray]'): auto, local or
    ray://host:port."""
    plan: bool = False
    """Only list the cells, done and missing."""
    report: bool = False
    """Only report the rows that are there."""


def study(words: list[str]) -> int:
    """Run a study; a second call does what is missing."""
    given = parse(StudyWords, words, "study")
    declared = read_study(given.study)
    allow_module(declared.env or None)
    folder = given.out or Path("runs") / "studies" / declared.name
    place = Place(folder, declared.digest, given.study)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = check_count("jobs", (cores or 1) if given.jobs is None else given.jobs)
    if given.plan:
        missing = missing_cells(declared, place)
        for cell in declared.cells:
            print(f"{'missing' if cell in missing else 'done   '}  {cell.name}")
        print(f"{len(missing)} of {len(declared.cells)} cells of {declared.length} missing")
        print(expected_cost(place, declared.cells, missing))
        try:
            require_episodes(declared, read_rows(declared, place))
            require_declared_runs(declared, place)
        except ValueError as problem:
            print(f"it would not start here: {problem}")
        return 0
    failed: list[str] = []
    if not given.report:
        require_episodes(declared, read_rows(declared, place))
        stop = StopRequest()
        for device in sorted({declared.config(cell).device for cell in declared.cells}):
            check_device(device)
        require_declared_runs(declared, place)
        folder.mkdir(parents=True, exist_ok=True)
        with stop.listening(), locked(folder, "out"):
            try:
                pool: Pool = LocalPool(place, jobs)
                if given.ray is not None:
                    pool = RayPool(place, given.ray, study_cell.main)
                failed = run_study(
                    declared, place, pool, stop, lambda line: print(line, file=sys.stderr)
                )
            except Interrupted as ended:
                again = f"sdewm study {given.study}"
                return say(f"Stopped by {ended}; {again} goes on with the rest.", ended.exit_code)
    rows = read_rows(declared, place)
    require_same_episodes(rows, place.table)
    print(report(declared, rows), flush=True)
    if failed:
        return say(f"failed: {', '.join(failed)}", FAILURE)
    return 0
