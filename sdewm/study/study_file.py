"""The TOML file in which a study is declared before its first run.

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

import re
import tomllib
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

from sdewm.base.checks import check_choice, check_count
from sdewm.base.fields import check_fields
from sdewm.study.declaration import Comparison, Control, Study
from sdewm.study.end_points import DESCRIPTIVE, check_end_point
from sdewm.train.config import Config

NAME = r"[A-Za-z0-9_][\w.-]*"  # of a study and of its arms, which name directories


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
