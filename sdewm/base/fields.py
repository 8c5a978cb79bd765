"""Types of configuration fields, and the check of a configuration against its own types.

A configuration is a frozen dataclass. What a field may hold stands in its annotation:

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Network:
...     units: PositiveInt = 256
>>> check_fields(Network(units=-3), "model")
Traceback (most recent call last):
...
ValueError: model.units=-3: expected a whole number of at least 1.

A configuration is allowed exactly if `read_fields` takes its JSON. Types are strict: no number is
made of a text or of a truth value, and every float is finite. pydantic does the checking; it is
imported at the first check, so that a program that only uses the dataclasses never loads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, astuple, fields, is_dataclass
from functools import cache, reduce
from operator import getitem
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt

from sdewm.base.checks import check_choice

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
UnitInterval = Annotated[float, Ge(0), Le(1)]

Scalar = bool | int | float | str | None
Arguments = dict[str, Scalar | list[Scalar]]  # of a function of others, by name

# Metadata of a field that files of earlier versions lack. Such a field must have a default that
# means what those versions did: a file without it is read with the default. Only fields that were
# added later may have this mark; without it a missing field is an error.
LATER = {"later": True}

Configuration = TypeVar("Configuration")
KINDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text"}
WORDS = {Gt: "above", Ge: "of at least", Lt: "below", Le: "at most"}
FOREIGN = "a value that JSON cannot hold"
UNKNOWN = "unexpected_keyword_argument"  # what pydantic calls a key that is no field


def dotted(group: str, name: str) -> str:
    """The full name of a field: that of its group, a dot, its own.

    >>> dotted("model.rssm", "deter"), dotted("", "seed")
    ('model.rssm.deter', 'seed')
    """
    return f"{group}.{name}" if group else name


def field_names(kind: type, group: str = "") -> Iterator[str]:
    """Full names of the fields of a dataclass; one that is a dataclass stands for its own fields.

    >>> from dataclasses import make_dataclass
    >>> part = make_dataclass("Part", [("size", int)])
    >>> [*field_names(make_dataclass("Whole", [("seed", int), ("part", part)]))]
    ['seed', 'part.size']
    """
    for name, hint in get_type_hints(kind).items():
        if isinstance(hint, type) and is_dataclass(hint):
            yield from field_names(hint, dotted(group, name))
        else:
            yield dotted(group, name)


def later_defaults(kind: type, group: str = "") -> dict[str, Any]:
    """Defaults of the fields that files of earlier versions lack, by their full names.

    >>> from dataclasses import field, make_dataclass
    >>> later = ("limit", int | None, field(default=None, metadata=LATER))
    >>> later_defaults(make_dataclass("Run", [("seed", int), later]))
    {'limit': None}
    """
    found: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for one in fields(kind):
        name, hint = dotted(group, one.name), hints[one.name]
        if isinstance(hint, type) and is_dataclass(hint):
            found |= later_defaults(hint, name)
        elif one.metadata.get("later"):
            new = one.default_factory
            found[name] = one.default if new is MISSING else new()
    return found


def check_fields(config: object, name: str = "") -> None:
    """Check every field of a dataclass, and of the dataclasses in it, against its annotation.

    Args:
        config: an instance of a dataclass.
        name: what errors call it; empty for a whole configuration.

    Raises:
        ValueError: the full name of the first field that is wrong, its value and what is allowed.
    """
    plain = json.dumps(asdict(config), default=lambda value: {FOREIGN: [[repr(value)]]})  # type: ignore[call-overload]
    read_fields(type(config), plain, name)


def read_fields(kind: type[Configuration], text: str, name: str = "") -> Configuration:
    """The dataclass whose `asdict` is stored as JSON; every field must be there, and no other.

    A field marked as `LATER` may be missing: it has its default then, which is what the version
    did that wrote the text.

    Args:
        kind: the dataclass.
        text: JSON.
        name: what errors call it.

    Raises:
        ValueError: the text is not JSON, a field is unknown or missing, or its value not allowed.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Adam:
    ...     beta2: float = 0.999
    >>> read_fields(Adam, '{"beta": 0.99}', "optimiser")
    Traceback (most recent call last):
    ...
    ValueError: field of optimiser='beta' is not allowed; did you mean 'beta2'? Allowed: 'beta2'.
    """
    from pydantic import ValidationError

    config, errors = None, []
    try:
        (config,) = _adapter(kind).validate_json(f"[{text}]")
    except ValidationError as problem:
        errors = problem.errors(include_url=False)
    if config is None:
        unknown = [error for error in errors if error["type"] == UNKNOWN]
        _refuse(kind, name, (unknown or errors)[0], text)
    stored, later = json.loads(text), later_defaults(kind)
    for missing in field_names(kind):
        *groups, own = missing.split(".")
        there = reduce(lambda part, group: part.get(group, {}), groups, stored)
        if missing not in later and own not in there:
            raise ValueError(f"{dotted(name, missing)} is missing: expected every field.")
    return config


def read_facts(kind: type, text: str) -> dict[str, Any]:
    """The JSON object `text`, in which every field of a dataclass stands with a value of its type.

    Other entries are allowed, and returned with the rest.

    Raises:
        ValueError: the text is no JSON object, an entry is missing, or its value not allowed.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Rows:
    ...     rows: NonNegativeInt
    >>> read_facts(Rows, '{"rows": 3, "env": "gym:X"}')
    {'rows': 3, 'env': 'gym:X'}
    >>> read_facts(Rows, '{"rows": -3}')
    Traceback (most recent call last):
    ...
    ValueError: rows=-3: input should be greater than or equal to 0.
    """
    from pydantic import ValidationError

    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"it is not JSON: {problem}.") from problem
    if not isinstance(facts, dict):
        raise ValueError(f"it holds {type(facts).__name__}: expected a JSON object.")
    names = [field.name for field in fields(kind)]
    if missing := [name for name in names if name not in facts]:
        raise ValueError(f"it lacks {', '.join(missing)}.")
    known = json.dumps([{name: facts[name] for name in names}])
    try:
        _adapter(kind).validate_json(known)
    except ValidationError as problem:
        error = problem.errors(include_url=False)[0]
        place = ".".join(map(str, error["loc"][1:]))
        message = error["msg"][0].lower() + error["msg"][1:]
        raise ValueError(f"{place}={error['input']!r}: {message}.") from problem
    return facts


@cache
def _adapter(kind: type) -> Any:
    """Strict checks of one dataclass; in a tuple, as pydantic takes settings for no bare one."""
    from pydantic import ConfigDict, TypeAdapter

    settings = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    return TypeAdapter(tuple[kind], config=settings)  # type: ignore[valid-type]


def _refuse(kind: type, name: str, error: Mapping[str, Any], text: str) -> NoReturn:
    """Say what is wrong with one field, from an error of pydantic's.

    For an unknown name, those are suggested that the text lacks: it stands in the place of one.
    """
    if error["type"] == "json_invalid":
        raise ValueError(f"{name or 'the configuration'} is not JSON: {error['ctx']['error']}.")
    annotation: Any = kind
    given, path = error["input"], error["loc"][1:]
    if error["type"] == UNKNOWN:
        *path, given = path
    for depth, part in enumerate(path):
        if annotation == Arguments:  # the rest of the path is inside of one argument
            if part == FOREIGN:
                given = reduce(getitem, path[:depth], json.loads(text))
                break
            name = dotted(name, part)
            given = reduce(getitem, path[: depth + 1], json.loads(text))
            break
        annotation = get_type_hints(annotation, include_extras=True)[part]
        name = dotted(name, part)
    if error["type"] == UNKNOWN:
        stored = reduce(getitem, path, json.loads(text))
        names = [field.name for field in fields(annotation)]
        absent = [own for own in names if own not in stored]
        check_choice(f"field of {name}" if name else "field", given, absent or names)
    foreign = isinstance(given, dict) and FOREIGN in given
    if get_origin(annotation) is Literal and not foreign:
        check_choice(name, given, get_args(annotation))
    shown = given[FOREIGN][0][0] if foreign else repr(given)
    raise ValueError(f"{name or 'the configuration'}={shown}: expected {_allowed(annotation)}.")


def _allowed(annotation: Any) -> str:
    """The values of a type in words.

    >>> _allowed(PositiveInt | None), _allowed(UnitInterval)
    ('a whole number of at least 1, or None', 'a finite number of at least 0 and at most 1')
    """
    if annotation == Arguments:
        return "numbers, texts, truth values, null, or lists of them, by name"
    if get_origin(annotation) in (Union, UnionType):
        some, _ = get_args(annotation)
        return f"{_allowed(some)}, or None"
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(repr, get_args(annotation)))}"
    if get_origin(annotation) is Annotated:
        kind, *limits = get_args(annotation)
        phrases = [f"{WORDS[type(limit)]} {astuple(limit)[0]}" for limit in limits]
        return f"{KINDS[kind]} {' and '.join(phrases)}"
    return KINDS[annotation] if annotation in KINDS else f"the fields of {annotation.__name__}"
