"""Parsing of a command's arguments, exit codes, and one-sentence messages on the terminal."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

import tyro

FAILURE, USAGE = 1, 2  # exit codes: a failure; arguments that are not allowed, before any work
Arguments = TypeVar("Arguments")


def parse(kind: type[Arguments], words: list[str], command: str, **options: Any) -> Arguments:
    """The arguments of `sdewm COMMAND`, parsed into the dataclass `kind`.

    Raises:
        SystemExit: after an error message for wrong arguments, or after the help for `--help`.
    """
    return tyro.cli(kind, args=words, prog=f"sdewm {command}", **options)


def say(sentence: object, code: int) -> int:
    """Write one sentence to the terminal and return the exit code."""
    sys.stderr.write(f"sdewm: {sentence}\n")
    return code
