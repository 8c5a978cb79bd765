"""Retrain the small models in paper_checks/small_models, in about an hour on a CPU.

    python analysis/make_small_models.py              all stages
    python analysis/make_small_models.py --stage agent episodes

The stages, in order:

    agent     an agent with a small Gaussian RSSM on dmc:cartpole_swingup, from vectors
    episodes  32 episodes of its policy for the analyses, and 64 others to train world models
    models    two world models on the latter, without and with the Jacobian penalty
    ship      copies the weights of the agent and of two world models, and the episodes for the
              analyses, to paper_checks/small_models
    pixels    episodes of random actions on dmc:cartpole_swingup as images, which needs OpenGL, and
              a world model trained on some of them; these are not shipped

Runs are written to runs/small-models. Finished runs are skipped and interrupted ones are resumed,
so the same command continues after an interrupt (Ctrl-C saves a checkpoint).
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sdewm import cli
from sdewm.base.checks import check_choice
from sdewm.base.records import ROOT, read_log
from sdewm.data.dataset import is_complete
from sdewm.train.export import weights_copy

STAGES = ("agent", "episodes", "models", "ship", "pixels")
RUNS, SHIPPED = Path("runs/small-models"), ROOT / "paper_checks" / "small_models"
ENV = "dmc:cartpole_swingup"
AGENT, EPISODES, LEARNT_FROM = RUNS / "agent", RUNS / "episodes", RUNS / "learnt-from"
GAUSSIAN = ("--preset", "tiny", "--model.rssm.latent", "gaussian")
SIZES = (*GAUSSIAN, "--model.rssm.gaussian-size", "8", "--model.rssm.deter", "48")
# With the sizes of the models above, the agent does not learn to swing the pole up.
AGENT_SIZES = (*GAUSSIAN, "--model.rssm.gaussian-size", "12", "--model.rssm.deter", "96")
PIXELS, SEEN, UNSEEN = RUNS / "pixels", RUNS / "pixels-learnt-from", RUNS / "pixel-episodes"
ENV_FRAMES, UPDATES, PIXEL_UPDATES = 120_000, 8_000, 1_000
WEIGHTS, SEED = ("0", "0.1"), 0
KEPT = tuple(f"weight{weight}-seed{SEED}" for weight in WEIGHTS)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--stage", nargs="+", default=[*STAGES], help="stages to run (default: all)"
    )
    given = parser.parse_args(arguments)
    try:
        stages = [check_choice("--stage", name, STAGES) for name in given.stage]
    except ValueError as problem:
        parser.error(str(problem))
    for stage in STAGES:
        if stage in stages and (code := {"ship": ship}.get(stage, run_all)(stage)):
            return code
    return 0


def run_all(stage: str) -> int:
    """Run the unfinished commands of a stage; return the exit code of the first that fails."""
    for number, words in enumerate(commands(stage), start=1):
        place = Path(words[1] if words[0] == "record" else words[-1])
        if words[0] == "record":
            if is_complete(place):
                continue
        elif (place / "config.json").exists():
            if is_finished(place):
                continue
            words = ["resume", str(place)]
        print(f"{stage} {number}: sdewm {' '.join(words)}", file=sys.stderr, flush=True)
        if code := cli.main(words):
            return code
    return 0


def commands(stage: str) -> list[list[str]]:
    """The arguments of each `sdewm` command of a stage."""
    if stage == "agent":
        frames = ("--env-frames", str(ENV_FRAMES), "--no-pictures", "--seed", "0")
        return [["train", *AGENT_SIZES, "--env", ENV, *frames, "--run", str(AGENT)]]
    if stage == "episodes":
        return [
            ["record", str(place), "--from-run", str(AGENT), "--episodes", count, "--seed", seed]
            for place, count, seed in ((EPISODES, "32", "101"), (LEARNT_FROM, "64", "102"))
        ]
    if stage == "pixels":
        source = ("--env", ENV, "--obs", "pixels", "--episodes", "16")
        updates = ("--updates", str(PIXEL_UPDATES), "--seed", "0", "--run", str(PIXELS))
        return [
            ["record", str(SEEN), *source, "--seed", "103"],
            ["record", str(UNSEEN), *source, "--seed", "104"],
            ["train", *SIZES, "--world-model-only", "--data", str(SEEN), *updates],
        ]
    return [
        [
            *("train", *SIZES, "--world-model-only", "--data", str(LEARNT_FROM)),
            *("--updates", str(UPDATES), "--jacobian.weight", weight, "--seed", str(SEED)),
            *("--run", str(RUNS / f"weight{weight}-seed{SEED}")),
        ]
        for weight in WEIGHTS
    ]


def is_finished(run: Path) -> bool:
    """Whether a run has all its updates, or its final evaluation."""
    rows, _ = read_log(run / ("evaluation.jsonl" if run == AGENT else "metrics.jsonl"))
    name, end = "updates", PIXEL_UPDATES if run == PIXELS else UPDATES
    if run == AGENT:
        name, end = "env_frames", ENV_FRAMES
    return any(row[name] >= end for row in rows)  # type: ignore[operator]


def ship(stage: str) -> int:
    """Replace the files in paper_checks/small_models."""
    shutil.rmtree(SHIPPED, ignore_errors=True)
    for name in ("agent", *KEPT):
        weights_copy(RUNS / name, SHIPPED / name)
    shutil.copytree(EPISODES, SHIPPED / "episodes")
    size = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    print(f"{SHIPPED.relative_to(ROOT)}: {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
