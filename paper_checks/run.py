"""Running claims: one process per core, one thread each; rows, negative controls and reruns."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch

from paper_checks.findings import Finding, Settings
from paper_checks.ledger import Claim
from paper_checks.negative_controls.expansions import identity
from sdewm.base.records import ROOT
from sdewm.base.stats import Estimate
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict

COLOUR_OF = {FAILS: "red", HOLDS: "green", UNDECIDED: "undecided"}
MOST_PROCESSES = 8  # beyond, each has too little to do


@dataclass(frozen=True)
class Figure:
    """One script of analysis/ with the options that the user gave."""

    script: Path
    options: tuple[str, ...]

    @property
    def id(self) -> str:
        """The name of the script."""
        return self.script.stem

    def run(self) -> str:
        """Draw; the empty string, or what went wrong."""
        words = [sys.executable, str(self.script.relative_to(ROOT)), *self.options]
        places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        return "" if result.returncode == 0 else result.stderr.strip()[-2000:] or "no message"


def run_claim(claim: Claim, settings: Settings) -> dict[str, Any]:
    """Check one claim and its negative control; the row of the ledger."""
    start = time.perf_counter()
    finding = _finding(claim, settings, identity)
    if finding.verdict.outcome == FAILS and finding.measured.standard_error > 0:
        # Rule (b): a Monte Carlo failure is decided by one rerun with a fresh seed and 4 × paths.
        more = replace(settings, paths=4 * settings.paths, seed=settings.seed + 1)
        again = _finding(claim, more, identity)
        reason = f"{again.verdict.reason} (rerun; first run: {finding.verdict.reason})"
        finding = replace(again, verdict=Verdict(again.verdict.outcome, reason))
    control = _finding(claim, settings, claim.control)
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
        "reason": verdict.reason,
    }


def _finding(claim: Claim, settings: Settings, mutate: Any) -> Finding:
    try:
        return claim.run(settings, mutate)
    except Exception as error:  # one broken check must not take the others with it
        # A control that cannot run shows nothing.
        outcome = FAILS if mutate is identity else UNDECIDED
        verdict = Verdict(outcome, f"{type(error).__name__}: {error}")
        return Finding("none", Estimate(float("nan"), float("nan")), float("nan"), verdict)


def count_processes(tasks: int, device: str) -> int:
    """One process per core that this process may use; two where they share a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(tasks, MOST_PROCESSES if device == "cpu" else 2, cores or 1)


def run_tasks(
    claims: Sequence[Claim], figures: Sequence[Figure], settings: Settings
) -> Iterator[tuple[Claim | Figure, Any]]:
    """Yield (claim, row) and (figure, problem or "") as they are finished.

    Each claim is computed by one thread, so that its row does not depend on how many run at once.
    On an interruption what runs is ended, and nothing is left behind.
    """
    processes = count_processes(len(claims) + len(figures), settings.device)
    if processes <= 1:
        torch.set_num_threads(1)
        yield from ((claim, run_claim(claim, settings)) for claim in claims)
        yield from ((figure, figure.run()) for figure in figures)
        return
    context = get_context("spawn")  # a forked process may not use CUDA, or threads of the parent
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare)
    try:
        yield from _submit_all(executor, claims, figures, settings)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in active_children():
            child.terminate()
        raise
    executor.shutdown()


def _submit_all(
    executor: Executor, claims: Sequence[Claim], figures: Sequence[Figure], settings: Settings
) -> Iterator[tuple[Claim | Figure, Any]]:
    tasks: dict[Any, Claim | Figure] = {}
    for claim in claims:
        tasks[executor.submit(run_claim, claim, settings)] = claim
    for figure in figures:
        tasks[executor.submit(Figure.run, figure)] = figure
    for future in as_completed(tasks):
        yield tasks[future], future.result()


def _prepare() -> None:
    """A worker: one thread; interruptions and progress are the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    sys.stderr = io.StringIO()
