"""The weight sweep is drawn from one line a cell, paired by seed."""

import importlib.util

import numpy as np
import pytest

from sdewm.base.records import read_table
from sdewm.robustness.statistics import compare
from sdewm.study.rows import COLUMNS, append_rows, from_lines, one_line_a_cell
from tests.child_process import ROOT


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("sweep", ROOT / "analysis/fig_weight_sweep.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(script, digest="d", seeds=4):
    """Rows of all arms drawn; the value is 10 for the seed plus the weight's logarithm."""
    arms = {"baseline": 0.0, **script.weights()}
    return [
        dict.fromkeys(COLUMNS, "x")
        | {
            "arm": arm, "seed": str(seed), "updates": updates, "end_point": name,
            "value": repr(10.0 * seed + weight * (updates == "8000") + 0.001 * seed**2 * weight),
            "digest": digest,
        }
        for arm, weight in arms.items()
        for seed in range(seeds)
        for updates in ("4000", "8000")
        for names in script.PANELS.values()
        for name in names
    ]  # fmt: skip


def test_lines_of_cells_come_back_as_rows(script):
    rows = rows_of(script)
    again = from_lines(one_line_a_cell(rows))
    names = ("arm", "seed", "updates", "end_point", "value")
    assert [[row[name] for name in names] for row in again] == [
        [row[name] for name in names] for row in rows
    ]


def test_differences_are_paired_and_of_the_last_updates(script):
    found = script.differences(one_line_a_cell(rows_of(script)))
    assert {row["weight"] for row in found} == {0.001, 0.01, 0.1, 1.0}
    row = next(row for row in found if row["weight"] == 0.1)
    expected = compare([0.1 * (1 + 0.001 * seed**2) for seed in range(4)], np.zeros(4))
    assert row["difference"] == pytest.approx(expected.difference.estimate, abs=1e-12)
    assert row["low"] == pytest.approx(expected.difference.low, abs=1e-12)
    assert row["pairs"] == 4 and row["low"] > 0.09  # unpaired it would be a difference of seeds


def test_the_table_and_the_figure_are_written(script, tmp_path, monkeypatch, capsys):
    study = tmp_path / "study.toml"
    text = script.FILE.read_text("utf-8")
    for name in ("cartpole-test", "cartpole"):
        (tmp_path / name).mkdir()
        text = text.replace(f'"runs/study-data/{name}"', f'"{tmp_path / name}"')
    study.write_text(text)
    monkeypatch.setattr(script, "FILE", study)
    digest = script.read_study(study).digest
    append_rows(tmp_path / "rows.csv", rows_of(script, digest))
    out = tmp_path / "out"
    script.main(["--rows", str(tmp_path / "rows.csv"), "--out", str(out)])
    lines, facts = read_table(out / "data" / "fig_weight_sweep.csv")
    assert len(lines) == 2 * 4 * (1 + len(script.weights())) and facts["digest"] == digest
    before = (out / "fig_weight_sweep.png").read_bytes()
    script.main(["--out", str(out)])
    assert (out / "fig_weight_sweep.png").read_bytes() == before
    append_rows(tmp_path / "other" / "rows.csv", rows_of(script, "another"))
    with pytest.raises(SystemExit):
        script.main(["--rows", str(tmp_path / "other" / "rows.csv"), "--out", str(out)])
    assert "has no rows of study.toml" in capsys.readouterr().err


def test_readme_says_what_the_committed_rows_show(script):
    lines, _ = read_table(ROOT / "figures" / "data" / "fig_weight_sweep.csv")
    rows = script.differences(lines)
    found = {(row["end_point"], row["weight"]): row for row in rows}
    worse = {key for key, row in found.items() if row["low"] > 0}
    for weight in (0.01, 0.1):
        for name in ("noise", "masks", "zero drift, after 15 steps", "drift, after 15 steps"):
            assert (name, weight) in worse
        assert ("50 steps", weight) in worse
    assert ("15 steps", 0.1) in worse and ("15 steps", 0.01) not in worse
    for row in rows:
        if row["weight"] == 0.001 and row["panel"] != "Jacobian":
            assert row["low"] < 0 < row["high"], row
    assert {row["pairs"] for row in rows} == {8}  # of the twelve seeds
    assert "eight of its twelve seeds so far" in (ROOT / "README.md").read_text("utf-8")
