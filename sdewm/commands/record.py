"""`sdewm record`: datasets of recorded episodes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sdewm.base.checks import check_count
from sdewm.base.fields import Arguments
from sdewm.base.progress import Progress
from sdewm.commands.parsing import parse
from sdewm.data.rollout import RandomPolicy
from sdewm.train.config import Config, check_config
from sdewm.train.recording import record_dataset, record_run
from sdewm.train.run_directory import allow_module
from sdewm.train.sources import check_environment

OF_RANDOM_ACTIONS = ("env_kwargs", "time_limit", "obs", "action_repeat")  # a run has its own


@dataclass(frozen=True)
class Record:
    """Record a dataset of episodes, with the policy of a run or with random actions.

    The same command resumes an interrupted recording.
    """

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIRECTORY")]
    """Directory of the dataset."""
    episodes: int
    """Total number of episodes."""
    from_run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: random actions in --env)"),
    ] = None
    """Run directory; its policy acts in its environment."""
    policy: Literal["sample", "mean"] = "sample"
    """Actions of the run's policy: sampled as in training, or its mean."""
    env: Annotated[
        str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(required without --from-run)")
    ] = None
    """Environment for random actions: dmc:<domain>_<task>, gym:<id> or own:<name>.
    With --from-run, the name of its environment if it imports a module (gym:<module>:<id>)."""
    env_kwargs: Arguments = field(default_factory=dict)
    """Arguments of the constructor of --env; --env-kwargs.NAME VALUE gives one."""
    time_limit: int | None = None
    """Simulator steps after which an episode of --env is cut off."""
    obs: Literal["proprio", "positions", "pixels", "both"] = "proprio"
    """Observations recorded with random actions: vectors, images of 64 × 64 pixels, or both."""
    action_repeat: int = 2
    """Simulator steps (env_frames) per policy step, with random actions."""
    seed: int = 0
    """Seed of the episodes and actions."""


def record(words: list[str]) -> int:
    """Record the episodes and print what the dataset holds."""
    given = parse(Record, words, "record")
    typed = given.env if given.env is not None and given.env.count(":") > 1 else None
    if given.from_run is None:
        wrong = given.env is None
    else:  # an environment that imports a module is typed also for a run
        wrong = given.env is not None and typed is None
    if wrong:
        raise ValueError("give either --from-run DIR (its policy) or --env NAME (random actions).")
    _check_used(given)
    allow_module(typed)
    progress = Progress("episodes", check_count("episodes", given.episodes))
    seed = check_count("seed", given.seed, minimum=0)
    how: dict[str, Any] = {"episodes": given.episodes, "seed": seed, "progress": progress.update}
    if given.from_run is not None:
        dataset = record_run(given.data, given.from_run, mode=given.policy, **how)
    else:
        assert given.env is not None
        own = {name: getattr(given, name) for name in ("env", *OF_RANDOM_ACTIONS)}
        config = replace(Config(), envs=1, **own)
        check_config(config)
        _, actions = check_environment(config)
        dataset = record_dataset(
            given.data,
            lambda seed: RandomPolicy(actions, seed),
            config,
            policy_name="random",
            **how,
        )
    progress.close()
    env = dataset.facts["env"]
    print(f"{given.data}: {dataset.episodes} episodes, {dataset.rows} rows of {env}")
    return 0


def _check_used(given: Record) -> None:
    """Refuse settings that would change nothing."""
    plain = Record(given.data, given.episodes)
    unused = ("policy",) if given.from_run is None else OF_RANDOM_ACTIONS
    for name in unused:
        if getattr(given, name) != getattr(plain, name):
            why = "random actions have no policy"
            if given.from_run is not None:
                why = f"episodes of {given.from_run} have its own"
            raise ValueError(f"--{name.replace('_', '-')}: {why}; leave it out.")
