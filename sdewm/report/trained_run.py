"""A trained run with its recorded episodes."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from sdewm.base.records import Value, code_digest, manifest
from sdewm.data.dataset import read_dataset
from sdewm.data.recorded_episodes import Episodes, read_episodes
from sdewm.latent_sde.inputs import LatentPolicy
from sdewm.latent_sde.models import RSSMModel
from sdewm.latent_sde.system import mean_policy
from sdewm.train.agent import Agent
from sdewm.train.config import Config
from sdewm.train.run_directory import read_run
from sdewm.train.saved_agent import saved_agent, weights_digest


@dataclass(frozen=True)
class TrainedRun:
    """A trained run with recorded episodes.

    Attributes:
        run: directory of the run.
        data: directory of the recorded episodes.
        config: configuration of the run.
        agent: the agent at the newest valid checkpoint.
        counters: counters of that checkpoint.
        has_policy: False if only the world model was trained.
        changed: fields of config.json that were edited since that checkpoint; None: none.
    """

    run: Path
    data: Path
    config: Config
    agent: Agent
    counters: dict[str, int]
    has_policy: bool
    changed: str | None

    @cached_property
    def model(self) -> RSSMModel:
        """The world model, in float64."""
        return RSSMModel(self.agent.world_model)

    @cached_property
    def loop_policy(self) -> LatentPolicy | None:
        """The mean action of the policy; None without a policy, and, with a note, if one-hot."""
        if not self.has_policy:
            return None
        try:
            return mean_policy(self.agent.behaviour.actor)
        except ValueError as problem:
            sys.stderr.write(f"note: the policy in the loop is left out. {problem}\n")
            return None

    def episodes(self, steps: int, count: int | None, seed: int) -> Episodes:
        """Windows of `steps` rows from the first `count` long enough episodes, at random places."""
        return read_episodes(self.data, steps=steps, count=count, window_seed=seed)

    def whole_episodes(self, count: int) -> Episodes:
        """The first `count` episodes, truncated to the length of the shortest."""
        lengths = [len(episode["reward"]) for episode in islice(read_dataset(self.data), count)]
        return read_episodes(self.data, steps=min(lengths), count=count)

    def facts(self, settings: object, seed: int) -> dict[str, Value]:
        """The facts that determine the rows of an analysis with these settings."""
        found = read_dataset(self.data).facts
        own: dict[str, Value] = {
            "code": code_digest(),
            "run": self.run.name,
            "run_commit": str(read_run(self.run).manifest.get("commit")),
            "env": self.config.env,
            "obs": self.config.obs,
            "updates": self.counters["updates"],
            "weights": self.weights_digest,
            "changed": self.changed,
            "noise": self.model.surrogate or "exact",
            "data": self.data.name,
            "data_policy": found["policy"],
            "data_seed": found["seed"],
            "data_rows": found["rows"],
        }
        return manifest(seed=seed) | own | asdict(settings)  # type: ignore[call-overload]

    @cached_property
    def weights_digest(self) -> str:
        """See `weights_digest`."""
        return weights_digest(self.agent)


def load_trained_run(run: Path, data: Path) -> TrainedRun:
    """Load a run and check its recorded episodes.

    Raises:
        ValueError: there is no run or no dataset, the files are of another version, or the episodes
            have another environment, observation or action repeat than the run.
        CheckpointError: the run has no valid checkpoint.
    """
    recorded = read_dataset(data).facts
    facts = read_run(run)
    for name in ("env", "obs", "action_repeat"):
        own = getattr(facts.config, name)
        if recorded[name] != own:
            raise ValueError(
                f"data={str(data)!r} has {name}={recorded[name]!r}, but run={str(run)!r} has "
                f"{name}={own!r}: expected episodes of the run's environment."
            )
    saved = saved_agent(run)
    policy = facts.data is None
    return TrainedRun(run, data, saved.config, saved.agent, saved.counters, policy, saved.changed)
