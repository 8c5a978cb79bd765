"""Functions of users' files, named on the command line as `FILE.py:FUNCTION`."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdewm.base.checks import check_choice

SUFFIX = ".py"


@dataclass(frozen=True)
class UserFunction:
    """A function in a file of the user's.

    Attributes:
        path: of the file.
        function: its name.
    """

    path: Path
    function: str

    @property
    def name(self) -> str:
        """File and function, without the folder."""
        return f"{self.path.name}:{self.function}"

    @property
    def digest(self) -> str:
        """SHA-256 of the file, 16 hexadecimal digits."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    def load(self) -> Callable[..., Any]:
        """Run the file, and return the function.

        Raises:
            ValueError: the file cannot be run, or has no such function.
        """
        module = self._module()
        functions = [name for name, value in vars(module).items() if callable(value)]
        check_choice(f"function of {self.path.name}", self.function, functions)
        return getattr(module, self.function)

    def call(self) -> Any:
        """Run the file, and call the function without arguments.

        Raises:
            ValueError: as `load`, or the function raises an error.
        """
        function = self.load()
        try:
            return function()
        except Exception as problem:
            raise ValueError(
                f"{self.name} is called without arguments and raised {_told(problem)}"
            ) from problem

    def _module(self) -> Any:
        spec = importlib.util.spec_from_file_location(self.path.stem, self.path)
        assert spec is not None and spec.loader is not None  # a file .py
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(self.path.parent.resolve()))  # as `python file.py` does
        try:
            spec.loader.exec_module(module)
        except Exception as problem:
            raise ValueError(f"{self.path} cannot be run: {_told(problem)}") from problem
        finally:
            sys.path.pop(0)
        return module


def user_function(option: str, text: str) -> UserFunction | None:
    """The function that `FILE.py:FUNCTION` names; None if the text names no file .py.

    Args:
        option: for messages.
        text: as it was typed.

    Raises:
        ValueError: there is no such file, or no function is named.
    """
    path, colon, function = text.rpartition(":")
    if not colon or not path.endswith(SUFFIX):
        if not text.endswith(SUFFIX):
            return None
        path, function = text, ""
    if not Path(path).expanduser().is_file():
        raise ValueError(f"{option}={text!r}: there is no file {path}.")
    if not function:
        raise ValueError(f"{option}={text!r}: expected {path}:FUNCTION.")
    return UserFunction(Path(path).expanduser(), function)


def _told(problem: Exception) -> str:
    """Type, message and line of an error, in one line."""
    last = problem.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = __file__ if last is None else last.tb_frame.f_code.co_filename
    place = ""
    if last is not None and where != __file__:
        place = f" ({Path(where).name}, line {last.tb_lineno})"
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}{place}"
