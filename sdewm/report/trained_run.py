"""What is analysed: a trained run and recorded episodes; and what an analysis is."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from sdewm.base.records import Value, code_digest, manifest
from sdewm.data.dataset import read_dataset
from sdewm.data.recorded_episodes import Episodes, read_episodes
from sdewm.latent_sde.models import RSSMModel
from sdewm.train.agent import Agent
from sdewm.train.config import Config
from sdewm.train.run_directory import read_run
from sdewm.train.saved_agent import saved_agent


@dataclass(frozen=True)
class TrainedRun:
    """A trained run with recorded episodes.

    Attributes:
        run: its directory.
        data: directory of the episodes.
        config: configuration of the run.
        agent: at the newest good checkpoint.
        counters: of that checkpoint.
        has_policy: False if the world model alone has learnt.
    """

    run: Path
    data: Path
    config: Config
    agent: Agent
    counters: dict[str, int]
    has_policy: bool

    @cached_property
    def model(self) -> RSSMModel:
        """The world model, in float64."""
        return RSSMModel(self.agent.world_model)

    def episodes(self, steps: int, count: int | None, seed: int) -> Episodes:
        """Rows of the first `count` episodes that are long enough, beginning at random ones."""
        return read_episodes(self.data, steps=steps, count=count, window_seed=seed)

    def whole_episodes(self, count: int) -> Episodes:
        """The first `count` episodes, cut to the length of the shortest."""
        lengths = [len(episode["reward"]) for episode in islice(read_dataset(self.data), count)]
        return read_episodes(self.data, steps=min(lengths), count=count)

    def facts(self, settings: object, seed: int) -> dict[str, Value]:
        """What the rows of an analysis with these settings depend on."""
        found = read_dataset(self.data).facts
        own: dict[str, Value] = {
            "code": code_digest(),
            "run": self.run.name,
            "run_commit": str(read_run(self.run).manifest.get("commit")),
            "env": self.config.env,
            "obs": self.config.obs,
            "updates": self.counters["updates"],
            "weights": self._digest(),
            "noise": self.model.surrogate or "exact",
            "data": self.data.name,
            "data_policy": found["policy"],
            "data_seed": found["seed"],
            "data_rows": found["rows"],
        }
        return manifest(seed=seed) | own | asdict(settings)  # type: ignore[call-overload]

    def _digest(self) -> str:
        """Of the weights: runs of one name are told apart."""
        digest = hashlib.sha256()
        for module in (self.agent.world_model, self.agent.behaviour):
            for weight in module.state_dict().values():
                digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def load_trained_run(run: Path, data: Path) -> TrainedRun:
    """Read run and data, before any work.

    Raises:
        ValueError: no run or no data there, files of another version, or episodes of another
            environment or observation than the run's.
        CheckpointError: the run has no good checkpoint.
    """
    recorded = read_dataset(data).facts
    facts = read_run(run)
    for name in ("env", "obs", "action_repeat"):
        own = getattr(facts.config, name)
        if recorded[name] != own:
            raise ValueError(
                f"data={str(data)!r} has {name}={recorded[name]!r}, run={str(run)!r} {name}={own!r}"
                ": expected episodes of the run's environment."
            )
    config, agent, counters = saved_agent(run)
    return TrainedRun(run, data, config, agent, counters, facts.data is None)
