"""`sdewm evaluate`: the mean return of a run's policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.commands.parsing import parse
from sdewm.perturbations.observation import ObservationPerturbation, parse_perturbations
from sdewm.plots.tables import number_text, text_table
from sdewm.robustness.evaluation import perturbed_returns
from sdewm.train.evaluation import EVALUATION_SEED, evaluate, evaluation_row
from sdewm.train.metrics import append_evaluation
from sdewm.train.run_directory import allow_module
from sdewm.train.saved_agent import SavedAgent, trained_agent


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the policy of a run, with mean actions, at its newest valid checkpoint."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    episodes: int = 10
    """Number of evaluation episodes."""
    seed: int = EVALUATION_SEED
    """Evaluation seed; the default is the fixed seed shared by all runs."""
    perturb: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="NAME:STRENGTH,…", help_behavior_hint="(default: none)"),
    ] = ()
    """Perturbations of the observations, each beside the same episodes unperturbed, such as
    noise:0.1,0.2 noise-held:0.1 mask:0.25 shift:0.1; for images also brightness, rotation and
    occlusion. `-held`: drawn once for an episode."""
    env: Annotated[
        str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(default: none)")
    ] = None
    """Name of the run's environment, to be typed if it imports a module (gym:<module>:<id>)."""


def evaluate_run(words: list[str]) -> int:
    """Print mean returns over episodes and append them to the run's evaluation.jsonl."""
    given = parse(Evaluate, words, "evaluate")
    check_count("episodes", given.episodes, 2 if given.perturb else 1)
    check_count("seed", given.seed, minimum=0)
    perturbations = [one for word in given.perturb for one in parse_perturbations(word)]
    allow_module(given.env)
    saved = trained_agent(given.run)
    config, counters = saved.config, saved.counters
    if perturbations:
        return _evaluate_perturbed(given, saved, perturbations)
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
    append_evaluation(given.run, found)  # it may be read-only
    return 0


def _evaluate_perturbed(
    given: Evaluate, saved: SavedAgent, perturbations: Sequence[ObservationPerturbation]
) -> int:
    for one in perturbations:
        one.check_fits("images" if saved.config.obs == "pixels" else "vectors")
    progress = Progress("episodes", given.episodes * (2 + len(perturbations)))
    rows = perturbed_returns(
        saved,
        perturbations,
        episodes=given.episodes,
        seed=given.seed,
        progress=progress.update,
    )
    progress.close()
    facts = {**saved.counters, "by": "evaluate --perturb", "seed": given.seed}
    changed = {} if saved.changed is None else {"changed": saved.changed}
    for row in rows:
        append_evaluation(given.run, {**facts, "episodes": given.episodes, **row, **changed})
    header = "perturbation return interval difference interval retention mean std share".split()
    print(
        f"{saved.config.env}: {given.episodes} episodes with seed {given.seed} in each row, after "
        f"{saved.counters['env_frames']} env_frames and {saved.counters['updates']} updates; "
        "95 % t intervals over episodes, "
        "differences paired with the unperturbed episodes; mean, std and share of what changed"
    )
    print(text_table(header, [_cells(row) for row in rows], right=" ".join(header[1:])), flush=True)
    return 0


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
