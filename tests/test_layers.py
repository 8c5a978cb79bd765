"""The floors: which file may import which. TABLE defines them; a new file gets its place here.

A file may import earlier files of its folder and the folders its own may import, nothing else of
ours.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Folder:
    """One folder (or single file) of sdewm: floor, folders it may import, its files in order."""

    floor: int
    may_import: str
    files: str = ""


TABLE = {
    "base": Folder(
        0,
        "",
        "checks taylor differences compiling stats progress records jacobians probes schedules "
        "bench_script",
    ),
    "certificates": Folder(
        1,
        "base",
        "interval activations norms enclosure normalisation layers modules recurrent constants "
        "attack certificate",
    ),
    "sde": Folder(
        1,
        "base",
        "system rates linear_moments world_model_sde examples noise solve compiled monte_carlo",
    ),
    "jacobian_penalty": Folder(1, "base"),
    "jacobian_diagnostics": Folder(1, "base"),
    "data": Folder(
        1,
        "base",
        "frames episodes opengl dmc cartpole_pixels envs workers vector rollout chunks rings "
        "replay_files replay dataset",
    ),
    "plots": Folder(
        1,
        "base",
        "style panels names figure_script expansion_plots remainder_plots value_plots growth_plots "
        "bound_plots training_plots error_plots divergence_plots model_growth_plots penalty_plots "
        "horizon_plots tables",
    ),
    "theory": Folder(
        2,
        "base certificates sde",
        "perturbation variation terms coupling curve sampling verdict order expansion "
        "value_function flow_variation value_sampling divergence value_expansion network_system "
        "recurrent_system bounds iteration tube term_bounds grades growth_rates growth_bounds "
        "growth lyapunov rollout_metrics rollout_bounds",
    ),
    "model": Folder(
        2,
        "base jacobian_penalty",
        "distributions networks latents rssm encoders image_layers heads world_model step_maps "
        "returns behaviour",
    ),
    "latent_sde": Folder(
        3, "base certificates sde theory model", "models system errors losses gate_constants"
    ),
    "train": Folder(
        3,
        "base data jacobian_penalty jacobian_diagnostics model",
        "optimiser config presets policy jacobian_term agent randomness signals run_directory "
        "checkpoint metrics pictures sources evaluation recording weights trainer",
    ),
    "evaluate": Folder(
        4,
        "base data jacobian_penalty jacobian_diagnostics sde theory model latent_sde train",
        "episodes episode_curves error_statistics perturbations representation_error wrong_starts "
        "model_expansion model_growth model_divergence model_value divergence_rows "
        "recorded_arrays episode_bootstrap horizon_metrics structural_similarity "
        "sample_consistency reference_lines state_probe drift_regression "
        "reference_error effective_rank curve_fits horizon_growth open_loop scored_metrics "
        "sampled_quantities open_loop_metrics open_loop_table robustness model_constants",
    ),
    "analyse": Folder(
        5,
        "base data jacobian_penalty sde theory model latent_sde train evaluate plots",
        "subject representation_error expansion growth divergence open_loop penalty report command "
        "figure_main",
    ),
    "cli": Folder(6, "base data jacobian_penalty model train evaluate analyse"),
}
OWN = ("sdewm", "analysis", "paper_checks", "tests")
FORBIDDEN_NAMES = {"utils", "tools", "common", "misc", "helpers"}
MOST_LINES = 300


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


def sdewm_violations(where: tuple[str, ...], names: set[str]) -> Iterator[str]:
    """`where` is the place inside sdewm: ("sde", "solve"), ("cli",), () for sdewm/__init__.py."""
    if where and where[0] not in TABLE:
        yield f"{where[0]} has no place in the table of floors"
        return
    order = TABLE[where[0]].files.split() if where else []
    if len(where) > 1 and where[1] not in order:
        yield f"{where[0]}/{where[1]} has no place in the table of floors"
        return
    for name in sorted(names):
        parts = name.split(".")
        if parts[0] in ("analysis", "paper_checks", "tests"):
            yield f"sdewm never imports {parts[0]}"
        if parts[0] == "torchsde" and where[:2] != ("sde", "solve"):
            yield "only sde/solve.py calls torchsde"
        if parts[0] != "sdewm" or not where:
            continue
        target = parts[1] if len(parts) > 1 else ""
        if target not in TABLE:
            yield f"imports {name}: a part of the package never imports its front"
        elif target != where[0]:
            if target not in TABLE[where[0]].may_import.split():
                yield (
                    f"imports {name}: {where[0]} (floor {TABLE[where[0]].floor}) may import "
                    f"{TABLE[where[0]].may_import or 'nothing'}, not {target} "
                    f"(floor {TABLE[target].floor})"
                )
        elif len(where) > 1:
            if len(parts) < 3 or parts[2] not in order:
                yield f"imports {name}: name a file of the table, not its own folder's front"
            elif order.index(parts[2]) > order.index(where[1]):
                yield f"imports {name}: {parts[2]} comes after {where[1]} in {where[0]}"


def violations(root: Path) -> list[str]:
    """Every breach of the layout in a checkout, one line each; empty if there is none."""
    found = []
    for path in sorted(path for top in OWN for path in (root / top).rglob("*.py")):
        relative = path.relative_to(root)
        module = relative.with_suffix("").parts
        package = module[:-1]
        module = package if module[-1] == "__init__" else module
        report = []
        if forbidden := FORBIDDEN_NAMES.intersection(module):
            report.append(f"the name {min(forbidden)} says nothing; name the one concept")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES:
            report.append(f"{lines} lines, at most {MOST_LINES}: split it")
        names = set(imported(path, package))
        if module[0] == "sdewm":
            report += sdewm_violations(module[1:], names)
        elif module[0] in ("analysis", "paper_checks"):
            allowed = {"sdewm", "paper_checks"} if module[0] == "paper_checks" else {"sdewm"}
            siblings = {other.stem for other in path.parent.glob("*.py")}  # import fig_other
            others = {name.split(".")[0] for name in names} & (siblings.union(OWN) - allowed)
            report += [f"imports {other}: {module[0]} imports sdewm only" for other in others]
        found += [f"{relative.as_posix()}: {line}" for line in report]
    return found


def test_every_file_keeps_its_floor():
    assert violations(ROOT) == []


def test_table_never_points_up_or_sideways():
    for name, folder in TABLE.items():
        for other in folder.may_import.split():
            allowed = TABLE[other].floor < folder.floor
            assert allowed, f"{name} (floor {folder.floor}) may import {other}"


GOOD = {
    "sdewm/__init__.py": "from sdewm.theory.expansion import expand",
    "sdewm/base/checks.py": "import math",
    "sdewm/sde/__init__.py": "from sdewm.sde.noise import Noise",
    "sdewm/sde/noise.py": "from sdewm.base.checks import require",
    "sdewm/sde/solve.py": "import torchsde\nfrom .noise import Noise\nfrom . import system",
    "sdewm/sde/examples/circle.py": "from ..system import System\nfrom .linear import Linear",
    "sdewm/theory/expansion.py": "from sdewm.sde import solve\nimport sdewm.theory.variation",
    "analysis/fig_curve.py": "import torchsde\nimport sdewm\nfrom sdewm.plots import style",
    "paper_checks/__main__.py": "import sdewm\nfrom paper_checks import check_terms",
}

BAD = {
    "upward": ("sdewm/base/checks.py", "import sdewm.sde.noise", "not sde (floor 1)"),
    "upward, from": ("sdewm/sde/noise.py", "from sdewm import theory", "not theory (floor 2)"),
    "upward, relative": ("sdewm/sde/noise.py", "from ..theory import expansion", "not theory"),
    "upward, inside a function": (
        "sdewm/sde/noise.py",
        "def f():\n    import sdewm.theory.bounds",
        "not theory",
    ),
    "upward, by string": (
        "sdewm/base/checks.py",
        "import importlib\nimportlib.import_module('sdewm.sde')",
        "not sde",
    ),
    "sideways": ("sdewm/theory/bounds.py", "from sdewm.model import rssm", "not model (floor 2)"),
    "plots beyond base": ("sdewm/plots/style.py", "import sdewm.sde.noise", "may import base"),
    "later in the list": ("sdewm/sde/system.py", "from sdewm.sde.solve import f", "comes after"),
    "later in the list, relative": ("sdewm/sde/system.py", "from .solve import f", "comes after"),
    "own folder's front": ("sdewm/sde/noise.py", "from sdewm.sde import f", "own folder's front"),
    "the package's front": ("sdewm/sde/noise.py", "from sdewm import expand", "never imports its"),
    "bare package": ("sdewm/sde/noise.py", "import sdewm", "never imports its front"),
    "checks from sdewm": ("sdewm/__init__.py", "import paper_checks", "never imports paper_checks"),
    "analysis from sdewm": ("sdewm/cli.py", "import analysis.fig_x", "never imports analysis"),
    "second torchsde": ("sdewm/sde/noise.py", "import torchsde", "only sde/solve.py"),
    "second torchsde, from": ("sdewm/theory/bounds.py", "from torchsde import sdeint", "only sde/"),
    "second torchsde, string": ("sdewm/sde/noise.py", "__import__('torchsde')", "only sde/solve"),
    "unknown folder": ("sdewm/extras/thing.py", "", "extras has no place"),
    "unknown file": ("sdewm/sde/thing.py", "", "sde/thing has no place"),
    "nameless file": ("paper_checks/utils.py", "", "the name utils says nothing"),
    "nameless folder": ("analysis/helpers/rows.py", "", "the name helpers says nothing"),
    "too long": ("sdewm/base/checks.py", "x = 1\n" * 301, "301 lines"),
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
    write_tree(tmp_path, GOOD)
    assert violations(tmp_path) == []


@pytest.mark.parametrize("name", BAD)
def test_checker_reports_each_violation(name, tmp_path):
    file, text, report = BAD[name]
    write_tree(tmp_path, GOOD | {file: text})
    found = violations(tmp_path)
    assert len(found) == 1, found
    assert found[0].startswith(f"{file}: ")
    assert report in found[0]
