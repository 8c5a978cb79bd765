"""The shipped models: small ones trained by this repository, with recorded episodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sdewm.base.records import ROOT
from sdewm.data.recorded_episodes import Episodes
from sdewm.report.trained_run import TrainedRun, load_trained_run

FOLDER = ROOT / "paper_checks" / "small_models"
EPISODES = FOLDER / "episodes"
WINDOW_SEED = 0
AGENT, WITHOUT, WITH = "agent", "weight0-seed0", "weight0.1-seed0"


@lru_cache
def trained_run(name: str = AGENT) -> TrainedRun:
    """A shipped run with the shipped episodes; analysis/make_small_models.py regenerates them."""
    return load_trained_run(FOLDER / name, EPISODES)


@dataclass(frozen=True)
class TrainedCase:
    """A trained model with episodes and options of a check; negative controls change one of them.

    Attributes:
        model: a `LatentModel`.
        episodes: recorded.
        options: of the check.
    """

    model: Any
    episodes: Episodes
    options: dict[str, Any] = field(default_factory=dict)


def trained_case(
    steps: int, count: int | None = None, name: str = AGENT, **options: Any
) -> TrainedCase:
    """The shipped run `name` with the first rows of the episodes."""
    return TrainedCase(trained_run(name).model, _episodes(name, steps, count), options)


@lru_cache
def _episodes(name: str, steps: int, count: int | None) -> Episodes:
    """One object, so that a check and its control measure the same thing once."""
    return trained_run(name).episodes(steps, count, WINDOW_SEED)
