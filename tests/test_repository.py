"""What a visitor relies on: layout, commands, README, a light import, pinned versions."""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import sdewm
from sdewm.base.findings import Finding
from sdewm.base.records import read_table
from sdewm.commands.analyse import AnalyseRun
from sdewm.commands.evaluate import Evaluate
from sdewm.commands.import_dataset import Import
from sdewm.commands.parsing import parse
from sdewm.commands.record import Record
from sdewm.commands.train import Resume, train_arguments
from sdewm.report.analyses import ANALYSES
from sdewm.train.config import Config, check_config
from tests import child_process
from tests.child_process import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TOLD = " ".join(README.split())
TOP_LEVEL = {
    *("pyproject.toml", "Makefile", "LICENSE", "CHANGELOG.md", "README.md", ".gitignore", ".ci"),
    *("sdewm", "analysis", "tests", "figures", "paper_checks"),
}
TARGETS = {"verify", "report", "test", "lint", "bench", "bench-learning", "mutants", "clean"}


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    # What `make test` was called with must not reach the make that is under test.
    inherited = dict.fromkeys(name for name in os.environ if name.startswith("MAKE"))
    return child_process.run(*words, environment=inherited)


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_lists_every_check():
    """The table "What is checked for you" has a row for each name that a finding can have."""
    section = README.split("**What is checked for you.**")[1].split("\n\nA time")[0]
    rows = re.findall(r"^\| ([a-z ]+) \|", section, flags=re.MULTILINE)
    names = re.search(r"check: name of the check: (.*?)\.", Finding.__doc__ or "", re.DOTALL)
    assert names is not None
    assert set(rows) - {"check"} == set(re.findall(r'"([a-z ]+)"', names[1]))


def commands(text: str) -> list[list[str]]:
    """Commands of the bash blocks, as words, without prompts, comments and settings in front."""
    found = []
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                found.append(words)
    return found


def problem(words: list[str]) -> str | None:
    """Why a command of the README would not work, or None. Commands of an unknown kind do not."""
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        if unknown := set(targets) - TARGETS:
            return f"make has no target {min(unknown)}"
        result = run("make", "-n", *words[1:])  # also refuses unknown variables
        return None if result.returncode == 0 else result.stderr
    if Path(words[0]).name == "python":
        length = 3 if words[1] == "-m" else 2
        if words[1:4] == ["-m", "pip", "install"] or words[1:3] == ["-m", "pytest"]:
            return None
        result = run(sys.executable, *words[1:length], "--help")
        return None if result.returncode == 0 else result.stderr
    if words[0] == "sdewm":
        return problem_of_sdewm(words[1:])
    return f"no test knows the command {words[0]}"


def problem_of_sdewm(words: list[str]) -> str | None:
    """Whether the command line takes these words; nothing is run, and a CPU will do."""
    kinds: dict[str, Any] = {
        "resume": Resume,
        "evaluate": Evaluate,
        "record": Record,
        "analyse": AnalyseRun,
        "import": Import,
    }
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            if words[0] != "train":
                parse(kinds[words[0]], words[1:], words[0])
                return None
            given = train_arguments(words[1:])
            check_config(dataclasses.replace(given.config, device="cpu"))
    except SystemExit:
        return said.getvalue()
    except (KeyError, ValueError) as wrong:
        return str(wrong)
    return None


def test_top_level_is_exactly_the_agreed_list():
    listed = run("git", "ls-files")
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} == TOP_LEVEL


def test_make_has_exactly_the_documented_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[0].split())
    assert phony - {"venv"} == TARGETS
    documented = makefile.split("PYTHON ?=")[0]
    assert all(re.search(rf"^# {target} ", documented, flags=re.MULTILINE) for target in TARGETS)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["verify"], ".venv/bin/python -m paper_checks"),
        (
            ["verify", "PATHS=1000", "DEVICE=cuda", "ONLY=a b"],
            ".venv/bin/python -m paper_checks --paths 1000 --device cuda --only a b",
        ),
        (["verify", "FULL=1"], ".venv/bin/python -m paper_checks --full"),
        (["bench"], ".venv/bin/python analysis/table_bench.py"),
        (["bench", "ONLY=a b"], ".venv/bin/python analysis/table_bench.py --only a b"),
        (["mutants"], ".venv/bin/python tests/run_mutants.py"),
        (["mutants", "ONLY=a b"], ".venv/bin/python tests/run_mutants.py --only a b"),
        (["bench-learning"], ".venv/bin/python analysis/sweep_learning.py"),
        (["bench-learning", "ONLY=a b"], ".venv/bin/python analysis/sweep_learning.py --only a b"),
    ],
)
def test_make_passes_its_variables_on(arguments, command):
    assert run("make", "-n", *arguments).stdout.splitlines()[-1] == command


