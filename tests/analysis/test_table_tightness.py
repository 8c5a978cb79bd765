"""The tightness table: ratios and verdicts from the rows that the figure left."""

import importlib.util
from pathlib import Path

import pytest

from sdewm.base.records import read_table, write_table

ROOT = Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "analysis" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


table_tightness = load("table_tightness")


def row(panel, series, kind, step, ratio, error=0.0, size=0.1):
    ratios = {"sup_ratio": ratio, "mean_ratio": ratio}
    errors = {f"{name}_error": error for name in ratios}
    place = {"panel": panel, "series": series, "kind": kind, "step": step, "time": float(step)}
    return {**place, "size": size, **ratios, **errors}


def run(rows, folder, capsys):
    facts = {"seed": 0, "system": "all", "paths": 8, "steps": 50}
    write_table(folder / "data" / "fig_rollout_bounds.csv", rows, facts)
    table_tightness.main(["--out", str(folder)])
    written, _ = read_table(folder / "data" / "table_tightness.csv")
    return written, capsys.readouterr().out


def test_only_the_best_certificate_has_the_aim_and_misses_it_when_it_is_loose(tmp_path, capsys):
    rows = [
        row("CubicFlow", "measured", None, 5, 1.0),
        row("CubicFlow", "gronwall", "certificate", 5, 40.0),
        row("CubicFlow", "log_norm", "certificate", 5, 3.5, 0.1),
        row("CubicFlow", "log_norm", "estimate", 5, 1.1),
        row("CubicFlow", "log_norm", "certificate", 6, 9.0),  # no horizon of the table
        row("GRU", "gronwall", "certificate", 5, 1001.0),
    ]
    written, text = run(rows, tmp_path, capsys)
    found = {(r["system"], r["grade"], r["kind"]): r for r in written if r["quantity"] != "E|D|"}
    assert len(written) == 2 * len(found) == 8
    assert found["CubicFlow", "log_norm", "certificate"]["verdict"] == "MISSED"
    assert [r["verdict"] for r in found.values()].count(None) == 3
    assert found["GRU", "gronwall", "certificate"]["vacuous"] == "vacuous"
    assert [r["vacuous"] for r in found.values()].count("vacuous") == 1
    assert "vacuous (1e+03)" in text
    assert "9.000 at 6 (log_norm)" in text  # the aim is for every horizon, not four of them


def test_the_prediction_is_judged_by_its_worst_step(tmp_path, capsys):
    rows = [
        row("GRU", "linearised", "estimate", 1, 1.0),
        row("GRU", "prediction", "estimate", 1, 1.01, 0.001, size=0.3),
        row("GRU", "prediction", "estimate", 2, 0.93, 0.001, size=0.3),
    ]
    written, text = run(rows, tmp_path, capsys)
    assert {r["grade"] for r in written} == {"linearised"}
    (line,) = [line for line in text.splitlines() if "|e| = 0.3" in line]
    assert "-7.00 ± 0.10 % at 2" in line and line.endswith("MISSED")


@pytest.mark.parametrize(
    ("ratio", "error", "expected"),
    [(2.9, 0.01, "met"), (2.9, 0.1, "undecided"), (3.3, 0.1, "MISSED")],
)
def test_verdict_counts_the_error(ratio, error, expected):
    assert table_tightness.verdict(ratio, error, 3.0) == expected


def test_it_reads_what_the_figure_writes(tmp_path, capsys):
    words = ["--steps", "5", "--paths", "200", "--system", "LinearWorldModel"]
    load("fig_rollout_bounds").main([*words, "--out", str(tmp_path)])
    table_tightness.main(["--out", str(tmp_path)])
    written, facts = read_table(tmp_path / "data" / "table_tightness.csv")
    assert {r["horizon"] for r in written} == {1, 5}
    kinds = {r["grade"]: r["kind"] for r in written}
    # |e| is one number, e itself is drawn: a mean over the draws is no certificate.
    assert kinds["gronwall"] == kinds["log_norm"] == "certificate"
    assert kinds["block"] == kinds["linearised"] == "estimate"
    assert all(r["ratio"] >= 1.0 - 1e-9 for r in written)
    assert facts["paths"] == "200"
    assert "best certificate <= 3" in capsys.readouterr().out


def test_it_says_what_to_run_first(tmp_path, capsys):
    with pytest.raises(SystemExit):
        table_tightness.main(["--out", str(tmp_path)])
    assert "run analysis/fig_rollout_bounds.py first" in capsys.readouterr().err
