"""Parsing of a command's arguments, exit codes, and one-sentence messages on the terminal."""

from __future__ import annotations

import difflib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from sdewm.base.checks import check_choice
from sdewm.base.fields import Arguments, dotted, field_names

FAILURE, USAGE = 1, 2  # exit codes: something went wrong; the arguments are wrong, nothing began
KWARGS = "--env-kwargs"
PYTHONS = {"True": True, "False": False, "None": None}
REGISTRY = ConstructorRegistry()
Given = TypeVar("Given")


def parse(kind: type[Given], words: list[str], command: str, **options: Any) -> Given:
    """The arguments of `sdewm COMMAND`, parsed into the dataclass `kind`.

    Raises:
        ValueError: an option that is no field; names the nearest one.
        SystemExit: wrong values, after a message; or `--help`, after the help.
    """
    words = _gathered(words)
    _check_options(kind, words, command)
    given = tyro.cli(kind, args=words, prog=f"sdewm {command}", registry=REGISTRY, **options)
    return replace(given, **{name: _at_home(name, value) for name, value in vars(given).items()})  # type: ignore[type-var]


def read_value(text: str) -> Any:
    """A value of the command line: JSON, or Python's True, False and None, else the text itself.

    >>> [read_value(text) for text in ("8", "0.5", "false", "True", "[1, 2]", "8x8", '"8"')]
    [8, 0.5, False, True, [1, 2], '8x8', '8']
    """
    if text in PYTHONS:
        return PYTHONS[text]
    try:
        return json.loads(text, parse_constant=lambda name: name)
    except json.JSONDecodeError:
        return text


def _gathered(words: list[str]) -> list[str]:
    """The words with all --env-kwargs.NAME VALUE in one --env-kwargs JSON."""
    found: dict[str, Any] = {}
    others: list[str] = []
    left = iter(words)
    for word in left:
        option, equals, text = word.partition("=")
        prefix, _, name = option.partition(".")
        if prefix.replace("_", "-") != KWARGS or not name:
            others.append(word)
            continue
        value = text if equals else next(left, None)
        if value is None:
            raise ValueError(f"{option}: expected a value after it.")
        found[name] = read_value(value)
    if found and any(word.partition("=")[0].replace("_", "-") == KWARGS for word in others):
        raise ValueError(f"{KWARGS} and {KWARGS}.{next(iter(found))} are both given: expected one.")
    return [*others, KWARGS, json.dumps(found)] if found else others


@REGISTRY.primitive_rule
def _arguments(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Arguments of others' functions are one JSON object on the command line."""
    if info.type != Arguments:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda words: json.loads(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def _at_home(name: str, value: Any) -> Any:
    """Paths with ~ replaced by the home directory, which no shell does in --run=~/x."""
    if isinstance(value, tuple):
        return tuple(_at_home(name, one) for one in value)
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError as problem:
        raise ValueError(f"{name}={str(value)!r}: there is no such home directory.") from problem


def say(sentence: object, code: int) -> int:
    """Write one sentence to the terminal and return the exit code."""
    sys.stderr.write(f"sdewm: {sentence}\n")
    return code


def _check_options(kind: type, words: list[str], command: str) -> None:
    """Refuse an option that is no field; for `--model.unitz`, the fields of `model` are named."""
    names = [name.removeprefix("config.").replace("_", "-") for name in field_names(kind)]
    for word in words:
        option = word.removeprefix("--").split("=")[0].replace("_", "-")
        part, _, own = option.rpartition(".")
        known = {option, dotted(part, own.removeprefix("no-"))} & {*names, "help"}
        if known or not word.startswith("--"):
            continue
        if part and (siblings := [name for name in names if name.rpartition(".")[0] == part]):
            check_choice(f"option of --{part}", own, [name[len(part) + 1 :] for name in siblings])
        near = difflib.get_close_matches(option, names, n=1)
        hint = f" Did you mean --{near[0]}?" if near else ""
        raise ValueError(f"--{option} is not allowed.{hint} See sdewm {command} --help.")