@pytest.mark.parametrize(
    ("only", "words"),
    [
        (None, ""),
        ("tests/train", " tests/train"),
        ("tests/train sdewm/base", " tests/train sdewm/base"),
        ("tests/test_cli.py::test_x", " tests/test_cli.py::test_x"),
        ("replay and not gpu", " -k 'replay and not gpu'"),
    ],
)
def test_make_test_takes_paths_or_an_expression(only, words):
    given = [] if only is None else [f"ONLY={only}"]
    command = run("make", "-n", "test", *given).stdout.splitlines()[-1].split(" || ")[0]
    head = ".venv/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal"
    assert command == head + words


def test_make_test_says_that_an_expression_chooses_nothing(tmp_path):
    """The last line of the recipe, with a pytest in the place of that of .venv."""
    recipe = run("make", "-n", "test", "ONLY=no_such_test").stdout.splitlines()[-1]
    for code, said in ((5, "ONLY=no_such_test chooses no test\n"), (1, "")):
        stub = tmp_path / "python"
        stub.write_text(f"#!/bin/sh\nexit {code}\n")
        stub.chmod(0o755)
        ended = run("sh", "-c", recipe.replace(".venv/bin/python", str(stub)))
        assert (ended.returncode, ended.stderr) == (code, said)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["test", "PYTHON=python-that-does-not-exist"], "PYTHON=python-that-does-not-exist does"),
        (["verify", "PATH=3"], "unknown variable PATH;"),
        (["verfy"], "there is no target verfy; known are: verify report test lint"),
        (["test", "ONLY=tests/trian"], "ONLY=tests/trian: there is no path tests/trian"),
    ],
)
def test_make_stops_with_one_clear_sentence(arguments, sentence):
    result = run("make", *arguments)
    assert result.returncode != 0
    assert len([line for line in result.stderr.splitlines() if sentence in line]) == 1


def test_ci_runs_every_lasting_target():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert set(re.findall(r"^make (\w+)", ci, flags=re.MULTILINE)) >= {"verify", "test", "lint"}
    assert ci.index("--durations=10") < ci.index("make test")  # the slowest tests are printed


def test_readme_names_the_two_commands_of_a_newcomer():
    assert ["make", "verify"] in commands(README)
    assert ["make", "test"] in commands(README)


@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_readme_command_works(words):
    assert problem(words) is None


@pytest.mark.parametrize(
    "line",
    [
        *("make verfy", "make verify PATH=3", "python analysis/fig_none.py", "sdewm-train x"),
        *("sdewm trian", "sdewm train --run x --env-frame 3", "sdewm train --run x --preset tny"),
        *("sdewm train --run x --obs pixel", "sdewm train --run x --jacobian.probes 0"),
        *("sdewm resume", "sdewm evaluate x --episode 3"),
    ],
)
def test_readme_check_notices_a_command_that_does_not_work(line):
    assert problem(shlex.split(line)) is not None


def test_readme_examples_print_what_is_shown():
    pattern = r"^```python\n((?:(?!```).*\n)*)```\n+```text\n((?:(?!```).*\n)*)```$"
    examples = re.findall(pattern, README, flags=re.MULTILINE)
    assert len(examples) == len(blocks(README, "python")), "each example is followed by its output"
    for code, shown in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
        assert printed.getvalue() == shown


