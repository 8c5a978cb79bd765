"""Command line, system and output files of the figure scripts for the theory."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from matplotlib.figure import Figure

from sdewm.base.checks import check_choice, check_count, check_device
from sdewm.base.records import ROOT, Row, manifest, write_table
from sdewm.plots.style import save_figure

CASE = ("f", "g", "x0", "t1", "loss", "error_diffusion")  # attributes of a system with its case


def read_options(
    description: str,
    ready: ModuleType,
    defaults: Mapping[str, Any],
    arguments: Sequence[str] | None = None,
    needed: Sequence[str] = CASE,
) -> argparse.Namespace:
    """The options of a figure script; `options.case` is the system, created without arguments.

    Args:
        description: description of the figure, shown by --help.
        ready: module whose `__all__` lists the example systems.
        defaults: defaults of system, driver, paths and steps; an option without a default is not
            offered.
        arguments: the command line; None: that of the process.
        needed: attributes that a user's system must have for this figure.

    Raises:
        SystemExit: with code 2 and a message, if an option is invalid.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    texts: dict[str, tuple[Callable[[str], Any], str]] = {
        "system": (str, f"example system, or MODULE:CLASS with attributes {', '.join(needed)}"),
        "driver": (str, "driver of the error diffusion: same or independent"),
        "paths": (_whole, "number of sample paths"),
        "steps": (_whole, "number of Euler–Maruyama steps"),
    }
    for name, (kind, text) in texts.items():
        if defaults.get(name) is not None:
            parser.add_argument(f"--{name}", type=kind, default=defaults[name], help=text)
    parser.add_argument("--seed", type=_whole, default=0, help="root seed")
    parser.add_argument("--device", default="cpu", help="device of computation: cpu, cuda[:index]")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="output folder")
    for action in parser._actions:
        if action.dest == "out":
            action.help, action.default = "output folder (default: figures/)", argparse.SUPPRESS
    options = parser.parse_args(arguments)
    options.out = getattr(options, "out", ROOT / "figures")
    try:
        for name, minimum in (("paths", 2), ("steps", 1), ("seed", 0)):
            if hasattr(options, name):
                setattr(options, name, check_count(f"--{name}", getattr(options, name), minimum))
        if hasattr(options, "driver"):
            check_choice("--driver", options.driver, ("same", "independent"))
        options.device = str(check_device(options.device))
        if hasattr(options, "system"):
            options.case = load_case(options.system, ready, needed)
    except ValueError as error:
        parser.error(str(error))
    return options


def load_case(name: str, ready: ModuleType, needed: Sequence[str] = CASE) -> Any:
    """The system `name`: one of `ready.__all__`, or MODULE:CLASS, importable from this directory.

    Raises:
        ValueError: the name, module or class is unknown, or the class lacks a required attribute.
    """
    if ":" not in name:
        return getattr(ready, check_choice("--system", name, ready.__all__))()
    module_name, _, class_name = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"--system={name!r}: {error}") from error
    finally:
        sys.path.pop(0)
    if class_name not in vars(module):
        raise ValueError(f"--system={name!r}: {module_name} has no class {class_name!r}.")
    case = getattr(module, class_name)()
    missing = [attribute for attribute in needed if getattr(case, attribute, None) is None]
    if missing:
        raise ValueError(
            f"--system={name!r} lacks {', '.join(missing)}; expected a class with attributes "
            f"{', '.join(needed)}."
        )
    return case


def write_figure(
    figure: Figure, rows: Sequence[Row], options: argparse.Namespace, stem: str
) -> None:
    """Write <stem>.png, <stem>.pdf and data/<stem>.csv (the plotted data) and print the paths."""
    names = ("system", "driver", "paths", "steps", "device")
    settings = {name: getattr(options, name) for name in names if hasattr(options, name)}
    table = options.out / "data" / f"{stem}.csv"
    write_table(table, rows, manifest(seed=options.seed, **settings))
    for path in (*save_figure(figure, options.out, stem), table):
        print(path)


def _whole(text: str) -> int | float:
    """A whole number, also written as 1e6."""
    return int(text) if text.lstrip("-").isdigit() else float(text)
