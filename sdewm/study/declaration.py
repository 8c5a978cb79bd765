"""What a study declares before its first run: arms, seeds, end points, comparisons and controls.

`study_file` describes the file in which it is declared, and reads and checks it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from sdewm.base.checks import check_choice
from sdewm.base.fields import NonNegativeFloat
from sdewm.train.config import Config, check_config
from sdewm.train.presets import preset

Setting = bool | int | float | str
DECLARED = ("preset", "env", "env_frames", "updates", "seed", "keep_every_updates")  # elsewhere
ARGUMENTS = "env_kwargs."  # settings of this beginning are arguments of the constructor
# Left out of the digest of studies that do not have them.
NEW = ("env", "env_frames", "minus_arm", "minus_baseline")


@dataclass(frozen=True)
class Comparison:
    """An arm against a baseline, by an end point of which smaller values are better.

    A gain counts only if another end point, such as the clean error, is not worse by its margin.
    An interaction is the difference of two such differences, both paired by seed.
    """

    claim: str
    arm: str
    baseline: str
    end_point: str
    margin: NonNegativeFloat = 0.1
    confirmatory: bool = True
    not_worse: str = ""
    not_worse_margin: NonNegativeFloat = 0.05
    minus_arm: str = ""
    minus_baseline: str = ""

    @property
    def against(self) -> str:
        """The baseline, in words for a table."""
        if not self.minus_arm:
            return self.baseline
        return f"{self.baseline}, minus that of {self.minus_arm} to {self.minus_baseline}"


@dataclass(frozen=True)
class Control:
    """What must be seen for the study to mean anything."""

    arm: str
    baseline: str
    end_point: str
    expected: Literal["better", "worse"]


@dataclass(frozen=True)
class Cell:
    """One run: an arm with a seed."""

    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its directory."""
        return f"{self.arm}-seed{self.seed}"


@dataclass(frozen=True)
class Study:
    """A declared study; `study_file` describes its entries."""

    name: str
    data: str  # "" for agents
    test_data: str
    env: str  # "" for world models
    preset: str
    updates: int  # 0 for agents
    env_frames: int  # 0 for world models
    measured_at: tuple[int, ...]  # updates; empty for agents, measured at the end
    seeds: tuple[int, ...]
    end_points: tuple[str, ...]
    settings: dict[str, Setting]
    arms: dict[str, dict[str, Setting]]
    comparisons: tuple[Comparison, ...]
    controls: tuple[Control, ...]

    @cached_property
    def digest(self) -> str:
        """Of everything declared: rows of another declaration are not rows of this study."""
        declared = _without_new(asdict(self))
        declared["comparisons"] = [*map(_without_new, declared["comparisons"])]
        text = json.dumps(declared, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def cells(self) -> list[Cell]:
        """All runs, seed by seed."""
        return [Cell(arm, seed) for seed in self.seeds for arm in self.arms]

    @property
    def length(self) -> str:
        """How long each cell is trained, with its unit."""
        return f"{self.updates} updates" if self.data else f"{self.env_frames} env_frames"

    def all_settings(self, cell: Cell) -> dict[str, Setting]:
        """The settings of a cell that differ from the preset's, by their dotted names."""
        return {**self.settings, **self.arms[cell.arm]}

    @property
    def keep_every_updates(self) -> int:
        """Interval of the weights to be kept, so that they are at all `measured_at`."""
        return math.gcd(*self.measured_at)

    def config(self, cell: Cell) -> Config:
        """The configuration of a cell."""
        length = {"updates": self.updates} if self.data else {"env_frames": self.env_frames}
        place = {} if self.data else {"env": self.env}
        base = preset(self.preset, seed=cell.seed, **length, **place)
        kept = replace(base, keep_every_updates=self.keep_every_updates)
        return with_settings(kept, self.all_settings(cell))

    def words(self, cell: Cell, run: Path) -> list[str]:
        """The arguments of `sdewm` that train a cell."""
        words = ["train", "--preset", self.preset, "--seed", str(cell.seed), "--run", str(run)]
        if self.data:
            words += ["--world-model-only", "--data", self.data, "--updates", str(self.updates)]
            words += ["--keep-every-updates", str(self.keep_every_updates)]
        else:
            words += ["--env", self.env, "--env-frames", str(self.env_frames)]
        for name, value in self.all_settings(cell).items():
            flag = name.replace("_", "-")
            if name.startswith(ARGUMENTS):
                words += [f"--{name}", json.dumps(value)]
            elif isinstance(value, bool):
                before, _, last = flag.rpartition(".")
                off = f"{before}.no-{last}" if before else f"no-{last}"
                words.append(f"--{flag if value else off}")
            else:
                words += [f"--{flag}", str(value)]
        return words


def _without_new(declared: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in declared.items() if value or name not in NEW}


def with_settings(config: Config, settings: dict[str, Setting]) -> Config:
    """The configuration with other fields, by dotted names; its device need not be here.

    Raises:
        ValueError: an unknown field, or a value that is not allowed.

    >>> with_settings(preset("tiny"), {"jacobian.weight": 0.1}).jacobian.weight
    0.1
    """
    for name, value in settings.items():
        if name.replace("-", "_") in DECLARED:
            raise ValueError(
                f"setting {name!r}: it follows from the rest of the declaration; expected other "
                "settings."
            )
        if name.startswith(ARGUMENTS):
            added = {name.removeprefix(ARGUMENTS): value}
            config = replace(config, env_kwargs=config.env_kwargs | added)
        else:
            config = _changed(config, name.replace("-", "_").split("."), value, name)
    check_config(replace(config, device="cpu"))  # a study may be read where it cannot run
    return config


def _changed(part: Any, path: list[str], value: Setting, name: str) -> Any:
    if not is_dataclass(part) or isinstance(part, type):
        raise ValueError(f"setting {name!r}: {path[0]} is part of no group of settings.")
    here = check_choice(f"setting {name!r}, {path[0]}", path[0], [f.name for f in fields(part)])
    if len(path) == 1:
        return replace(part, **{here: value})
    return replace(part, **{here: _changed(getattr(part, here), path[1:], value, name)})


def penalty_weights(study: Study) -> dict[str, float]:
    """The arms that set the weight of the penalty and nothing else, with their weights."""
    return {
        arm: float(settings["jacobian.weight"])
        for arm, settings in study.arms.items()
        if [*settings] == ["jacobian.weight"]
    }
