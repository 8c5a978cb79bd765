"""The shipped models: small ones that the training pipeline has made, with recorded episodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sdewm.analyse.subject import Subject, load_subject
from sdewm.evaluate.episodes import Episodes

FOLDER = Path(__file__).resolve().parent / "small_models"
EPISODES = FOLDER / "episodes"
WINDOW_SEED = 0
AGENT, WITHOUT, WITH = "agent", "weight0-seed0", "weight0.1-seed0"


@lru_cache
def subject(name: str = AGENT) -> Subject:
    """A shipped run with the shipped episodes; remade by analysis/make_small_models.py."""
    return load_subject(FOLDER / name, EPISODES)


@dataclass(frozen=True)
class Trained:
    """What a check does on a trained model; negative controls change a part of it.

    Attributes:
        model: a `LatentModel`.
        episodes: recorded.
        options: of the check.
    """

    model: Any
    episodes: Episodes
    options: dict[str, Any] = field(default_factory=dict)


def trained(steps: int, count: int | None = None, name: str = AGENT, **options: Any) -> Trained:
    """The shipped run `name` with the first rows of the episodes."""
    return Trained(subject(name).model, _episodes(name, steps, count), options)


@lru_cache
def _episodes(name: str, steps: int, count: int | None) -> Episodes:
    """One object, so that a check and its control measure the same thing once."""
    return subject(name).episodes(steps, count, WINDOW_SEED)
