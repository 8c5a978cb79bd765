"""Every figure script answers --help, and writes its files for a tiny run."""

import argparse
import importlib.util
import sys
from pathlib import Path

import pytest

from paper_checks.figure_tables import FROM_RUNS, rows_of
from sdewm.base.records import read_table
from tests.plots.committed import drawing

ROOT = Path(__file__).resolve().parents[2]
EVERY = sorted((ROOT / "analysis").glob("fig_*.py"))
SCRIPTS = sorted(p for p in (ROOT / "analysis").glob("fig_*.py") if p.stem not in FROM_RUNS)
TINY = {
    "fig_expansion_curve": ["--steps", "2", "--paths", "200"],
    "fig_remainder_order": ["--steps", "2"],
    "fig_term_decomposition": ["--steps", "2", "--paths", "200"],
    "fig_fundamental_matrix": ["--steps", "2", "--paths", "20"],
    "fig_counterexamples": ["--steps", "2", "--paths", "200"],
    "fig_value_expansion": ["--steps", "2", "--paths", "200"],
    "fig_rollout_bounds": ["--steps", "2", "--paths", "200"],
}


def load(script):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_answers_help(script, capsys):
    with pytest.raises(SystemExit) as stop:
        load(script).main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--system" in text
    assert all(option in text for option in ("--out", "--width", "--panel", "--redraw"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_measures_the_same_rows_again(script, tmp_path, monkeypatch):
    monkeypatch.setattr("sdewm.scripts.theory_figure.save_figure", lambda *given: [])
    tables = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        load(script).main([*TINY[script.stem], "--out", str(folder)])
        tables.append(folder / "data" / f"{script.stem}.csv")
    assert tables[0].read_bytes() == tables[1].read_bytes()
    rows, facts = read_table(tables[0])
    assert len(rows) > 5
    assert {"command", "commit", "seed", "torch", "steps"} <= set(facts)


def test_a_redraw_gives_the_same_files(tmp_path):
    script = ROOT / "analysis" / "fig_expansion_curve.py"
    load(script).main([*TINY[script.stem], "--out", str(tmp_path)])
    drawn = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    load(script).main(["--redraw", "--out", str(tmp_path)])
    assert drawn == {path: path.read_bytes() for path in tmp_path.rglob("*.*")} and len(drawn) == 3


def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    script = ROOT / "analysis" / "fig_expansion_curve.py"
    with pytest.raises(SystemExit) as stop:
        load(script).main([*TINY[script.stem], "--out", str(tmp_path / "file")])
    assert stop.value.code == 2 and "file" in capsys.readouterr().err


OWN = """
import torch

class MySystem:
    noise_type, sde_type = "diagonal", "ito"
    x0, t1, error_drift = torch.tensor([0.5], dtype=torch.float64), 1.0, None

    def f(self, t, y): return -y
    def g(self, t, y): return 0.3 * torch.cos(y)
    def error_diffusion(self, t, y): return 0.2 + 0.1 * torch.sin(y)
    def loss(self, y): return y[:, 0] ** 2

class Half:
    x0 = None
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_draws_a_system_of_the_user(script, tmp_path, monkeypatch):
    (tmp_path / "my_systems.py").write_text(OWN, "utf-8")
    monkeypatch.chdir(tmp_path)
    words = [*TINY[script.stem], "--system", "my_systems:MySystem", "--out", "out"]
    load(script).main(words)
    sys.modules.pop("my_systems")
    out = tmp_path / "out"
    names = [f"{script.stem}.png", f"{script.stem}.pdf", f"data/{script.stem}.csv"]
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == sorted(names)
    assert (out / names[0]).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--system", "OrnsteinUhlenbek"], "did you mean 'OrnsteinUhlenbeck'?"),
        (["--system", "no_such_module:X"], "no_such_module"),
        (["--system", "my_systems:X"], "has no class 'X'"),
        (["--system", "my_systems:Half"], "lacks f, g, x0"),
        (["--driver", "smae"], "did you mean 'same'?"),
        (["--paths", "0"], "--paths=0"),
    ],
)
def test_script_refuses_in_one_sentence(words, text, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_systems.py").write_text(OWN, "utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        load(ROOT / "analysis" / "fig_expansion_curve.py").main([*words, "--out", "out"])
    sys.modules.pop("my_systems", None)
    assert stop.value.code == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", EVERY, ids=lambda script: script.stem)
def test_a_committed_table_is_redrawn_as_one_panel_and_stays_as_it_is(script, tmp_path):
    table = rows_of(script.stem)
    (tmp_path / "data").mkdir()
    copy = tmp_path / "data" / table.name
    copy.write_bytes(table.read_bytes())
    redraw = [] if script.stem in FROM_RUNS else ["--redraw"]
    words = [*redraw, "--width", "3.4", "--panel", "b", "--out", str(tmp_path)]
    load(script).main(words)
    assert copy.read_bytes() == table.read_bytes()
    drawn = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert drawn == [f"{script.stem}_b.pdf", f"{script.stem}_b.png"]


@pytest.mark.parametrize("script", EVERY, ids=lambda script: script.stem)
def test_a_panel_or_width_that_is_not_there_is_refused_in_one_sentence(script, tmp_path, capsys):
    table = rows_of(script.stem)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / table.name).write_bytes(table.read_bytes())
    main = load(script).main
    for words, text in (
        (["--panel", "z"], "--panel='z': the figure has the panels a, b"),
        (["--panel", "bc"], "--panel='bc': expected one letter"),
        (["--width", "2"], "--width=2.0: expected inches from 3.4 to 14"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--out", str(tmp_path)])
        assert stopped.value.code == 2
        assert text in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_number_of_panels_told_before_measuring_is_that_of_the_figure(script):
    drawn, facts = drawing(script.stem), read_table(ROOT / "figures/data" / f"{script.stem}.csv")[1]
    assert load(script).SCRIPT.panels(argparse.Namespace(**facts)) == len(drawn.panels)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--redraw"], "--redraw: there is no table"),
        (["--redraw", "--paths", "7", "--seed", "3"], "leave out --paths, --seed."),
    ],
)
def test_a_redraw_that_would_measure_or_has_no_table_is_refused(words, text, tmp_path, capsys):
    if "--paths" in words:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "fig_expansion_curve.csv").write_text("# a: b\nseries\n", "utf-8")
    with pytest.raises(SystemExit) as stopped:
        load(ROOT / "analysis" / "fig_expansion_curve.py").main([*words, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert text in " ".join(capsys.readouterr().err.split())
