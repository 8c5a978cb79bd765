"""What all figure scripts share: options, the system drawn, and the files written."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sdewm.base.checks import check_choice, check_count, check_device
from sdewm.base.records import (
    ROOT,
    Row,
    manifest,
    read_table,
    require_writable,
    write_table,
)
from sdewm.plots.panels import Drawing, check_drawing, check_panel, save_figure
from sdewm.plots.style import PAGE

CASE = ("f", "g", "x0", "t1", "loss", "error_diffusion")  # attributes of a system with its case
WIDTH_HELP = "width of the figure in inches: 3.4 for one column of a page, 7 for both"
PANEL_HELP = "letter of a single panel to draw, into <name>_<letter>"


@dataclass(frozen=True)
class FigureScript:
    """A script that measures on a system, writes a table and draws it.

    Attributes:
        stem: name of its files.
        ready: module whose `__all__` names the ready systems.
        defaults: values of system, driver, paths and steps where the user gives none.
        measure: options -> rows.
        drawing: (rows, facts of the table) -> what is drawn.
        panels: options -> number of panels.
        needed: attributes that the figure needs of a system of the user.
    """

    stem: str
    ready: ModuleType
    defaults: Mapping[str, Any]
    measure: Callable[[argparse.Namespace], list[dict[str, Any]]]
    drawing: Callable[[Sequence[Any], Mapping[str, str]], Drawing]
    panels: Callable[[argparse.Namespace], int]
    needed: Sequence[str] = CASE

    def run(self, description: str, arguments: Sequence[str] | None = None) -> None:
        """Measure and write the table, or with --redraw take the one that is there; then draw.

        Raises:
            SystemExit: with code 2 and one sentence, for an option that cannot be used, such as a
                folder that cannot be written to.
        """
        parser = _parser(description, self.defaults, self.needed)
        options = _read_options(parser, self.ready, arguments, self.needed)
        table = options.out / "data" / f"{self.stem}.csv"
        try:
            if options.redraw:
                _check_redraw(options, parser, table)
            else:
                check_panel(options.panel, self.panels(options))
                require_writable(options.out, table.parent)
                write_rows(self.measure(options), options, table)
            rows, facts = read_table(table)
            drawing = self.drawing(rows, facts)
            paths = save_figure(drawing, options.out, self.stem, options.width, options.panel)
        except (ValueError, OSError) as error:
            parser.error(str(error))
        for path in (*paths, table):
            print(path)


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """The options --width and --panel of every figure script."""
    parser.add_argument("--width", type=float, default=PAGE, help=WIDTH_HELP)
    parser.add_argument("--panel", help=PANEL_HELP)


def _parser(
    description: str, defaults: Mapping[str, Any], needed: Sequence[str]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    texts: dict[str, tuple[Callable[[str], Any], str]] = {
        "system": (str, f"ready system, or MODULE:CLASS with {', '.join(needed)}"),
        "driver": (str, "driver of the error: same or independent"),
        "paths": (_whole, "sample paths"),
        "steps": (_whole, "steps of the scheme"),
    }
    for name, (kind, text) in texts.items():
        if defaults.get(name) is not None:
            parser.add_argument(f"--{name}", type=kind, default=defaults[name], help=text)
    parser.add_argument("--seed", type=_whole, default=0, help="root seed")
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:index]")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the files")
    redraw = "draw the table in the folder data/ of --out; measure nothing"
    parser.add_argument("--redraw", action="store_true", help=redraw)
    add_drawing_options(parser)
    for action in parser._actions:
        if action.dest == "out":
            action.help, action.default = "folder of the files (figures/)", argparse.SUPPRESS
    return parser


def _read_options(
    parser: argparse.ArgumentParser,
    ready: ModuleType,
    arguments: Sequence[str] | None,
    needed: Sequence[str],
) -> argparse.Namespace:
    """The checked options; `options.case` is the system, made without arguments."""
    options = parser.parse_args(arguments)
    options.out = getattr(options, "out", ROOT / "figures")
    try:
        check_drawing(options.width, options.panel)
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
    """The system called `name`: one of `ready.__all__`, or MODULE:CLASS found from here.

    Raises:
        ValueError: unknown name, module or class, or a class that lacks what a case needs.
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
        raise ValueError(f"--system={name!r} lacks {', '.join(missing)}; expected {tuple(needed)}.")
    return case


def write_rows(rows: Sequence[Row], options: argparse.Namespace, table: Path) -> None:
    """Write the table with the facts needed to measure it again."""
    names = ("system", "driver", "paths", "steps", "device")
    settings = {name: getattr(options, name) for name in names if hasattr(options, name)}
    write_table(table, rows, manifest(seed=options.seed, **settings))


def _check_redraw(
    options: argparse.Namespace, parser: argparse.ArgumentParser, table: Path
) -> None:
    """That there is a table, and no option that would measure another one."""
    if not table.is_file():
        raise ValueError(f"--redraw: there is no table {table}; leave it out to measure one.")
    names = ("system", "driver", "paths", "steps", "seed", "device")
    given = [
        f"--{name}"
        for name in names
        if hasattr(options, name) and getattr(options, name) != parser.get_default(name)
    ]
    if given:
        raise ValueError(f"--redraw draws the table as it is: leave out {', '.join(given)}.")


def _whole(text: str) -> int | float:
    """A whole number, also written as 1e6."""
    return int(text) if text.lstrip("-").isdigit() else float(text)
