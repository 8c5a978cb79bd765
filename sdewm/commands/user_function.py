"""Functions of users' files, named on the command line as `FILE.py:FUNCTION`."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
            with self._folder_first():
                return function()
        except (Exception, SystemExit) as problem:
            raise ValueError(
                f"{self.name} is called without arguments and raised {_told(problem)}"
            ) from problem

    def _module(self) -> Any:
        free = self.path.stem not in sys.modules
        name = self.path.stem if free else str(self.path.resolve())
        spec = importlib.util.spec_from_file_location(name, self.path)
        assert spec is not None and spec.loader is not None  # a file .py
        module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses ask there
        try:
            with self._folder_first():
                spec.loader.exec_module(module)
        except (Exception, SystemExit) as problem:
            del sys.modules[name]
            raise ValueError(f"{self.path} cannot be run: {_told(problem)}") from problem
        return module

    @contextmanager
    def _folder_first(self) -> Iterator[None]:
        """Imports look in the folder of the file first, as with `python file.py`; later last."""
        folder = str(self.path.parent.resolve())
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
            if folder not in sys.path:
                sys.path.append(folder)


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


def _told(problem: BaseException) -> str:
    """Type, message and line of an error, in one line."""
    last = problem.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = __file__ if last is None else last.tb_frame.f_code.co_filename
    place = ""
    if last is not None and where != __file__:
        place = f" ({Path(where).name}, line {last.tb_lineno})"
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}{place}"