def test_readme_names_files_that_exist():
    for target in re.findall(r"\]\((?!#|\w+:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
    parent = ""
    for indent, name in re.findall(r"^( *)([a-z_]+/)  ", README, flags=re.MULTILINE):
        parent, path = (parent, parent + name) if indent else (name, name)
        assert (ROOT / path).is_dir(), path


# torch itself may import any of these; what counts is what sdewm adds.
IMPORT = """
import json, sys
import torch
before = set(sys.modules)
import sdewm
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""
HEAVY = {"torchsde", "scipy", "matplotlib", "sympy", "pandas", "pydantic"}
SCREEN_OR_SIMULATOR = {"OpenGL", "glfw", "pygame", "mujoco", "dm_control", "gym", "gymnasium"}


def test_import_is_light():
    result = run(sys.executable, "-c", IMPORT)
    assert result.returncode == 0, result.stderr
    imported = set(json.loads(result.stdout))
    assert "sdewm" in imported and not imported & (HEAVY | SCREEN_OR_SIMULATOR)


def test_no_test_depends_on_the_speed_of_the_machine():
    """Processes are started, and events waited for, by tests/child_process.py alone.

    `make mutants` is not a test, and ends mutants that loop for ever.
    """
    measured = r"\btime\.(?:sleep\((?!HANG_SECONDS)|monotonic\(|perf_counter\(|process_time\()"
    started = r"\bsubprocess\.(?:run|Popen|call|check_\w+)\(|\btimeout="
    found = {
        path.name
        for path in (ROOT / "tests").rglob("*.py")
        if re.search(f"{measured}|{started}", path.read_text(encoding="utf-8"))
    }
    assert found == {"child_process.py", "run_mutants.py"}


def test_the_front_lists_every_public_name_once_and_all_are_there():
    listed = re.findall(r"^    ([A-Za-z_]+(?:, [a-z_]+)?)  +\w", sdewm.__doc__, flags=re.MULTILINE)
    names = [name for line in listed for name in line.split(", ")]
    public = {name for name, value in vars(sdewm).items() if callable(value)}
    assert sorted(names) == sorted(public - {"Estimate", "Certificate", "Curve", "Verdict"})


def test_version_has_its_entry_on_top_of_the_changelog():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == project["version"] == sdewm.__version__


def test_every_direct_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    lines = (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", pin) for pin in pins)
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in wanted}
    assert names <= {pin.split("==")[0] for pin in pins}


def test_readme_says_what_the_tables_of_the_small_models_hold():
    told = " ".join(README.split())
    tables = ROOT / "figures" / "data"
    vectors, images = (
        {row["strength"]: row for row in read_table(tables / f"{stem}.csv")[0] if is_noise(row)}
        for stem in ("fig_representation_error", "fig_representation_error_pixels")
    )
    small, large = 100 * vectors[0.1]["drift_fraction"], 100 * vectors[0.3]["drift_fraction"]
    assert f"(rejected at p = {vectors[0.1]['p_value']:.0e} for".replace("e-0", "e-") in told
    assert f"the drift is {small:.1f} % of the error there and {large:.0f} % at 0.3" in told
    dark, bright = 100 * images[0.02]["drift_fraction"], 100 * images[0.2]["drift_fraction"]
    assert f"it is {dark:.0f} % at 0.02 of the range and {bright:.0f} % at 0.2" in told


def test_readme_asks_the_question_of_each_analysis():
    for name, analysis in ANALYSES.items():
        assert f"| `{name}` | {analysis.question} |" in README


def bench():
    """The values and ratios of the bench by the names of the rows."""
    return {row["name"]: row for row in read_table(ROOT / "figures" / "data" / "bench.csv")[0]}


def test_readme_says_what_compilation_brings_according_to_the_bench():
    rows = bench()
    first, later = re.search(
        r"takes about (\d+) seconds, in later runs .* about (\d+),", TOLD
    ).groups()
    assert about(rows["startup_tiny/threads2"]["value"], first)
    assert about(rows["startup_tiny_cached/threads2"]["value"], later)
    share = 1 / float(rows["update_tiny_compiled/threads1"]["ratio"])
    for told in (README, inspect.getsource(Config)):
        assert f"about {share:.1f} of the time" in " ".join(told.split())


def about(measured, told):
    """Whether a run time is told to a quarter, which is what machines of one kind differ by."""
    return abs(float(measured) / float(told) - 1) < 0.25


def test_readme_says_how_long_its_examples_take():
    told = [re.search(r"\(about (\d+) seconds\):$", text) for text in before_examples()]
    assert sum(one is not None for one in told) == 3
    for number, one in enumerate(told, start=1):
        value = bench()[f"readme_example_{number}/threads2"]["value"]
        assert one is None or about(value, one[1])


def before_examples():
    """The paragraphs before the Python examples."""
    return [text.rstrip() for text in README.split("```python\n")[:-1]]


def test_readme_says_what_a_cluster_has_to_compute():
    seconds = float(bench()["readme_all_terms/threads1"]["value"])
    assert (
        f"take {seconds:.1f} s of one core, so 10⁹ paths about {seconds / 3.6:.1f} core hours"
        in TOLD
    )


def test_readme_says_what_the_cells_of_a_study_cost():
    _, facts = read_table(ROOT / "figures" / "data" / "study_cartpole_images.csv")
    minutes, gigabytes = float(facts["minutes_a_cell"]), float(facts["memory_mb_a_cell"]) / 1000
    cells, hours = facts["cells_timed"], 1e4 * minutes / 60
    for part in (
        f"took {minutes:.1f} minutes of one core (the median of {cells}, two at a time",
        f"and {gigabytes:.1f} GB, so 10⁴ cells take about {round(hours, -2):.0f} core hours,",
        f"{hours / 64:.0f} hours on 64 cores with {round(64 * gigabytes, -1):.0f} GB",
    ):
        assert part in TOLD


def is_noise(row: dict[str, Any]) -> bool:
    return row["panel"] == "noise"
