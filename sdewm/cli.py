"""The command line: `sdewm train | resume | evaluate | record | import | analyse | study`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import sdewm
from sdewm.base.checks import check_choice
from sdewm.commands.parsing import FAILURE, USAGE, say

HELP = """\
usage: sdewm COMMAND ...

Trains world models (Dreamer) with a penalty on the Jacobian of their latent dynamics, and checks
the theorems on them.

commands:
  train      start a training run
  resume     resume an interrupted run
  evaluate   mean return of a run's policy
  record     record a dataset of episodes
  import     convert episodes of another project to a dataset
  analyse    check the theorems on a world model: tables, figures, summaries
  study      train and compare the arms of a declared study: rows, intervals, verdicts

`sdewm COMMAND --help` lists the arguments of a command, `sdewm --version` prints the version.

examples:
  sdewm train --preset tiny --env dmc:cartpole_swingup --env-frames 100000 --run runs/cartpole
  sdewm resume runs/cartpole
  sdewm evaluate runs/cartpole --episodes 10
  sdewm train --preset dreamerv3-12m --env dmc:walker_walk --obs pixels --device cuda \\
      --jacobian.weight 0.01 --seed 0 --run runs/walker
  sdewm record data/cartpole --from-run runs/cartpole --episodes 100
  sdewm import logdir/train_eps data/theirs --keys image
  sdewm train --preset tiny --world-model-only --data data/cartpole --run runs/model
  sdewm analyse runs/cartpole
  sdewm analyse model.py:build --data data/theirs
  sdewm study weights.toml --jobs 2
"""
COMMANDS = ("train", "resume", "evaluate", "record", "import", "analyse", "study")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the command line; None: that of the process.

    Returns:
        Exit code: 0; 1 if something went wrong; 2 if the arguments are not allowed; 130 143 or
        129 after Ctrl-C, SIGTERM or SIGHUP.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words == ["--version"]:
        print(f"sdewm {sdewm.__version__}")
        return 0
    try:
        return _command(check_choice("command", words[0], COMMANDS))(words[1:])
    except SystemExit as ended:  # the parser has printed the error or the help
        return ended.code if isinstance(ended.code, int) else USAGE
    except (ValueError, OSError, MemoryError, FloatingPointError) as problem:
        return say(problem, USAGE if isinstance(problem, ValueError) else FAILURE)
    except KeyboardInterrupt:
        return say("Interrupted.", 130)


def _command(name: str) -> Callable[[list[str]], int]:
    """The function of a command; only the modules that it needs are imported."""
    if name in ("train", "resume"):
        from sdewm.commands.train import resume, train

        return train if name == "train" else resume
    if name == "evaluate":
        from sdewm.commands.evaluate import evaluate_run

        return evaluate_run
    if name == "record":
        from sdewm.commands.record import record

        return record
    if name == "import":
        from sdewm.commands.import_dataset import import_dataset

        return import_dataset
    if name == "study":
        from sdewm.commands.study import study

        return study
    from sdewm.commands.analyse import analyse_run

    return analyse_run


if __name__ == "__main__":
    raise SystemExit(main())
