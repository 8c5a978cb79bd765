"""What an analysis takes: a world model, recorded episodes, and what identifies both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from sdewm.base.checks import check_count
from sdewm.base.records import Value, code_digest, manifest
from sdewm.data.dataset import UNKNOWN, read_dataset
from sdewm.data.recorded_episodes import Episodes, read_episodes, windows_of
from sdewm.latent_sde.model_parts import StateFunction, missing_part
from sdewm.latent_sde.models import LatentModel
from sdewm.perturbations.observation import ObservationPerturbation, kind_of
from sdewm.report.model_identity import tensors_digest


class EpisodeSource(Protocol):
    """Where the episodes of an analysis come from."""

    def windows(self, steps: int, count: int | None, seed: int) -> Episodes:
        """Windows of `steps` rows from the first `count` long enough episodes, at random places."""
        ...

    def whole(self, count: int, rows: int = 1, seed: int | None = None) -> Episodes:
        """The first `count` episodes of at least `rows` rows, as long as the shortest of them.

        Of longer ones a part at a random place is taken, or without a seed the first rows.
        """
        ...

    def facts(self) -> dict[str, Value]:
        """What identifies the episodes."""
        ...

    @property
    def lengths(self) -> list[int]:
        """Number of rows of each episode."""
        ...

    @property
    def obs(self) -> str:
        """What was observed, such as "both" (image and vector in one), or UNKNOWN."""
        ...

    def more(self, count: int) -> str:
        """How to have at least `count` episodes that are long enough, as an order."""
        ...


class TooFewEpisodes(ValueError):
    """There are fewer episodes than an analysis needs, whatever its settings.

    Args:
        there: number of episodes that are long enough.
        steps: rows that are long enough.
        needed: number of episodes.
    """

    def __init__(self, there: int, steps: int, needed: int) -> None:
        super().__init__(
            f"{there} episodes of at least {steps} rows: expected at least {needed} episodes."
        )
        self.needed = needed


@dataclass(frozen=True)
class DatasetEpisodes:
    """The episodes of a dataset (`sdewm record`, `sdewm import`)."""

    directory: Path

    def windows(self, steps: int, count: int | None, seed: int) -> Episodes:
        """See `EpisodeSource`."""
        return read_episodes(self.directory, steps=steps, count=count, window_seed=seed)

    def whole(self, count: int, rows: int = 1, seed: int | None = None) -> Episodes:
        """See `EpisodeSource`."""
        enough = [length for length in self.lengths if length >= rows]
        steps = min(enough[:count], default=rows)
        return read_episodes(self.directory, steps=steps, count=count, window_seed=seed)

    def facts(self) -> dict[str, Value]:
        """Name, policy, seed and number of rows of the dataset, and the digest of its files."""
        dataset = read_dataset(self.directory)
        return {
            "data": self.directory.name,
            "data_policy": dataset.facts["policy"],
            "data_seed": dataset.facts["seed"],
            "data_rows": dataset.rows,
            "data_digest": dataset.digest[:16],
        }

    @property
    def lengths(self) -> list[int]:
        """See `EpisodeSource`."""
        return read_dataset(self.directory).lengths

    @property
    def obs(self) -> str:
        """See `EpisodeSource`."""
        return read_dataset(self.directory).facts["obs"]

    def more(self, count: int) -> str:
        """See `EpisodeSource`."""
        return f"Record or import at least {count} episodes, long enough for its settings"


@dataclass(frozen=True)
class GivenEpisodes:
    """Episodes in memory."""

    episodes: Episodes

    def windows(self, steps: int, count: int | None, seed: int) -> Episodes:
        """See `EpisodeSource`."""
        return windows_of(self.episodes, steps=steps, count=count, window_seed=seed)

    def whole(self, count: int, rows: int = 1, seed: int | None = None) -> Episodes:
        """See `EpisodeSource`."""
        steps = max(rows, self.episodes.rewards.shape[1])
        return windows_of(self.episodes, steps=steps, count=count, window_seed=seed)

    def facts(self) -> dict[str, Value]:
        """Number of rows and digest of the arrays."""
        given = self.episodes
        return {
            "data": "given arrays",
            "data_rows": given.rewards.numel(),
            "data_digest": tensors_digest(
                [given.observations, given.previous_actions, given.rewards]
            ),
        }

    @property
    def lengths(self) -> list[int]:
        """See `EpisodeSource`."""
        episodes, rows = self.episodes.rewards.shape
        return [rows] * episodes

    @property
    def obs(self) -> str:
        """See `EpisodeSource`."""
        return UNKNOWN

    def more(self, count: int) -> str:
        """See `EpisodeSource`."""
        return f"Give at least {count} episodes"


@dataclass(frozen=True)
class PlannedEpisodes:
    """Episodes that are yet to be recorded, with which settings are checked before.

    They are taken to be long enough; their numbers are zero.

    Attributes:
        count: number of episodes.
        obs: what is observed, as in `EpisodeSource`.
    """

    count: int
    obs: str

    def windows(self, steps: int, count: int | None, seed: int) -> Episodes:
        """See `EpisodeSource`."""
        rows = torch.zeros(self.count, check_count("steps", steps), 1)
        images = rows[..., None, None].byte() if self.obs == "pixels" else rows
        return windows_of(Episodes(images, rows, rows[..., 0]), steps=steps, count=count)

    def whole(self, count: int, rows: int = 1, seed: int | None = None) -> Episodes:
        """See `EpisodeSource`."""
        return self.windows(rows, count, seed or 0)

    def facts(self) -> dict[str, Value]:
        """Nothing is known of them."""
        return {}

    @property
    def lengths(self) -> list[int]:
        """Nothing is known of them."""
        return []

    def more(self, count: int) -> str:
        """See `EpisodeSource`."""
        return f"Record at least {count} (--record {count})"


@dataclass(frozen=True)
class Subject:
    """A world model with recorded episodes.

    Attributes:
        name: title of the page.
        description: of the model, in words.
        model: the world model.
        source: of the episodes.
        identity: facts that identify the model.
        absent: reasons why parts of the model are not there, by the name of the part, where they
            are known better than `model_parts.missing_part` does.
        simulator: name of the environment and action repeat, if they are known.
        remark: what every analysis is to say of its episodes; "": nothing.
    """

    name: str
    description: str
    model: LatentModel
    source: EpisodeSource
    identity: Mapping[str, Value]
    absent: Mapping[str, str] = field(default_factory=dict)
    simulator: tuple[str, int] | None = None
    remark: str = ""

    def episodes(self, steps: int, count: int | None, seed: int, fewest: int = 2) -> Episodes:
        """Windows of `steps` rows from the first `count` long enough episodes, at random places.

        Args:
            steps: rows of each window.
            count: number of episodes; None: all.
            seed: of the places.
            fewest: number of episodes that are needed; two, as standard errors are over episodes.

        Raises:
            ValueError: a count below `fewest`.
            TooFewEpisodes: fewer than `fewest` episodes.
        """
        if count is not None:
            check_count("episodes", count, minimum=fewest)
        found = self.source.windows(steps, count, seed)
        if (there := len(found.rewards)) < fewest:
            raise TooFewEpisodes(there, steps, fewest)
        return found

    def perturbable(self, episodes: Episodes, perturbation: ObservationPerturbation) -> Episodes:
        """The episodes, or a ValueError if the perturbation does not fit their observations."""
        images = episodes.observations.dtype == torch.uint8
        perturbation.check_fits(kind_of(self.source.obs, images))
        return episodes

    def missing(self, part: str) -> str | None:
        """The reason why the model has no decoder, reward, critic, policy or kl; None if it has."""
        reason = missing_part(self.model, part)
        return None if reason is None else self.absent.get(part, reason)

    def part(self, name: str) -> StateFunction | None:
        """A function of states that the model has, such as its policy, or None."""
        return getattr(self.model, name, None)

    def left_out(self, needs: Mapping[str, str]) -> dict[str, str]:
        """Reasons why results are left out, by their names.

        Args:
            needs: the part of the model that each result needs, by the name of the result.
        """
        found = {name: self.missing(part) for name, part in needs.items()}
        return {name: reason for name, reason in found.items() if reason is not None}

    def too_short(self, rows: int) -> str | None:
        """That episodes of fewer rows are left out, in a sentence; None if there are none.

        Where episodes end for good, the longer ones are those in which that did not happen.
        """
        lengths = self.source.lengths
        short = sum(length < rows for length in lengths)
        if not short:
            return None
        return (
            f"{short} of {len(lengths)} episodes have fewer than {rows} rows and are left out: all "
            "numbers are of the longer ones."
        )

    def facts(self, settings: object, seed: int) -> dict[str, Value]:
        """The facts that determine the rows of an analysis with these settings."""
        own: dict[str, Value] = {"code": code_digest(), **self.identity}
        own |= {"noise": self.model.surrogate or "exact", **self.source.facts()}
        return manifest(seed=seed) | own | asdict(settings)  # type: ignore[call-overload]
