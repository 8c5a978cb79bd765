"""Predictions without a model: numbers of the obvious computation, and what the README says."""

from pathlib import Path

import numpy as np
import pytest

from sdewm.base.records import ROOT, read_table
from sdewm.study.committed import read_results
from sdewm.study.end_points import windows
from sdewm.study.rows import arms_of
from tests.analysis.study_rows import load

EPISODES = ROOT / "paper_checks" / "small_models" / "episodes"


@pytest.fixture(scope="module")
def script():
    return load("table_baselines")


def test_errors_of_copying_and_of_the_mean(script):
    found = script.without_model(EPISODES, EPISODES, [1, 7])
    rows = windows(EPISODES).observations.double().numpy()
    unit = rows.reshape(-1, rows.shape[-1]).std(0, ddof=1)
    for steps, each in found.items():
        truth = rows[:, 20 + steps - 1]
        for name, guess in (("copy_last", rows[:, 19]), ("data_mean", rows.mean((0, 1)))):
            logs = np.log((((truth - guess) / unit) ** 2).mean(1))
            assert each[name].value == pytest.approx(logs.mean(), rel=1e-12)
            expected = logs.std(ddof=1) / len(logs) ** 0.5
            assert each[name].standard_error == pytest.approx(expected, rel=1e-12)
    assert found[1]["copy_last"].value < found[7]["copy_last"].value  # the state moves away


def test_a_missing_recording_is_named(script, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        script.main([])
    assert str(Path("runs", "study-data")) in capsys.readouterr().err


def test_the_committed_table_has_the_models_of_the_committed_rows(script):
    lines, _ = read_table(ROOT / "figures" / "data" / "table_baselines.csv")
    for line in lines:
        results = read_results(line["study"])
        assert line["digest"] == results.study.digest
        values = arms_of(
            results.rows, script.ARM, f"open_loop {line['steps']}", results.study.updates
        )
        assert line["seeds"] == len(values)
        assert line["model"] == pytest.approx(np.mean([*values.values()]), rel=1e-12)


def better(lines, study):
    """The numbers of steps at which the interval of a study's models is below copying."""
    of_study = [line for line in lines if line["study"] == study]
    return [int(line["steps"]) for line in of_study if line["high"] < line["copy_last"]]


def test_readme_says_where_the_models_are_better_than_copying():
    lines, _ = read_table(ROOT / "figures" / "data" / "table_baselines.csv")
    assert {line["steps"] for line in lines} == {1, 5, 15, 25, 50}
    for study in ("cartpole", "cartpole_comparators"):
        assert better(lines, study) == [5, 15, 25]
    assert better(lines, "cartpole_hidden_12") == [15, 25]
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert (
        "better than copying the last observation 5, 15 and 25 steps ahead, with hidden velocities "
        "15 and 25 steps ahead; they are not at 1 and 50" in text
    )
