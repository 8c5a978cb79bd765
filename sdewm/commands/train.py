"""`sdewm train` and `sdewm resume`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from sdewm.base.checks import check_choice, check_count
from sdewm.commands.parsing import FAILURE, parse, say
from sdewm.commands.user_function import user_function
from sdewm.train.config import Config, check_config
from sdewm.train.metrics import DivergedError
from sdewm.train.presets import PRESETS
from sdewm.train.row_callback import OnRow
from sdewm.train.run_directory import (
    RunFacts,
    allow_module,
    check_new,
    check_resumable,
    create_run,
    read_run,
)
from sdewm.train.signals import Interrupted, StopRequest
from sdewm.train.sources import RECORDED, as_recorded, check_environment
from sdewm.train.trainer import Trainer
from sdewm.train.wandb_rows import wandb_rows

WANDB = "wandb"
_ON_ROW = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="FILE.py:FUNCTION",
        help="Function (kind, row) that is called with every row as it is written, for logging of "
        f"your own; {WANDB}: log to Weights & Biases. An error in it does not end the training.",
        help_behavior_hint="(default: none)",
    ),
]
Train: Any = make_dataclass(
    "Train",
    [
        ("run", Annotated[Path, tyro.conf.arg(metavar="RUN", help="New run directory.")]),
        ("config", Annotated[Config, tyro.conf.arg(name="")]),
        (
            "world_model_only",
            Annotated[
                bool,
                tyro.conf.arg(help="Train only the world model, on the dataset given by --data."),
            ],
            False,
        ),
        (
            "data",
            Annotated[
                Path | None,
                tyro.conf.arg(
                    metavar="DIRECTORY",
                    help="Dataset recorded by sdewm record, for --world-model-only.",
                    help_behavior_hint="(required with --world-model-only)",
                ),
            ],
            None,
        ),
        ("on_row", _ON_ROW, None),
    ],
    frozen=True,
)
Train.__doc__ = (
    "Start a training run. --preset supplies the defaults of all other settings; the presets are "
    f"{', '.join(PRESETS)}."
)


@dataclass(frozen=True)
class Resume:
    """Resume a run from its newest valid checkpoint; a finished one can be lengthened."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    env_frames: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: as configured)")
    ] = None
    """New length of the run in env_frames."""
    updates: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: as configured)")
    ] = None
    """New length of a run with --world-model-only, in gradient updates."""
    data: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIRECTORY", help_behavior_hint="(default: where it was)"),
    ] = None
    """Where the dataset of a run with --world-model-only is now."""
    on_row: _ON_ROW = None
    env: Annotated[
        str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(default: none)")
    ] = None
    """Name of the run's environment, to be typed if it imports a module (gym:<module>:<id>)."""


def train(words: list[str]) -> int:
    """Check every setting, create the run directory and train."""
    given = train_arguments(words)
    config = given.config
    if given.world_model_only != (given.data is not None):
        raise ValueError("--world-model-only and --data DIR go together; give both or neither.")
    check_config(config)
    allow_module(config.env)
    check_new(given.run)
    if given.data is None:
        check_environment(config)
    else:
        options = (word.split("=")[0].split(".")[0] for word in words)
        flags = {option.lstrip("-").replace("-", "_") for option in options}
        config = as_recorded(config, given.data, flags)
    facts, on_row = RunFacts(config, given.data, {}), _on_row(given.on_row)
    return _run_trainer(given.run, facts, lambda: create_run(given.run, config, given.data), on_row)


def train_arguments(words: list[str]) -> Any:
    """The arguments of `sdewm train`, with the defaults of the preset that they name."""
    name = _preset_of(words, Config.preset)
    preset = PRESETS[check_choice("--preset", name, PRESETS)]
    return parse(Train, words, "train", default=Train(tyro.MISSING, preset))


def resume(words: list[str]) -> int:
    """Continue training from the newest valid checkpoint."""
    given = parse(Resume, words, "resume")
    allow_module(given.env)
    facts = read_run(given.run)
    check_resumable(given.run, facts)
    check_config(facts.config)  # it may have been edited
    facts = _changed(facts, given)
    return _run_trainer(given.run, facts, lambda: facts, _on_row(given.on_row))


def _on_row(text: str | None) -> OnRow | None:
    """The function that was named; ValueError if there is none."""
    if text is None:
        return None
    if text == WANDB:
        return wandb_rows()
    function = user_function("--on-row", text)
    if function is None:
        raise ValueError(f"--on-row={text!r}: expected FILE.py:FUNCTION, or {WANDB}.")
    return function.load()


def _changed(facts: RunFacts, given: Resume) -> RunFacts:
    """The facts of a run with the length and the place of the data that the user gave."""
    fits, other = ("env_frames", "updates") if facts.data is None else ("updates", "env_frames")
    what = "collects its data" if facts.data is None else f"learns from {facts.data}"
    if getattr(given, other) is not None:
        raise ValueError(
            f"--{other.replace('_', '-')}: run={str(given.run)!r} {what}; give its length by "
            f"--{fits.replace('_', '-')}."
        )
    length = getattr(given, fits)
    if length is not None:
        config = replace(facts.config, **{fits: check_count(fits, length)})
        facts = replace(facts, config=config)
    if facts.data is None:
        if given.data is not None:
            raise ValueError(f"--data: run={str(given.run)!r} {what}, not from a dataset.")
        return facts
    if given.data is None and not facts.data.is_dir():
        raise ValueError(
            f"data={str(facts.data)!r} is not there any more; give its new place: "
            f"sdewm resume {given.run} --data DIRECTORY"
        )
    place = (facts.data if given.data is None else given.data).resolve()
    as_recorded(facts.config, place, RECORDED)
    return replace(facts, data=place, manifest={**facts.manifest, "data": str(place)})


def _run_trainer(
    run: Path, facts: RunFacts, begin: Callable[[], RunFacts], on_row: OnRow | None
) -> int:
    """Build the trainer, save configuration and provenance, and train."""
    stop = StopRequest()
    with stop.listening():
        trainer = Trainer(run, facts, stop, on_row)
        print("\n".join(trainer.describe()), flush=True)
        trainer.facts = begin()
        try:
            trainer.train()
        except Interrupted as interrupted:
            sentence = f"Stopped by {interrupted}; a checkpoint is saved."
            return say(f"{sentence} Resume with: sdewm resume {run}", interrupted.exit_code)
        except DivergedError as problem:
            last = trainer.checkpoints.last
            tail = f"The last valid checkpoint is {last}." if last else "There is no checkpoint."
            return say(f"Training diverged at {problem}. {tail}", FAILURE)
    print(f"Finished: {trainer.summary()}")
    return 0


def _preset_of(words: Sequence[str], default: str) -> str:
    """The last value of --preset, which chooses the defaults of all other settings."""
    for word, following in zip(words, [*words, None][1:], strict=True):
        if word == "--preset" and following is not None:
            default = following
        elif word.startswith("--preset="):
            default = word.removeprefix("--preset=")
    return default
