"""`sdewm analyse RUN`: what it takes, and where its episodes come from."""

from __future__ import annotations

import sys
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sdewm.base.checks import check_choice, check_count
from sdewm.base.progress import Progress
from sdewm.data.dataset import is_complete
from sdewm.report.analyses import PARTS, analyse
from sdewm.report.trained_run import load_subject
from sdewm.train.recording import record_run
from sdewm.train.run_directory import read_run

FOLDER = "analysis"  # of a run, where nothing else is said
HELD_OUT_SEED = 30_000_001  # of recorded episodes: no run's own episodes, nor its evaluations

AnalyseRun: Any = make_dataclass(
    "AnalyseRun",
    [
        ("run", Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="Its directory.")]),
        (
            "data",
            Annotated[
                Path | None,
                tyro.conf.arg(
                    help="Episodes made by sdewm record; by default some are recorded with the "
                    "run's policy, or those are taken from which its world model learnt."
                ),
            ],
            None,
        ),
        (
            "record",
            Annotated[int, tyro.conf.arg(help="Episodes to record where no data are given.")],
            24,
        ),
        (
            "out",
            Annotated[
                Path | None, tyro.conf.arg(help="Folder of the figures; by default RUN/analysis.")
            ],
            None,
        ),
        (
            "only",
            Annotated[
                tuple[str, ...], tyro.conf.arg(help=f"Some of {', '.join(PARTS)}; default all.")
            ],
            (),
        ),
        ("seed", Annotated[int, tyro.conf.arg(help="Root seed of each analysis.")], 0),
        *(
            (name, part.settings, field(default_factory=part.settings))
            for name, part in PARTS.items()
        ),
    ],
    frozen=True,
)
AnalyseRun.__doc__ = (
    "Check the theorems on a run's world model: tables, figures, summaries on the terminal.\n\n"
    "What is finished is kept: the same command goes on where it was interrupted."
)


def analyse_run(given: Any) -> None:
    """Run the analyses that an `AnalyseRun` names.

    Raises:
        ValueError: an unknown analysis, no run, or data that do not fit it.
    """
    only = [check_choice("--only", name, PARTS) for name in given.only] or [*PARTS]
    seed = check_count("--seed", given.seed, minimum=0)
    out = given.out or given.run / FOLDER
    data = given.data or _episodes(given.run, given.record)
    subject = load_subject(given.run, data)
    settings = {name: getattr(given, name) for name in PARTS}
    for path in analyse(subject, out, settings, only, seed):
        print(path)


def _episodes(run: Path, count: int) -> Path:
    """Episodes that were not given: those of a world-model-only run, or recorded ones."""
    learnt_from = read_run(run).data
    if learnt_from is not None:
        sys.stderr.write(f"No --data: the episodes from which {run} learnt, {learnt_from}.\n")
        return learnt_from
    data = run / FOLDER / f"episodes-{check_count('--record', count, minimum=2)}"
    if not is_complete(data):
        progress = Progress("episodes", count)
        record_run(data, run, episodes=count, seed=HELD_OUT_SEED, progress=progress.update)
        progress.close()
    return data
