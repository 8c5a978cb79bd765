"""What a study declares before its first run, in one TOML file.

A study of world models trains on recorded episodes; one of agents gives `env` and `env_frames` in
place of `data`, `updates` and `measured_at`, and `test_data` only for end points that need it.

name = "weights"
data = "data/cartpole"            # recorded episodes to train on (sdewm record)
test_data = "data/cartpole_test"  # other episodes, on which end points are measured
preset = "tiny"
updates = 2000
measured_at = [1000, 2000]        # numbers of updates; by default the last one only
seeds = [0, 1, 2]
end_points = ["open_loop 25", "decoded noise:0", "jacobian"]

[settings]                        # of all arms, by their names on the command line
"model.units" = 32

[arms.baseline]
[arms.paper]
"jacobian.weight" = 0.001

[[comparisons]]
claim = "C5"
arm = "paper"                     # or a list, as the end point: all are compared
baseline = "baseline"
end_point = "open_loop 25"
margin = 0.10                     # of the logarithm; smaller values are better
confirmatory = true
not_worse = "decoded noise:0"     # optional: no gain counts if this is worse
not_worse_margin = 0.05           # by more than this
minus_arm = "paper_long"          # optional, an interaction: the difference of this arm to
minus_baseline = "long"           # this baseline is subtracted, and the rest judged

[[controls]]
arm = "strong"
baseline = "baseline"
end_point = "open_loop 25"
expected = "worse"                # or "better"; if it is not, the study is void
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

from sdewm.base.checks import check_choice, check_count
from sdewm.base.fields import NonNegativeFloat, check_fields
from sdewm.study.end_points import DESCRIPTIVE, check_end_point
from sdewm.train.config import Config, check_config
from sdewm.train.presets import preset

Setting = bool | int | float | str
DECLARED = ("preset", "env", "env_frames", "updates", "seed", "keep_every_updates")  # elsewhere
ARGUMENTS = "env_kwargs."  # settings of this beginning are arguments of the constructor
NAME = r"[A-Za-z0-9_][\w.-]*"  # of a study and of its arms, which name directories
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
    """A declared study; see the head of this file."""

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


def read_study(path: Path) -> Study:
    """The study declared in a file, checked as a whole; its recorded episodes need not be there.

    Raises:
        ValueError: the file is no TOML, or something in it is missing, unknown or not allowed.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ValueError(f"study={str(path)!r} cannot be read: {problem}.") from problem
    names = [field.name for field in fields(Study)]
    for key in table:
        check_choice(f"study={str(path)!r}, entry", key, names)
    table = {**_defaults(path, table), **table}
    if missing := [name for name in names if name not in table]:
        raise ValueError(f"study={str(path)!r}: {missing[0]} is missing.")
    kinds: dict[str, type] = {
        **dict.fromkeys(("name", "data", "test_data", "env", "preset"), str),
        **dict.fromkeys(("measured_at", "seeds", "end_points", "comparisons", "controls"), list),
        **dict.fromkeys(("settings", "arms"), dict),
    }
    for name, kind in kinds.items():
        if not isinstance(table[name], kind):
            raise ValueError(f"{name}={table[name]!r}: expected {kind.__name__}.")
    study = Study(
        **{name: table[name] for name in ("name", "data", "test_data", "env", "preset")},
        updates=check_count("updates", table["updates"], minimum=1 if table["data"] else 0),
        env_frames=check_count("env_frames", table["env_frames"], minimum=1 if table["env"] else 0),
        measured_at=tuple(check_count("measured_at", one) for one in table["measured_at"]),
        seeds=tuple(check_count("seeds", seed, minimum=0) for seed in table["seeds"]),
        end_points=tuple(table["end_points"]),
        settings=table["settings"],
        arms=table["arms"],
        comparisons=_entries(Comparison, "comparisons", table["comparisons"]),
        controls=_entries(Control, "controls", table["controls"]),
    )
    _check(study)
    return study


