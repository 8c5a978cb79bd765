"""Differences over horizons and updates, from rows of the study; what the README says of them."""

import importlib.util
import math

import pytest

from sdewm.base.records import ROOT, read_table
from sdewm.robustness.statistics import compare
from sdewm.study.rows import COLUMNS


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "horizon", ROOT / "analysis" / "fig_horizon_convergence.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(script, seeds):
    arms = {"baseline": 0.0, **script.WEIGHTS}
    return [
        dict.fromkeys(COLUMNS, "x")
        | {
            "arm": arm, "seed": str(seed), "updates": str(updates),
            "end_point": f"open_loop {horizon}",
            "value": repr(10.0 * seed + weight * (horizon + 0.01 * updates + seed)),
        }
        for arm, weight in arms.items()
        for seed in range(seeds)
        for updates in (1000, 8000)
        for horizon in script.HORIZONS
    ]  # fmt: skip


def test_differences_are_paired_at_each_horizon_and_number_of_updates(script):
    found = script.differences(rows_of(script, 4), (1000, 8000))
    assert len(found) == len(script.WEIGHTS) * 2 * len(script.HORIZONS)
    for row in found:
        exact = [row["weight"] * (row["horizon"] + 0.01 * row["updates"] + s) for s in range(4)]
        expected = compare(exact, [0.0] * 4).difference
        assert row["difference"] == pytest.approx(expected.estimate, abs=1e-9)
        assert row["low"] == pytest.approx(expected.low, abs=1e-9) and row["pairs"] == 4


def test_too_few_seeds_are_named(script):
    with pytest.raises(ValueError, match="fewer than 3 seeds"):
        script.differences(rows_of(script, 2), (1000, 8000))


def test_readme_says_what_the_committed_table_shows(script):
    rows, _ = read_table(ROOT / "figures" / "data" / f"{script.STEM}.csv")
    at = {(row["weight"], row["updates"], row["horizon"]): row for row in rows}
    last = {key: row for key, row in at.items() if key[1] == 8000}
    assert all(last[0.1, 8000, horizon]["low"] > 0 for horizon in (15, 25, 50))
    assert last[0.01, 8000, 50]["low"] > 0
    assert all(row["low"] < 0 < row["high"] for key, row in last.items() if key[0] == 0.001)
    steps = [last[0.1, 8000, horizon]["difference"] for horizon in script.HORIZONS]
    assert steps == sorted(steps)  # the cost grows with the horizon
    assert math.exp(steps[-1]) == pytest.approx(7.5, abs=0.05)
