"""Run claims with negative controls and reruns, in one single-threaded process per core."""

from __future__ import annotations

import io
import math
import os
import runpy
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from paper_checks.findings import NEAR, Finding, Settings
from paper_checks.ledger import Claim
from paper_checks.negative_controls.expansions import identity
from sdewm.base.records import ROOT
from sdewm.base.stats import Estimate
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict, needs_paths

COLOUR_OF = {FAILS: "red", HOLDS: "green", UNDECIDED: "undecided"}
MOST_PROCESSES = 8  # with more, each has too little work


@dataclass(frozen=True)
class Figure:
    """A script of analysis/ with the options given by the user.

    It runs in the process that draws it, which has already imported what all scripts need.
    """

    script: Path
    options: tuple[str, ...]

    @property
    def id(self) -> str:
        """Name of the script."""
        return self.script.stem

    def run(self) -> str:
        """Run the script; return the empty string, or the error message."""
        said = io.StringIO()
        words = [str(self.script.relative_to(ROOT)), *self.options]
        with chdir(ROOT), redirect_stdout(said), redirect_stderr(said), _command(words):
            try:
                runpy.run_path(words[0], run_name="__main__")
            except SystemExit as end:
                if end.code not in (None, 0):
                    return said.getvalue().strip()[-2000:] or str(end.code)
            except Exception as error:
                return f"{type(error).__name__}: {error}"
        return ""


@contextmanager
def _command(words: list[str]) -> Iterator[None]:
    """Set the command line that a script reads and records."""
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before


def run_claim(claim: Claim, settings: Settings) -> dict[str, Any]:
    """Check one claim and its negative control; return the row of the ledger."""
    start = time.perf_counter()
    more = replace(settings, paths=4 * settings.paths, seed=settings.seed + 1)
    first = finding = _finding(claim, settings, identity)
    if again := is_near(first):
        finding = _finding(claim, more, identity)
        reason = f"{finding.verdict.reason} (rerun; first run: {first.verdict.reason})"
        finding = replace(finding, verdict=Verdict(finding.verdict.outcome, reason))
    control = _finding(claim, settings, claim.control)
    if needs_paths(control.verdict):
        control = _finding(claim, more, claim.control)
    colour = COLOUR_OF[control.verdict.outcome]
    verdict = finding.verdict
    if verdict.outcome == HOLDS and colour != "red":
        reason = f"the negative control is {colour}, so the check has no power: "
        verdict = Verdict(FAILS, reason + control.verdict.reason)
    return {
        "id": claim.id,
        "mark": claim.mark,
        "measured": finding.measured.value,
        "standard_error": finding.measured.standard_error,
        "predicted": finding.predicted,
        "verdict": verdict.outcome,
        "negative_control": colour,
        "seconds": round(time.perf_counter() - start, 2),
        "quantity": finding.quantity,
        "tightness": None if math.isnan(finding.tightness) else finding.tightness,
        "sharp": finding.sharp,
        "used": finding.share,
        "false_alarm": first.false_alarm,
        "first_measured": first.measured.value if again else None,
        "first_error": first.measured.standard_error if again else None,
        "reason": verdict.reason,
    }


def is_near(finding: Finding) -> bool:
    """Whether a claim is checked again, with four times the paths and another seed (rule b).

    So is what Monte Carlo refutes or leaves open for want of paths, and what holds with more than
    the share NEAR of what is allowed used up by a comparison with sampling errors.
    """
    if needs_paths(finding.verdict):
        return True
    sampled = finding.false_alarm > 0
    refuted = finding.verdict.outcome == FAILS and finding.measured.standard_error > 0
    return refuted or (sampled and finding.verdict.outcome == HOLDS and finding.share > NEAR)


def _finding(claim: Claim, settings: Settings, mutate: Any) -> Finding:
    try:
        return claim.run(settings, mutate)
    except Exception as error:  # one broken check must not stop the others
        # A control that cannot run proves nothing.
        outcome = FAILS if mutate is identity else UNDECIDED
        verdict = Verdict(outcome, f"{type(error).__name__}: {error}")
        return Finding("none", Estimate(float("nan"), float("nan")), float("nan"), verdict)


def count_processes(tasks: int, device: str) -> int:
    """Number of processes: one per available core, or two if they share a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(tasks, MOST_PROCESSES if device == "cpu" else 2, cores or 1)


def run_tasks(
    claims: Sequence[Claim], figures: Sequence[Figure], settings: Settings
) -> Iterator[tuple[Claim | Figure, Any]]:
    """Yield (claim, row) and (figure, error message or "") as finished; long tasks start first.

    Each claim is computed by one thread, so that its row does not depend on the number of
    processes. An interruption ends all processes.
    """
    tasks = longest_first(claims, figures)
    processes = count_processes(len(tasks), settings.device)
    if processes <= 1:
        torch.set_num_threads(1)
        yield from ((task, _run(task, settings)) for task in tasks)
        return
    context = get_context("spawn")  # a forked process cannot use CUDA or threads of its parent
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare)
    try:
        submitted = {executor.submit(_run, task, settings): task for task in tasks}
        for future in as_completed(submitted):
            yield submitted[future], future.result()
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in active_children():
            child.terminate()
        raise
    executor.shutdown()


def longest_first(claims: Sequence[Claim], figures: Sequence[Figure]) -> list[Claim | Figure]:
    """Long claims, figures, other claims: all processes then end at about one time."""
    long = [claim for claim in claims if claim.long]
    return [*long, *figures, *(claim for claim in claims if not claim.long)]


def _run(task: Claim | Figure, settings: Settings) -> Any:
    return task.run() if isinstance(task, Figure) else run_claim(task, settings)


def _prepare() -> None:
    """Set up a worker: one thread; the parent handles interruptions and progress.

    A worker ends with its parent, however the parent ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None
    Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    torch.set_num_threads(1)
    sys.stderr = io.StringIO()


def _end_with(sentinel: int) -> None:
    """End this process when another has ended."""
    wait([sentinel])
    os._exit(1)
