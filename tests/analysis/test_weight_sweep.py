"""The weight sweep is drawn from the rows of the study, paired by seed."""

import numpy as np
import pytest

from sdewm.base.records import ROOT
from sdewm.robustness.statistics import compare
from sdewm.study.committed import declaration, read_results
from sdewm.study.declaration import penalty_weights
from sdewm.study.study_file import read_study
from tests.analysis.study_rows import load, results_of


@pytest.fixture(scope="module")
def script():
    return load("fig_weight_sweep")


def test_differences_are_paired_and_of_the_last_updates(script):
    weights = penalty_weights(read_study(declaration("cartpole")))
    results = results_of(
        "cartpole",
        4,
        lambda arm, seed, updates, name: (
            10.0 * seed + (1 + 0.001 * seed**2) * weights.get(arm, 0.0) * (updates == 8000)
        ),
    )
    found = script.differences(results)
    assert {row["weight"] for row in found} == {0.001, 0.01, 0.1, 1.0}
    row = next(row for row in found if row["weight"] == 0.1)
    expected = compare([0.1 * (1 + 0.001 * seed**2) for seed in range(4)], np.zeros(4))
    assert row["difference"] == pytest.approx(expected.difference.estimate, abs=1e-12)
    assert row["low"] == pytest.approx(expected.difference.low, abs=1e-12)
    assert row["pairs"] == 4 and row["low"] > 0.09  # unpaired it would be a difference of seeds


def test_too_few_seeds_are_named(script):
    with pytest.raises(ValueError, match="fewer than 3 seeds"):
        script.differences(results_of("cartpole", 2, lambda *_: 0.0))


def test_readme_says_what_the_committed_rows_show(script):
    rows = script.differences(read_results("cartpole"))
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
    assert {row["pairs"] for row in rows} == {12}
    assert "twelve seeds ([study]" in (ROOT / "README.md").read_text("utf-8")
