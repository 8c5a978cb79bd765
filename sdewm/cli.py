"""The command line: `sdewm train | resume | evaluate | record | analyse`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from sdewm.base.checks import check_choice, check_count
from sdewm.base.fields import dotted, field_names
from sdewm.base.progress import Progress

if TYPE_CHECKING:
    from sdewm.train.config import Config
    from sdewm.train.run_directory import RunFacts

HELP = """\
usage: sdewm COMMAND ...

Trains world models (Dreamer) with a penalty on the Jacobian of their latent dynamics.

commands:
  train      start a run                      sdewm train --help lists every setting
  resume     go on with a run that stopped
  evaluate   returns of a run's policy
  record     write a dataset of episodes, for train --world-model-only
  analyse    the theorems on a run's world model: tables and figures

examples:
  sdewm train --preset tiny --env dmc:cartpole_swingup --env-frames 100000 --run runs/cartpole
  sdewm resume runs/cartpole
  sdewm evaluate runs/cartpole --episodes 10
  sdewm train --preset dreamerv3-12m --env dmc:walker_walk --obs pixels --device cuda \\
      --jacobian.weight 0.01 --seed 0 --run runs/walker
  sdewm record data/cartpole --from-run runs/cartpole --episodes 100
  sdewm train --preset tiny --world-model-only --data data/cartpole --run runs/model
  sdewm analyse runs/cartpole
"""

USAGE, FAILURE = 2, 1  # exit codes: nothing was begun; something went wrong
Arguments = TypeVar("Arguments")


@dataclass(frozen=True)
class Resume:
    """Go on with a run from its newest good checkpoint."""

    run: tyro.conf.Positional[Path]
    """Run directory."""


@dataclass(frozen=True)
class Evaluate:
    """Returns of a run's policy, in mean mode, at its newest good checkpoint."""

    run: tyro.conf.Positional[Path]
    """Run directory."""
    episodes: int = 10
    """Number of evaluation episodes."""
    seed: int | None = None
    """Evaluation seed (default: the fixed seed shared by all runs)."""


