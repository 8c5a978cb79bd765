"""`sdewm evaluate`: the mean return of a run's policy."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.commands.parsing import parse, say
from sdewm.perturbations.parsing import Perturbation, perturbations_of
from sdewm.plots.tables import number_text, text_table
from sdewm.robustness.acting import check_applies
from sdewm.robustness.curves import robustness_curves, worst
from sdewm.robustness.evaluation import (
    FLOOR,
    NONE,
    check_same_task,
    over_runs,
    perturbed_returns,
)
from sdewm.train.evaluation import EVALUATION_SEED, evaluate, evaluation_row
from sdewm.train.metrics import append_evaluation
from sdewm.train.run_directory import allow_module, read_run
from sdewm.train.saved_agent import SavedAgent, saved_agent, trained_agent
from sdewm.train.signals import Interrupted, StopRequest


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the policy of a run, with mean actions, at its newest valid checkpoint."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]
    """Run directories; several only with --perturb, and of the same task."""
    episodes: int = 10
    """Number of evaluation episodes."""
    seed: int = EVALUATION_SEED
    """Evaluation seed; the default is the fixed seed shared by all runs."""
    perturb: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="NAME:STRENGTH,…", help_behavior_hint="(default: none)"),
    ] = ()
    """Perturbations, each beside the same episodes unperturbed, such as noise:0.1,0.2.
    observations: noise, mask, mask-noise (each also with -held: drawn once for an episode), shift;
    of images brightness, rotation, jitter, occlusion, occlusion-noise;
    dynamics (dmc:): gravity, mass, friction, actuator (each also with -drift, -walk), delay;
    latents: latent-noise, latent-heavy, latent-scale, latent-drift;
    attacks: fgsm-posterior, pgd-posterior, fgsm-value, pgd-value;
    paper: those of the paper's tables that fit the environment.
    With obs=both, only dynamics and latents. Of two or more positive strengths of one name, the
    area under the retention is printed; sdewm.robustness.curves has tolerated strengths."""
    policy: Annotated[
        Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: the run's own)")
    ] = None
    """With --perturb: run whose agent acts on what the run's world model decodes."""
    env: Annotated[
        str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(default: none)")
    ] = None
    """Name of the run's environment, to be typed if it imports a module (gym:<module>:<id>)."""


def evaluate_run(words: list[str]) -> int:
    """Print mean returns over episodes and append them to the runs' evaluation.jsonl."""
    given = parse(Evaluate, words, "evaluate")
    if "--perturb" in words and not given.perturb:
        raise ValueError("--perturb=(): expected perturbations, such as noise:0.1,0.2.")
    check_count("episodes", given.episodes, 2 if given.perturb else 1)
    check_count("seed", given.seed, minimum=0)
    if not given.runs:
        raise ValueError("RUN: expected a run directory; see sdewm evaluate --help.")
    if not given.perturb and (len(given.runs) > 1 or given.policy is not None):
        raise ValueError("several runs, and --policy, need --perturb; noise:0 changes nothing.")
    allow_module(given.env)
    if given.perturb:
        if len({run.resolve() for run in given.runs}) < len(given.runs):
            raise ValueError("RUN: a run directory is given twice; expected different ones.")
        first, *others = (read_run(run).config for run in given.runs)
        for other in others:
            check_same_task(first, other)
        own = given.policy is None
        fits = partial(check_applies, config=first, own_policy=own)
        perturbations, left_out = perturbations_of(given.perturb, fits)
        if left_out:
            sys.stderr.write(
                f"note: of paper, {', '.join(one.label for one in left_out)} are left out, which "
                f"do not fit {first.env} with obs={first.obs!r}{'' if own else ' and --policy'}.\n"
            )
        return _evaluate_perturbed(given, perturbations)
    (run,) = tuple(given.runs)
    saved = trained_agent(run)
    config, counters = saved.config, saved.counters
    progress = Progress("episodes", given.episodes)
    episodes = evaluate(
        saved.agent.policy("mean"),
        config,
        episodes=given.episodes,
        seed=given.seed,
        progress=progress.update,
    )
    progress.close()
    returns, lengths = [one.total_reward for one in episodes], [one.length for one in episodes]
    row = evaluation_row(returns, lengths, seed=given.seed)
    spread = "" if len(returns) < 2 else f" ± {row['standard_error']:.3g} (standard error)"
    print(
        f"{config.env}: mean return {row['mean_return']:.6g}{spread} over {len(returns)} episodes "
        f"with seed {given.seed}, after {counters['env_frames']} env_frames and "
        f"{counters['updates']} updates",
        flush=True,
    )
    changed = {} if saved.changed is None else {"changed": saved.changed}
    found = {**counters, "by": "evaluate", **row, **changed}
    append_evaluation(run, found)  # it may be read-only
    return 0


