"""Record the episodes of the studies in analysis/studies, in a few minutes on a CPU.

    python analysis/make_study_data.py
    python analysis/make_study_data.py --agent RUN     by the policy of another run

The policy is that of paper_checks/small_models/agent; of images it is random. Written to
runs/study-data:

    cartpole, cartpole-test   64 episodes to train world models on, and 128 others for end points
    hidden, hidden-test       the same episodes with the velocities left out of the observations
    images, images-test       32 and 96 episodes of own:cartpole_pixels under random actions

What is there already is left as it is, and an interrupted recording goes on.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdewm import cli
from sdewm.base.records import ROOT
from sdewm.data.dataset import is_complete, read_dataset, recorded_episodes, write_dataset
from sdewm.data.dmc import DmcEnv

AGENT, DATA = ROOT / "paper_checks" / "small_models" / "agent", Path("runs/study-data")
RECORDINGS = {"cartpole": ("64", "201"), "cartpole-test": ("128", "202")}
IMAGES = {"images": ("32", "203"), "images-test": ("96", "204")}
HIDDEN = {"cartpole": "hidden", "cartpole-test": "hidden-test"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent", type=Path, default=AGENT, metavar="RUN", help="run that acts")
    agent = parser.parse_args().agent
    for name, (episodes, seed) in RECORDINGS.items():
        place = DATA / name
        words = ["--from-run", str(agent), "--episodes", episodes, "--seed", seed]
        if not is_complete(place) and (code := cli.main(["record", str(place), *words])):
            return code
        if not is_complete(DATA / HIDDEN[name]):
            without_velocities(place, DATA / HIDDEN[name])
    for name, (episodes, seed) in IMAGES.items():
        words = ["--env", "own:cartpole_pixels", "--obs", "pixels"]
        words += ["--episodes", episodes, "--seed", seed]
        if not is_complete(DATA / name) and (
            code := cli.main(["record", str(DATA / name), *words])
        ):
            return code
    return 0


def without_velocities(source: Path, to: Path) -> None:
    """Copy a dataset of a task of the suite without the velocities in its observations."""
    dataset = read_dataset(source)
    name = dataset.facts["env"].removeprefix("dmc:")
    kept = positions(name)
    facts = {**dataset.facts, "obs": "positions"}
    for entry in ("chunks", "complete", "rows", "episodes", "fields"):
        facts.pop(entry)
    done = recorded_episodes(to, facts)

    def episodes() -> Iterator[dict[str, Any]]:
        for number, episode in enumerate(dataset):
            if number >= done:
                yield {**episode, "observation": episode["observation"][:, kept]}

    write_dataset(to, episodes(), facts)


def positions(name: str) -> list[int]:
    """The components of the task's observation that belong to no velocity."""
    env = DmcEnv(name, render="fast", pixels=False, seed=0, velocities=False)
    observed, found, start = env.task.get_observation(env.physics), [], 0
    for entry, value in observed.items():
        size = value.size
        found += [*range(start, start + size)] if entry in env.entries else []
        start += size
    env.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
