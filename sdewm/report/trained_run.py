"""A trained run with its recorded episodes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sdewm.base.fields import later_defaults
from sdewm.base.records import Value
from sdewm.data.dataset import UNKNOWN, read_dataset
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.inputs import LatentPolicy
from sdewm.latent_sde.models import RSSMModel
from sdewm.latent_sde.system import mean_policy
from sdewm.report.subject import DatasetEpisodes, Subject
from sdewm.train.agent import Agent
from sdewm.train.config import Config
from sdewm.train.run_directory import read_run
from sdewm.train.saved_agent import SavedAgent, saved_agent, weights_digest
from sdewm.train.sources import RECORDED

TRAINED_ON = (
    "The model was trained on these episodes, also on those that are scored: what it does on new "
    "ones is not measured."
)
ONE_HOT = "its actions are one-hot, and no differentiable function of the state"


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
        """The world model in float64, with the critic and the actor's mean if they are trained."""
        if not self.has_policy:
            return RSSMModel(self.agent.world_model)
        behaviour = self.agent.behaviour
        return RSSMModel(self.agent.world_model, critic=behaviour.critic, policy=self.loop_policy)

    @property
    def source(self) -> DatasetEpisodes:
        """The recorded episodes."""
        return DatasetEpisodes(self.data)

    @cached_property
    def loop_policy(self) -> LatentPolicy | None:
        """The mean action of the policy; None without a policy, or if it is one-hot."""
        actor = self.agent.behaviour.actor
        return mean_policy(actor) if self.has_policy and not actor.groups else None

    def episodes(self, steps: int, count: int | None, seed: int) -> Episodes:
        """Windows of `steps` rows from the first `count` long enough episodes, at random places."""
        return self.source.windows(steps, count, seed)

    @cached_property
    def subject(self) -> Subject:
        """The run as the analyses take it."""
        config, updates = self.config, self.counters["updates"]
        identity: dict[str, Value] = {
            "run": self.run.name,
            "run_commit": str(read_run(self.run).manifest.get("commit")),
            "env": config.env,
            "obs": config.obs,
            "updates": updates,
            "weights": self.weights_digest,
            "changed": self.changed,
        }
        untrained = "the run trained only its world model"
        trained_on = read_run(self.run).data
        own = trained_on is not None and trained_on.resolve() == self.data.resolve()
        return Subject(
            f"Analysis of {self.run.name}",
            f"the world model of {config.env}, after {updates} updates",
            self.model,
            self.source,
            identity,
            {"policy": ONE_HOT} if self.has_policy else {"critic": untrained, "policy": untrained},
            None if config.env == UNKNOWN else (config.env, config.action_repeat),
            TRAINED_ON if own else "",
        )

    @cached_property
    def weights_digest(self) -> str:
        """See `weights_digest`."""
        return weights_digest(self.agent)


def load_trained_run(run: Path, data: Path, saved: SavedAgent | None = None) -> TrainedRun:
    """Load a run and check its recorded episodes.

    A fact that is unknown, of imported episodes or of a run that was trained on them, is not
    compared, and a note says so, unless these are the episodes that the run was trained on.

    Args:
        run: directory of the run.
        data: directory of the episodes.
        saved: its agent, if it is loaded already.

    Raises:
        ValueError: there is no run or no dataset, the files are of another version, or the episodes
            have another environment, observation or action repeat than the run.
        CheckpointError: the run has no valid checkpoint.
    """
    recorded = later_defaults(Config) | read_dataset(data).facts
    facts = read_run(run)
    for name in RECORDED:
        own = getattr(facts.config, name)
        if UNKNOWN in (own, recorded[name]):
            if facts.data is None or facts.data.resolve() != data.resolve():
                sys.stderr.write(
                    f"note: {name} is {own} in {run} and {recorded[name]} in {data}: not compared, "
                    "because it is unknown.\n"
                )
        elif recorded[name] != own:
            raise ValueError(
                f"data={str(data)!r} has {name}={recorded[name]!r}, but run={str(run)!r} has "
                f"{name}={own!r}: expected episodes of the run's environment."
            )
    saved = saved or saved_agent(run, data=data)
    policy = facts.data is None
    return TrainedRun(run, data, saved.config, saved.agent, saved.counters, policy, saved.changed)