@dataclass(frozen=True)
class Record:
    """Write a dataset of episodes: of a run's policy, or of random actions.

    The same command goes on with a recording that was interrupted.
    """

    data: tyro.conf.Positional[Path]
    """Dataset directory."""
    episodes: int
    """Number of episodes in the finished dataset."""
    from_run: Path | None = None
    """Run directory whose policy acts in that run's environment (default: random actions)."""
    policy: Literal["sample", "mean"] = "sample"
    """With --from-run: sample actions as in training, or take the mean action."""
    env: str | None = None
    """With random actions: the environment, dmc:<domain>_<task>, gym:<id> or own:<name>."""
    obs: Literal["proprio", "pixels"] = "proprio"
    """With random actions: record the simulator's state vector or images."""
    action_repeat: int = 2
    """With random actions: simulator steps (env_frames) per policy step."""
    seed: int = 0
    """Seed of episodes and actions."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: its words; None: those of the process.

    Returns:
        Exit code: 0; 1 if something went wrong; 2 if the words or values are not allowed;
        130 or 143 after Ctrl-C or SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "resume": _resume,
        "evaluate": _evaluate,
        "record": _record,
        "analyse": _analyse,
    }
    try:
        return commands[check_choice("command", words[0], commands)](words[1:])
    except SystemExit as ended:  # tyro has said what is wrong, or shown the help
        return ended.code if isinstance(ended.code, int) else USAGE
    except (ValueError, OSError, MemoryError, FloatingPointError) as problem:
        return _say(problem, USAGE if isinstance(problem, ValueError) else FAILURE)
    except KeyboardInterrupt:
        return _say("Interrupted.", 130)


def _train(words: list[str]) -> int:
    from sdewm.train.config import Config, check_config
    from sdewm.train.presets import PRESETS
    from sdewm.train.run_directory import RunFacts, check_new, create_run
    from sdewm.train.sources import as_recorded, check_environment

    name = _preset_of(words, Config.preset)
    preset = PRESETS[check_choice("--preset", name, PRESETS)]

    kind = _train_arguments(Config, list(PRESETS))
    given: Any = _parse(kind, words, "train", default=kind(tyro.MISSING, preset))
    config = given.config
    if given.world_model_only != (given.data is not None):
        raise ValueError("--world-model-only and --data DIR go together; give both or neither.")
    check_config(config)
    check_new(given.run)
    if given.data is None:
        check_environment(config)
    else:
        flags = {word.split("=")[0].lstrip("-").replace("-", "_") for word in words}
        config = as_recorded(config, given.data, flags)
    facts = RunFacts(config, given.data, {})
    return _run_trainer(given.run, facts, lambda: create_run(given.run, config, given.data))


def _resume(words: list[str]) -> int:
    from sdewm.train.config import check_config
    from sdewm.train.run_directory import check_resumable, read_run

    run = _parse(Resume, words, "resume").run
    facts = read_run(run)
    check_resumable(run, facts)
    check_config(facts.config)  # somebody may have edited it
    return _run_trainer(run, facts, lambda: facts)


def _run_trainer(run: Path, facts: RunFacts, begin: Callable[[], RunFacts]) -> int:
    """Build the trainer, save what the run is made from, train."""
    from sdewm.train.metrics import DivergedError
    from sdewm.train.signals import Interrupted, StopRequest
    from sdewm.train.trainer import Trainer

    stop = StopRequest()
    with stop.listening():
        trainer = Trainer(run, facts, stop)
        print("\n".join(trainer.describe()), flush=True)
        trainer.facts = begin()
        try:
            trainer.train()
        except Interrupted as interrupted:
            sentence = f"Stopped by {interrupted}; a checkpoint is saved."
            return _say(f"{sentence} Go on with: sdewm resume {run}", interrupted.exit_code)
        except DivergedError as problem:
            kept = trainer.checkpoints.last
            tail = f"The last good checkpoint is {kept}." if kept else "There is no checkpoint yet."
            return _say(f"Training diverged at {problem}. {tail}", FAILURE)
    print(f"Finished: {trainer.summary()}")
    return 0


def _evaluate(words: list[str]) -> int:
    from sdewm.train.evaluation import EVALUATION_SEED, evaluate, evaluation_row, trained_agent
    from sdewm.train.metrics import append_evaluation

    given = _parse(Evaluate, words, "evaluate")
    check_count("episodes", given.episodes)
    seed = EVALUATION_SEED if given.seed is None else check_count("seed", given.seed, minimum=0)
    config, agent, counters = trained_agent(given.run)
    progress = Progress("episodes", given.episodes)
    how: dict[str, Any] = {"episodes": given.episodes, "seed": seed, "progress": progress.update}
    episodes = evaluate(agent.policy("mean"), config, **how)
    progress.close()
    returns, lengths = [one.total_reward for one in episodes], [one.length for one in episodes]
    row = evaluation_row(returns, lengths, seed=seed)
    append_evaluation(given.run, {**counters, "by": "evaluate", **row})
    spread = "" if len(returns) < 2 else f" ± {row['standard_error']:.3g} (standard error)"
    print(
        f"{config.env}: mean return {row['mean_return']:.6g}{spread} over {len(returns)} episodes "
        f"with seed {seed}, after {counters['env_frames']} env_frames and "
        f"{counters['updates']} updates"
    )
    return 0


def _record(words: list[str]) -> int:
    from sdewm.data.rollout import RandomPolicy
    from sdewm.train.config import Config, check_config
    from sdewm.train.recording import record_dataset, record_run
    from sdewm.train.sources import check_environment

    given = _parse(Record, words, "record")
    if (given.from_run is None) == (given.env is None):
        raise ValueError("give either --from-run DIR (its policy) or --env NAME (random actions).")
    progress = Progress("episodes", check_count("episodes", given.episodes))
    seed = check_count("seed", given.seed, minimum=0)
    how: dict[str, Any] = {"episodes": given.episodes, "seed": seed, "progress": progress.update}
    if given.from_run is not None:
        dataset = record_run(given.data, given.from_run, mode=given.policy, **how)
    else:
        assert given.env is not None
        config = replace(
            Config(), env=given.env, obs=given.obs, action_repeat=given.action_repeat, envs=1
        )
        check_config(config)
        _, actions = check_environment(config)
        policy = partial(RandomPolicy, actions)
        dataset = record_dataset(given.data, policy, config, policy_name="random", **how)
    progress.close()
    env = dataset.facts["env"]
    print(f"{given.data}: {dataset.episodes} episodes, {dataset.rows} rows of {env}")
    return 0


def _analyse(words: list[str]) -> int:
    from sdewm.analyse.command import AnalyseRun, analyse_run

    analyse_run(_parse(AnalyseRun, words, "analyse"))
    return 0


def _train_arguments(config: type[Config], presets: list[str]) -> type[Any]:
    """What `sdewm train` takes: the fields of the configuration, and where the run is."""
    run = tyro.conf.arg(help="New run directory.")
    alone = tyro.conf.arg(help="Train the world model without actor and critic, on --data.")
    data = tyro.conf.arg(help="Dataset directory made by sdewm record, for --world-model-only.")
    arguments: list[Any] = [
        ("run", Annotated[Path, run]),
        ("config", Annotated[config, tyro.conf.arg(name="")]),
        ("world_model_only", Annotated[bool, alone], False),
        ("data", Annotated[Path | None, data], None),
    ]
    kind = make_dataclass("Train", arguments, frozen=True)
    names = ", ".join(presets)
    kind.__doc__ = f"Start a run. --preset supplies the defaults of all other settings: {names}."
    return kind


def _say(sentence: object, code: int) -> int:
    sys.stderr.write(f"sdewm: {sentence}\n")
    return code


def _parse(kind: type[Arguments], words: list[str], command: str, **defaults: Any) -> Arguments:
    _check_options(kind, words, command)
    return tyro.cli(kind, args=words, prog=f"sdewm {command}", **defaults)


def _check_options(kind: type, words: list[str], command: str) -> None:
    """Refuse an option that is no field; for `--model.unitz`, the fields of `model` are named."""
    names = [name.removeprefix("config.").replace("_", "-") for name in field_names(kind)]
    for word in words:
        option = word.removeprefix("--").split("=")[0].replace("_", "-")
        part, _, own = option.rpartition(".")
        known = {option, dotted(part, own.removeprefix("no-"))} & {*names, "help"}
        if known or not word.startswith("--"):
            continue
        if part and (siblings := [name for name in names if name.rpartition(".")[0] == part]):
            check_choice(f"option of --{part}", own, [name[len(part) + 1 :] for name in siblings])
        near = difflib.get_close_matches(option, names, n=1)
        hint = f" Did you mean --{near[0]}?" if near else ""
        raise ValueError(f"--{option} is not allowed.{hint} See sdewm {command} --help.")


def _preset_of(words: Sequence[str], default: str) -> str:
    """The last value of --preset, which chooses the defaults of all other settings."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == "--preset" and following is not None:
            default = following
        elif word.startswith("--preset="):
            default = word.removeprefix("--preset=")
    return default


if __name__ == "__main__":
    raise SystemExit(main())
