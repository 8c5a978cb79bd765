"""The floors of the package, derived from its imports and held against FLOORS.

The floor of a folder is the length of the longest chain of folders below it: a folder that imports
nothing of ours stands on floor 0. So no import points up or sideways, whatever the table says; the
table makes every change of the structure a deliberate one.
"""

import ast
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OWN = ("sdewm", "analysis", "paper_checks", "tests")
FORBIDDEN_NAMES = {"utils", "tools", "common", "misc", "helpers"}

# Folder, or file, of sdewm: its floor.
FLOORS = {
    "base": 0,
    "plots": 1,
    "certificates": 2,
    "sde": 1,
    "jacobian": 1,
    "data": 1,
    "perturbations": 1,
    "theory": 3,
    "model": 2,
    "latent_sde": 4,
    "train": 3,
    "model_theorems": 5,
    "open_loop": 5,
    "robustness": 4,
    "report": 6,
    "study": 6,
    "related": 7,
    "commands": 7,
    "scripts": 7,
    "cli": 8,
}


def imported(path: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Absolute dotted names that a file imports anywhere in it, `from a import b` giving `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *filter(None, [node.module])))
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif (  # importlib.import_module("torchsde"), __import__("torchsde")
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


class Tree:
    """The Python files of a checkout by their module name, a package under its folder's name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths: dict[str, Path] = {}
        self.imports: dict[str, set[str]] = {}
        for path in sorted(path for top in OWN for path in (root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            package = parts[:-1]
            name = ".".join(package if parts[-1] == "__init__" else parts)
            self.paths[name] = path
            self.imports[name] = set(imported(path, package))

    def module(self, name: str) -> str:
        """The longest beginning of a dotted name that is a file here; itself if there is none."""
        parts = name.split(".")
        beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((one for one in beginnings if one in self.paths), name)

    def graph(self) -> dict[str, set[str]]:
        """Modules of sdewm by the modules of sdewm that each imports, its front left out."""
        return {
            name: {self.module(target) for target in targets if target.startswith("sdewm.")}
            for name, targets in self.imports.items()
            if name.startswith("sdewm.")
        }

    def folders(self) -> dict[str, set[str]]:
        """Folders of sdewm by the other folders that each imports."""
        found: dict[str, set[str]] = {}
        for name, targets in self.graph().items():
            own = name.split(".")[1]
            others = {target.split(".")[1] for target in targets} - {own}
            found.setdefault(own, set()).update(others)
        return found


def derived_floors(folders: dict[str, set[str]]) -> dict[str, int]:
    """Longest chain of imports below each folder.

    Raises:
        CycleError: two folders import each other, directly or through others.
    """
    floors: dict[str, int] = {}
    for folder in TopologicalSorter(folders).static_order():
        floors[folder] = 1 + max((floors[below] for below in folders[folder]), default=-1)
    return floors


def structure_violations(tree: Tree) -> Iterator[str]:
    """Cycles, and folders that do not stand where FLOORS says."""
    try:
        [*TopologicalSorter(tree.graph()).static_order()]
        floors = derived_floors(tree.folders())
    except CycleError as cycle:
        yield f"imports go round: {' <- '.join(cycle.args[1])}"
        return
    for folder in sorted({*floors, *FLOORS}):
        if folder not in FLOORS:
            yield f"{folder} has no place in the table of floors"
        elif folder not in floors:
            yield f"{folder} is in the table of floors but not in sdewm"
        elif floors[folder] != FLOORS[folder]:
            below = max(tree.folders()[folder], key=floors.get, default="nothing")
            yield (
                f"{folder} stands on floor {floors[folder]}, as it imports {below}; the table "
                f"says {FLOORS[folder]}"
            )


def file_violations(tree: Tree, name: str) -> Iterator[str]:
    """Breaches that one file shows."""
    module, names = tuple(name.split(".")), tree.imports[name]
    if forbidden := FORBIDDEN_NAMES.intersection(module):
        yield f"the name {min(forbidden)} says nothing; name the one concept"
    tops = {target.split(".")[0] for target in names}
    if module[0] == "sdewm":
        yield from (f"sdewm never imports {top}" for top in sorted(tops & set(OWN) - {"sdewm"}))
        if "torchsde" in tops and name != "sdewm.sde.solve":
            yield "only sde/solve.py calls torchsde"
        folder = name if tree.paths[name].name == "__init__.py" else ".".join(module[:-1])
        for target in sorted(names if name != "sdewm" else ()):
            if target.split(".")[0] != "sdewm" or (name, target) == ("sdewm.cli", "sdewm"):
                continue  # the command line stands above the front
            found = tree.module(target)
            if found not in tree.paths:
                yield f"imports {target}, which is not there"
            elif found == "sdewm":
                yield f"imports {target}: a part of the package never imports its front"
            elif found == folder and found != name:
                yield f"imports {target}: name a file, not the front of its own folder"
    elif module[0] in ("analysis", "paper_checks"):
        allowed = {"sdewm", "paper_checks"} if module[0] == "paper_checks" else {"sdewm"}
        siblings = {other.stem for other in tree.paths[name].parent.glob("*.py")}
        for top in sorted(tops & (_scripts(siblings, module[0]) | set(OWN)) - allowed):
            yield f"imports {top}: {module[0]} imports sdewm only"


def _scripts(siblings: Iterable[str], top: str) -> set[str]:
    """Names by which a script could import its neighbour."""
    return set(siblings) if top == "analysis" else set()


def violations(root: Path) -> list[str]:
    """Every breach of the layout in a checkout, one line each; empty if there is none."""
    tree = Tree(root)
    found = [
        f"{path.relative_to(root).as_posix()}: {line}"
        for name, path in tree.paths.items()
        for line in file_violations(tree, name)
    ]
    return found or [*structure_violations(tree)]


def test_every_file_keeps_its_floor():
    assert violations(ROOT) == []


def small_tree() -> dict[str, str]:
    """A tree without a breach that has every folder of FLOORS on its floor."""
    files = {"sdewm/__init__.py": "from sdewm.sde.solve import f"}
    ordered = sorted(FLOORS, key=FLOORS.__getitem__)
    for folder in ordered:
        below = next((name for name in ordered if FLOORS[name] == FLOORS[folder] - 1), None)
        text = f"import sdewm.{below}" if below else "import math"
        if (ROOT / "sdewm" / folder).is_dir():
            files |= {f"sdewm/{folder}/__init__.py": "", f"sdewm/{folder}/first.py": text}
        else:
            files[f"sdewm/{folder}.py"] = text
    return files


GOOD = {
    "sdewm/sde/noise/__init__.py": "from sdewm.sde.noise.grid import Noise",
    "sdewm/sde/noise/grid.py": "from ...base import first",
    "sdewm/sde/solve.py": "import torchsde\nfrom .noise import Noise\nfrom . import system",
    "sdewm/sde/system.py": "from sdewm.base.first import require",
    "sdewm/theory/expansion/__init__.py": "",
    "sdewm/theory/expansion/terms.py": "from sdewm.sde import solve\nimport sdewm.sde.system",
    "analysis/fig_curve.py": "import torchsde\nimport sdewm\nfrom sdewm.plots import first",
    "paper_checks/check_terms.py": "",
    "paper_checks/__main__.py": "import sdewm\nfrom paper_checks import check_terms",
}
BASE, NOISE = "sdewm/base/first.py", "sdewm/sde/noise/grid.py"
SYSTEM, TERMS = "sdewm/sde/system.py", "sdewm/theory/expansion/terms.py"
BAD = {
    "upward": (BASE, "import sdewm.sde.system", "imports go round"),
    "upward, from": (NOISE, "from sdewm import theory", "imports go round"),
    "upward, relative": (NOISE, "from ...theory.expansion import terms", "imports go round"),
    "inside a function": (NOISE, "def f():\n    import sdewm.theory.first", "imports go round"),
    "by string": (BASE, "import importlib\nimportlib.import_module('sdewm.sde')", "go round"),
    "sideways": (TERMS, "from sdewm.train import first", "theory stands on floor 4, as it imports"),
    "round in a folder": (SYSTEM, "from sdewm.sde.solve import f", "go round: sdewm.sde."),
    "round, relative": (SYSTEM, "from .solve import f", "imports go round"),
    "own folder's front": (NOISE, "from sdewm.sde.noise import f", "not the front of its own"),
    "the package's front": (NOISE, "from sdewm import expand", "never imports its front"),
    "bare package": (NOISE, "import sdewm", "sdewm: a part of the package never imports its"),
    "checks from sdewm": ("sdewm/__init__.py", "import paper_checks", "never imports paper_checks"),
    "analysis from sdewm": (
        "sdewm/base/first.py",
        "import analysis.fig_x",
        "never imports analysis",
    ),
    "second torchsde": (NOISE, "import torchsde", "only sde/solve.py"),
    "second torchsde, from": (TERMS, "from torchsde import sdeint", "only sde/solve.py"),
    "second torchsde, string": (NOISE, "__import__('torchsde')", "only sde/solve.py"),
    "unknown folder": ("sdewm/extras/thing.py", "", "extras has no place"),
    "unknown file": (NOISE, "import sdewm.sdr.system", "never imports its front"),
    "nameless file": ("paper_checks/utils.py", "", "the name utils says nothing"),
    "nameless folder": ("analysis/helpers/rows.py", "", "the name helpers says nothing"),
    "analysis on checks": ("analysis/fig_curve.py", "import paper_checks", "imports sdewm only"),
    "script on script": ("analysis/fig_b.py", "import fig_curve", "imports sdewm only"),
    "script on package": ("analysis/fig_b.py", "from analysis import fig_curve", "imports sdewm"),
    "checks on tests": ("paper_checks/check_a.py", "from tests import x", "imports sdewm only"),
}


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_checker_accepts_a_good_tree(tmp_path):
    write_tree(tmp_path, small_tree() | GOOD)
    assert violations(tmp_path) == []


@pytest.mark.parametrize("name", BAD)
def test_checker_reports_each_violation(name, tmp_path):
    file, text, report = BAD[name]
    write_tree(tmp_path, small_tree() | GOOD | {file: text})
    assert [line for line in violations(tmp_path) if report in line]


def test_checker_reports_a_folder_that_is_gone(tmp_path):
    files = small_tree() | GOOD
    highest = max(FLOORS, key=FLOORS.__getitem__)
    write_tree(tmp_path, {name: text for name, text in files.items() if highest not in name})
    assert violations(tmp_path) == [f"{highest} is in the table of floors but not in sdewm"]
