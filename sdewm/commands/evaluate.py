"""`sdewm evaluate`: the mean return of a run's policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.commands.parsing import parse
from sdewm.train.evaluation import EVALUATION_SEED, evaluate, evaluation_row
from sdewm.train.metrics import append_evaluation
from sdewm.train.run_directory import allow_module
from sdewm.train.saved_agent import trained_agent


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the policy of a run, with mean actions, at its newest valid checkpoint."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    episodes: int = 10
    """Number of evaluation episodes."""
    seed: int = EVALUATION_SEED
    """Evaluation seed; the default is the fixed seed shared by all runs."""
    env: Annotated[
        str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(default: none)")
    ] = None
    """Name of the run's environment, to be typed if it imports a module (gym:<module>:<id>)."""


def evaluate_run(words: list[str]) -> int:
    """Print the mean return over episodes and append it to the run's evaluation.jsonl."""
    given = parse(Evaluate, words, "evaluate")
    check_count("episodes", given.episodes)
    check_count("seed", given.seed, minimum=0)
    allow_module(given.env)
    saved = trained_agent(given.run)
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
    append_evaluation(given.run, found)  # it may be read-only
    return 0
