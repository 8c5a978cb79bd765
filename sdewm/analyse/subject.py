"""What is analysed: a trained run and recorded episodes; and what an analysis is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from sdewm.base.checks import check_count
from sdewm.base.records import Row, Value, code_digest, manifest
from sdewm.data.dataset import read_dataset
from sdewm.evaluate.episodes import Episodes, read_episodes
from sdewm.evaluate.perturbations import ObservationPerturbation
from sdewm.latent_sde.models import RSSMModel
from sdewm.plots.panels import Drawing
from sdewm.train.agent import Agent
from sdewm.train.config import Config
from sdewm.train.evaluation import saved_agent
from sdewm.train.run_directory import read_run


@dataclass(frozen=True)
class Subject:
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


def load_subject(run: Path, data: Path) -> Subject:
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
    return Subject(run, data, config, agent, counters, facts.data is None)


@dataclass(frozen=True)
class PerturbedSettings:
    """Settings of an analysis in which the encoder is shown one kind of perturbed observations."""

    perturbation: str = "noise"
    """Its name."""
    strength: float = 0.1
    """Its strength."""
    start: int = 20
    """Row of the first state."""
    copies: int = 8
    """Perturbed copies of each episode."""
    paths: int = 4
    """Sample paths of each copy."""

    def checked_perturbation(self) -> ObservationPerturbation:
        """The perturbation; ValueError for a name, strength or row that is not allowed."""
        check_count("start", self.start, minimum=0)
        return ObservationPerturbation(self.perturbation, self.strength)


@dataclass(frozen=True)
class Part:
    """One analysis.

    Attributes:
        stem: name of its files.
        settings: a dataclass of what can be chosen, every field with a default.
        rows: (subject, settings, seed) -> the numbers, before which everything is checked.
        figure: rows -> what is drawn.
        summary: rows -> some lines of text.
    """

    stem: str
    settings: type
    rows: Callable[[Subject, Any, int], list[Row]]
    figure: Callable[[Sequence[Any]], Drawing]
    summary: Callable[[Sequence[Any]], str]