def _defaults(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    """What may be left out, for a study of world models or of agents."""
    both = {"settings": {}, "comparisons": [], "controls": []}
    if ("data" in table) == ("env" in table):
        raise ValueError(
            f"study={str(path)!r}: expected either data with updates (world models) or env with "
            "env_frames (agents)."
        )
    if "data" in table:
        return {**both, "env": "", "env_frames": 0, "measured_at": [table.get("updates")]}
    for name in ("updates", "measured_at"):
        if name in table:
            raise ValueError(f"{name}: agents are measured at their end, after env_frames.")
    return {**both, "data": "", "test_data": "", "updates": 0, "measured_at": []}


def _entries(kind: type, name: str, entries: list[Any]) -> tuple[Any, ...]:
    """One entry for each arm and end point that an entry lists."""
    found = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise ValueError(f"{name}: {entry!r}; expected a table.")
        lists = {
            key: value for key in ("arm", "end_point") if isinstance(value := entry.get(key), list)
        }
        for key, value in lists.items():
            if not value:
                raise ValueError(f"{name}: {key}=[]; expected at least one.")
        for choice in product(*lists.values()):
            found.append(_entry(kind, name, {**entry, **dict(zip(lists, choice, strict=True))}))
    return tuple(found)


def _entry(kind: type, name: str, entry: dict[str, Any]) -> Any:
    known = [field.name for field in fields(kind)]
    for key in entry:
        check_choice(f"{name}, entry", key, known)
    try:
        made = kind(**entry)
    except TypeError as problem:
        raise ValueError(f"{name}: {problem}.") from problem
    check_fields(made, name)
    return made


def _check(study: Study) -> None:
    if not study.seeds or len({*study.seeds}) < len(study.seeds):
        raise ValueError(f"seeds={[*study.seeds]}: expected different seeds, at least one.")
    at = study.measured_at
    if study.data and ([*at] != sorted({*at}) or at[-1:] != (study.updates,)):
        raise ValueError(
            f"measured_at={[*at]}: expected rising numbers, the last of them updates="
            f"{study.updates}."
        )
    for name in (study.name, *study.arms):
        if not re.fullmatch(NAME, name):
            raise ValueError(
                f"name={name!r}: expected letters, digits, '_', '-' and '.', because it names a "
                "directory."
            )
    if len({*study.end_points}) < len(study.end_points):
        raise ValueError(f"end_points={[*study.end_points]}: expected different ones.")
    if not study.arms:
        raise ValueError("arms: expected at least one.")
    for name, settings in study.arms.items():
        if not isinstance(settings, dict):
            raise ValueError(f"arms.{name}={settings!r}: expected a table of settings.")
    for end_point in study.end_points:
        check_end_point(end_point, agents=bool(study.env), episodes=bool(study.test_data))
    asked: set[tuple[str, ...]] = set()
    for one in (*study.comparisons, *study.controls):
        question = _check_question(one, study)
        if question in asked:
            raise ValueError(f"{', '.join(filter(None, question))}: declared twice.")
        asked.add(question)
    known: dict[str, Config] = {}
    for cell in study.cells:
        if cell.seed != study.seeds[0] and cell.arm != [*study.arms][0]:
            continue  # each arm and each seed once: no setting depends on both
        config = study.config(cell)
        if study.env and (decay := config.comparator.average_decay):
            raise ValueError(
                f"arm={cell.arm!r}: comparator.average_decay={decay:g} in a study of agents; "
                "expected 0, because their returns are those of the weights and not of their mean."
            )
        if cell.seed == study.seeds[0]:
            for arm, other in known.items():
                if config == other:
                    raise ValueError(f"arm={cell.arm!r} has the configuration of {arm!r}.")
            known[cell.arm] = config
        warm = config.optimiser.warmup_updates
        if "gradient_tail" in study.end_points and at and at[0] <= warm:
            raise ValueError(
                f"measured_at={[*at]}: expected more than the {warm} updates of the warm-up, which "
                "'gradient_tail' leaves out."
            )


def _check_question(one: Comparison | Control, study: Study) -> tuple[str, ...]:
    """Check one comparison or control; return what it asks."""
    kind = "comparison" if isinstance(one, Comparison) else "control"
    check_choice("arm", one.arm, study.arms)
    check_choice("baseline", one.baseline, study.arms)
    if one.arm == one.baseline:
        raise ValueError(f"arm={one.arm!r}: expected another arm than its baseline.")
    check_choice("end_point", one.end_point, study.end_points)
    question = (kind, one.arm, one.baseline, one.end_point)
    if not isinstance(one, Comparison):
        return question
    for name in ("end_point", "not_worse"):
        if getattr(one, name).partition(" ")[0] in DESCRIPTIVE:
            raise ValueError(
                f"{name}={getattr(one, name)!r} of a comparison: smaller is not better, or it is "
                f"no logarithm; expected another than {', '.join(DESCRIPTIVE)}."
            )
    if one.not_worse:
        check_choice("not_worse", one.not_worse, study.end_points)
    if one.minus_arm or one.minus_baseline:
        check_choice("minus_arm", one.minus_arm, study.arms)
        check_choice("minus_baseline", one.minus_baseline, study.arms)
        if one.minus_arm == one.minus_baseline:
            raise ValueError(
                f"minus_arm={one.minus_arm!r}: expected another arm than minus_baseline."
            )
        if (one.minus_arm, one.minus_baseline) == (one.arm, one.baseline):
            raise ValueError(
                f"minus_arm={one.minus_arm!r}: the difference of {one.arm!r} to {one.baseline!r} "
                "would be subtracted from itself."
            )
    return (*question, one.minus_arm, one.minus_baseline)
