"""`sdewm analyse`: the theorems on the world model of a run, or of a user's file."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sdewm.base.checks import check_choice, check_count
from sdewm.base.progress import Progress
from sdewm.commands.parsing import parse
from sdewm.commands.user_function import user_function
from sdewm.data.dataset import is_complete, read_dataset
from sdewm.latent_sde.models import RSSMModel
from sdewm.report.analyse_model import model_subject
from sdewm.report.analyses import ANALYSES, check_analyses, run_analyses
from sdewm.report.subject import PlannedEpisodes, Subject
from sdewm.report.trained_run import load_trained_run
from sdewm.train.recording import record_run
from sdewm.train.run_directory import allow_module, read_run
from sdewm.train.saved_agent import trained_agent, weights_digest
from sdewm.train.sources import RECORDED

FOLDER = "analysis"  # default output folder, within the run directory
HELD_OUT_SEED = 30_000_001  # of recorded episodes, distinct from training and evaluation seeds
DECIDING = (*RECORDED, "render", "envs")  # of the configuration, on which recorded episodes depend

AnalyseRun: Any = make_dataclass(
    "AnalyseRun",
    [
        (
            "run",
            Annotated[
                tyro.conf.Positional[str],
                tyro.conf.arg(
                    metavar="RUN",
                    help="Run directory, or FILE.py:FUNCTION, which returns a world model: a "
                    "sdewm.StepModel or any other that sdewm.check_model accepts.",
                ),
            ],
        ),
        (
            "data",
            Annotated[
                Path | None,
                tyro.conf.arg(
                    metavar="DIRECTORY",
                    help="Dataset of sdewm record or sdewm import, of the run's environment.",
                    help_behavior_hint="(default: episodes recorded with the run's policy at its "
                    "newest checkpoint; for a run with --world-model-only, its training data; "
                    "required with FILE.py)",
                ),
            ],
            None,
        ),
        (
            "record",
            Annotated[
                int, tyro.conf.arg(help="Number of episodes to record if --data is not given.")
            ],
            24,
        ),
        (
            "out",
            Annotated[
                Path | None,
                tyro.conf.arg(
                    metavar="DIRECTORY",
                    help="Output folder.",
                    help_behavior_hint="(default: RUN/analysis; beside FILE.py, FILE-analysis)",
                ),
            ],
            None,
        ),
        (
            "only",
            Annotated[
                tuple[str, ...],
                tyro.conf.arg(
                    metavar="NAME ...",
                    help=f"Names of the analyses to run: {', '.join(ANALYSES)}.",
                    help_behavior_hint="(default: all)",
                ),
            ],
            tuple(ANALYSES),
        ),
        (
            "env",
            Annotated[
                str | None,
                tyro.conf.arg(
                    metavar="STR",
                    help="Name of the run's environment, to be typed if it imports a module "
                    "(gym:<module>:<id>).",
                    help_behavior_hint="(default: none)",
                ),
            ],
            None,
        ),
        ("seed", Annotated[int, tyro.conf.arg(help="Root seed of every analysis.")], 0),
        *(
            (name, analysis.settings, field(default_factory=analysis.settings))
            for name, analysis in ANALYSES.items()
        ),
    ],
    frozen=True,
)
AnalyseRun.__doc__ = (
    "Check the theorems on a world model. Every analysis produces a table, a figure and a "
    "summary.\n\nFinished analyses are cached, so the same command resumes an interrupted one."
)


def analyse_run(words: list[str]) -> int:
    """Run the selected analyses, and print their summaries and the paths of their files."""
    given = parse(AnalyseRun, words, "analyse")
    if not given.only:
        raise ValueError(f"--only: expected names after it, of {', '.join(ANALYSES)}.")
    only = [check_choice("--only", name, ANALYSES) for name in given.only]
    seed = check_count("--seed", given.seed, minimum=0)
    settings = {name: getattr(given, name) for name in ANALYSES}

    def check(planned: Subject) -> None:
        check_analyses(planned, settings, only, seed)

    subject, folder = _subject(given, check)
    for path in run_analyses(subject, given.out or folder, settings, only, seed):
        print(path)
    return 0


def _subject(given: Any, check: Callable[[Subject], None]) -> tuple[Subject, Path]:
    """The run or the model with its episodes, and the default folder of the results.

    `check` refuses settings before episodes are recorded.
    """
    file = user_function("model", given.run)
    if file is None:
        run = Path(given.run).expanduser()
        allow_module(given.env)
        data = given.data or read_run(run).data
        if data is None:
            return _recorded(run, given.record, check), run / FOLDER
        if given.data is None:
            sys.stderr.write(f"No --data given: using the training episodes of {run}, {data}.\n")
        return load_trained_run(run, data).subject, run / FOLDER
    if given.data is None:
        raise ValueError(
            f"{file.name} needs --data DIRECTORY, a dataset of sdewm record or sdewm import."
        )
    read_dataset(given.data)  # before the file is run
    subject = model_subject(file.call(), given.data, name=file.name, identity={"file": file.digest})
    return subject, file.path.with_name(f"{file.path.stem}-{FOLDER}")


def _recorded(run: Path, count: int, check: Callable[[Subject], None]) -> Subject:
    """The run with episodes of its policy, recorded unless they are there.

    Their folder has the digest of what determines them, the weights and the environment: those of
    an earlier checkpoint stay under their own name.
    """
    check_count("--record", count, minimum=2)
    saved = trained_agent(run)
    model = RSSMModel(saved.agent.world_model)
    check(Subject("", "", model, PlannedEpisodes(count, saved.config.obs), {}))
    facts = [weights_digest(saved.agent), *(getattr(saved.config, name) for name in DECIDING)]
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    data = run / FOLDER / f"episodes-{count}-{digest}"
    if not is_complete(data):
        updates = saved.counters["updates"]
        sys.stderr.write(
            f"No --data given: recording {count} episodes of {run} at {updates} updates, {data}.\n"
        )
        progress = Progress("episodes", count)
        record_run(data, run, episodes=count, seed=HELD_OUT_SEED, progress=progress.update)
        progress.close()
    return load_trained_run(run, data, saved).subject
