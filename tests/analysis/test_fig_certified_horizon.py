"""Certified horizons: a short run of the script; what the README says of the committed table."""

from collections import Counter

import pytest
from scipy.stats import spearmanr

from sdewm.base.records import ROOT, read_table
from tests.analysis.study_rows import load

SHIPPED = ROOT / "paper_checks" / "small_models"


@pytest.fixture(scope="module")
def script():
    return load("fig_certified_horizon")


def test_the_readme_says_what_the_table_of_certified_horizons_says():
    rows, facts = read_table(ROOT / "figures" / "data" / "fig_certified_horizon.csv")
    assert facts["radius"] == "0.1"
    assert {row["steps"] for row in rows} == {50}
    assert Counter(row["weight"] for row in rows) == dict.fromkeys((0, 0.001, 0.01, 0.1, 1), 16)
    assert sum(row["certified"] == 50 for row in rows) > len(rows) / 2
    means = {
        weight: sum(row["certified"] for row in rows if row["weight"] == weight) / 16
        for weight in (0, 0.001, 0.01, 0.1, 1)
    }
    assert min(means, key=means.__getitem__) == 0.1
    growth, certified = ([row[name] for row in rows] for name in ("growth", "certified"))
    assert spearmanr(growth, certified).statistic < -0.5


def test_a_run_has_a_row_for_each_episode_and_is_not_measured_twice(
    script, tmp_path, monkeypatch, capsys
):
    for name, value in {"STEPS": 2, "GROWTH_STEP": 1}.items():
        monkeypatch.setattr(script, name, value)
    words = [str(SHIPPED / "weight0-seed0"), "--data", str(SHIPPED / "episodes")]
    words += ["--episodes", "2", "--out", str(tmp_path), "--log", str(tmp_path / "log.jsonl")]
    script.main(words)
    rows, _ = read_table(tmp_path / "data" / "fig_certified_horizon.csv")
    assert [(row["weight"], row["episode"], row["certified"]) for row in rows] == [
        (0, 0, 2),
        (0, 1, 2),
    ]
    assert all(0.0 < row["growth"] < 10.0 for row in rows)
    monkeypatch.setattr(script, "enclose_rollouts", None)
    script.main(words)  # from the log
    assert read_table(tmp_path / "data" / "fig_certified_horizon.csv")[0] == rows
    with pytest.raises(SystemExit):
        script.main(["--data", str(SHIPPED / "episodes"), "--out", str(tmp_path)])
    assert "expected RUNS and --data" in capsys.readouterr().err