def _evaluate_perturbed(given: Evaluate, perturbations: Sequence[Perturbation]) -> int:
    """Rows of each run, kept as soon as they are done, and with several runs those over all."""
    own = given.policy is None
    saved = [trained_agent(run) if own else saved_agent(run) for run in given.runs]
    actor = None if given.policy is None else trained_agent(given.policy)
    labels = [NONE, FLOOR, *(one.label for one in perturbations)]
    each = given.episodes * len(labels)
    progress = Progress("episodes", each * len(saved))
    tables: list[list[dict[str, Any]]] = [[] for _ in saved]
    stop, ended = StopRequest("Stopping: rows that are done are kept.", "Stopped."), None

    def step(done: int) -> None:
        stop.check()
        progress.update(done)

    def keep(number: int, row: dict[str, Any]) -> None:
        one = saved[number]
        facts = {**one.counters, "by": "evaluate --perturb", "seed": given.seed}
        facts |= {} if own else {"policy": str(given.policy)}
        facts |= {} if one.changed is None else {"changed": one.changed}
        tables[number].append(row)
        append_evaluation(given.runs[number], {**facts, "episodes": given.episodes, **row})

    try:
        with stop.listening():
            for number, one in enumerate(saved):
                perturbed_returns(
                    one,
                    perturbations,
                    episodes=given.episodes,
                    seed=given.seed,
                    actor=actor,
                    progress=lambda done, before=number * each: step(before + done),
                    on_row=partial(keep, number),
                )
    except Interrupted as asked:
        ended = asked
    finally:
        progress.close()
        for run, one, rows in zip(given.runs, saved, tables, strict=True):
            if rows:
                _print_rows(given, run, one, rows)
    if ended is not None:
        return say(f"Stopped by {ended}; {_missing(given, labels, tables)}", ended.exit_code)
    if len(tables) > 1:
        print(f"over {len(tables)} runs: 95 % t intervals over runs, differences paired by run")
        _print_table(over_runs(tables))
    return 0


def _missing(
    given: Evaluate, labels: Sequence[str], tables: Sequence[Sequence[Mapping[str, Any]]]
) -> str:
    """Which rows of which runs are missing, and what measures them."""
    done = min(len(rows) for rows in tables)
    missing = [
        f"{', '.join(labels[len(rows) :])} of {run}"
        for run, rows in zip(given.runs, tables, strict=True)
        if len(rows) < len(labels)
    ]
    rest = " ".join(label for label in labels[done:] if label not in (NONE, FLOOR))
    return (
        f"missing are {'; '.join(missing)}. The rows that are done are in evaluation.jsonl; the "
        "same command measures all of them again, and with --perturb "
        f"{rest} only the missing ones and the unperturbed."
    )


def _print_rows(
    given: Evaluate, run: Path, one: SavedAgent, rows: Sequence[Mapping[str, Any]]
) -> None:
    print(
        f"{run}, {one.config.env}: {given.episodes} episodes with seed {given.seed} in each "
        f"row, after {one.counters['env_frames']} env_frames and {one.counters['updates']} "
        "updates; 95 % t intervals over episodes, differences paired with the unperturbed "
        "episodes; mean, std and share of what changed"
    )
    _print_table(rows)
    _print_areas(rows)


def _print_areas(rows: Sequence[Mapping[str, Any]]) -> None:
    """Areas of the families with at least two positive strengths, and which is the least."""
    curves = [curve for curve in robustness_curves(rows) if len(curve.strengths) > 2]
    if not curves:
        return
    try:
        areas = [curve.area() for curve in curves]
    except ValueError as problem:
        print(f"no area under the returns: {problem}", flush=True)
        return
    print("area under the retention over the strengths from 0 on; 95 % bootstrap over episodes")
    cells = [
        [one.family, f"{one.strengths[-1]:g}", number_text(found.estimate, 4)]
        + [f"{number_text(found.low, 4)} … {number_text(found.high, 4)}"]
        for one, found in zip(curves, areas, strict=True)
    ]
    header = ["perturbation", "up to", "area", "interval"]
    print(text_table(header, cells, right=" ".join(header[2:])), flush=True)
    if len(curves) > 1:
        print(f"least area, each over its own strengths: {worst(curves).family}", flush=True)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    header = "perturbation return interval difference interval retention mean std share".split()
    print(text_table(header, [_cells(row) for row in rows], right=" ".join(header[1:])), flush=True)


def _cells(row: Mapping[str, Any]) -> list[str]:
    def number(name: str) -> str:
        return number_text(row.get(name), 4)

    return [
        row["perturbation"],
        number("mean_return"),
        f"{number('low')} … {number('high')}",
        number("difference"),
        f"{number('difference_low')} … {number('difference_high')}" if "difference" in row else "",
        number("retention"),
        *(number(f"realised_{name}") for name in ("mean", "std", "share")),
    ]
