"""Differences over horizons and updates, from rows of the study; what the README says of them."""

import math

import pytest

from sdewm.robustness.statistics import compare
from sdewm.study.committed import declaration, read_results
from sdewm.study.declaration import penalty_weights
from sdewm.study.study_file import read_study
from tests.analysis.study_rows import load, results_of


@pytest.fixture(scope="module")
def script():
    return load("fig_horizon_convergence")


def test_differences_are_paired_at_each_horizon_and_number_of_updates(script):
    weights = penalty_weights(read_study(declaration("cartpole")))
    results = results_of(
        "cartpole",
        4,
        lambda arm, seed, updates, name: (
            10.0 * seed + weights.get(arm, 0.0) * (int(name.split()[-1]) + 0.01 * updates + seed)
            if name.startswith("open_loop")
            else 0.0
        ),
    )
    found = script.differences(results)
    assert len(found) == len(weights) * 4 * len(script.HORIZONS)
    for row in found:
        exact = [row["weight"] * (row["horizon"] + 0.01 * row["updates"] + s) for s in range(4)]
        expected = compare(exact, [0.0] * 4).difference
        assert row["difference"] == pytest.approx(expected.estimate, abs=1e-9)
        assert row["low"] == pytest.approx(expected.low, abs=1e-9) and row["pairs"] == 4


def test_too_few_seeds_are_named(script):
    with pytest.raises(ValueError, match="fewer than 3 seeds"):
        script.differences(results_of("cartpole", 2, lambda *_: 0.0))


def test_readme_says_what_the_committed_table_shows(script):
    rows = script.differences(read_results("cartpole"))
    at = {(row["weight"], row["updates"], row["horizon"]): row for row in rows}
    last = {key: row for key, row in at.items() if key[1] == 8000}
    assert all(last[0.1, 8000, horizon]["low"] > 0 for horizon in (15, 25, 50))
    assert last[0.01, 8000, 50]["low"] > 0
    assert all(row["low"] < 0 < row["high"] for key, row in last.items() if key[0] == 0.001)
    steps = [last[0.1, 8000, horizon]["difference"] for horizon in script.HORIZONS]
    assert steps == sorted(steps)  # the cost grows with the horizon
    assert math.exp(steps[-1]) == pytest.approx(6.6, abs=0.05)
