"""The weight sweep is drawn from the rows of the study, paired by seed."""

import re

import numpy as np
import pytest

from sdewm.base.records import ROOT, read_table
from sdewm.robustness.statistics import compare
from sdewm.study.committed import DATA, declaration, read_results
from sdewm.study.declaration import penalty_weights, read_study
from sdewm.study.verdicts import judge
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


def test_readme_says_that_the_study_with_hidden_velocities_is_void():
    results = read_results("cartpole_hidden")
    controls, comparisons = judge(results.study, results.rows)
    assert [one.declared.arm for one in controls if one.outcome == "fails"] == ["penalty_1"]
    assert {one.outcome for one in comparisons} == {"void"}
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert "four seeds per arm, is void: predictions at weight 1 are not worse beyond" in text


def test_readme_says_the_verdicts_with_hidden_velocities():
    results = read_results("cartpole_hidden_12")
    controls, comparisons = judge(results.study, results.rows)
    assert {one.outcome for one in controls} == {"holds"}
    assert len(results.study.seeds) == 12
    outcomes = {
        arm: [one.outcome for one in comparisons if one.declared.arm == arm]
        for arm in ("penalty_0001", "penalty_01")
    }
    assert outcomes["penalty_0001"] == ["undecided"] * 8
    assert sorted(outcomes["penalty_01"]) == ["refuted"] * 5 + ["undecided"] * 3
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert "twelve seeds per arm, both controls hold" in text
    assert "Weight 0.001 is undecided in all eight end points" in text
    assert "at 0.1 a gain is refuted in five of eight, undecided in three" in text
    ratios = {
        one.declared.end_point: float(np.exp(one.paired.difference.estimate))
        for one in comparisons
        if one.declared.arm == "penalty_01" and one.outcome == "refuted"
    }
    zero, drift, far = (
        f"{ratios[name]:.1f}"
        for name in (
            *("latent_error zero_drift:0.3 15", "latent_error drift:0.3 15"),
            "open_loop 25",
        )
    )
    assert f"{zero} times as large for zero drift and {drift} times for drift" in text
    assert f"those 25 steps ahead {far} times" in text


def test_readme_says_the_verdicts_of_the_study():
    """Each cell of the table of verdicts, against the declared comparisons."""
    results = read_results("cartpole")
    controls, comparisons = judge(results.study, results.rows)
    assert {one.outcome for one in controls} == {"holds"}
    verdicts = {
        (one.declared.claim, one.declared.arm, one.declared.end_point): one.outcome
        for one in comparisons
    }
    told = {}
    for line in (ROOT / "README.md").read_text("utf-8").splitlines():
        if found := re.match(r"  \| (C\d) [^|]*\| ([^|]*) \| ([^|]*) \|$", line):
            told[found[1]] = found[2], found[3]
    words = {
        "area shift": "shift", "area noise": "noise", "area mask": "masks",
        "latent_error drift:0.3 15": "drift", "latent_error zero_drift:0.3 15": "zero drift",
    }  # fmt: skip
    assert {*told} == {claim for claim, _, _ in verdicts} == {"C1", "C2", "C3", "C5"}
    for (claim, arm, end_point), outcome in verdicts.items():
        weak, strong = told[claim]
        if arm == "penalty_0001":
            parts = dict.fromkeys([words.get(end_point, "")], weak)
            for part in weak.split("; "):
                names, _, verdict = part.rpartition(": ")
                parts |= dict.fromkeys(names.split(", "), verdict)
            assert parts[words.get(end_point, "")] == outcome
        else:
            assert strong == outcome == "refuted"


def test_the_readme_says_what_the_table_of_batch_sizes_says():
    rows, facts = read_table(DATA / "table_batch_size.csv")
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    trends = [
        row
        for row in rows
        if row["arm"].startswith("per doubling") and row["end_point"].startswith("area")
    ]
    assert len(trends) == 6 and {row["pairs"] for row in trends} == {4}
    assert all(row["low"] < 0 < row["high"] for row in trends)
    assert facts["caption"].startswith("4 of 4 seeds, 8000 updates")
    study = read_results("cartpole_batch").study
    sizes = sorted({one["batch_size"] for one in study.arms.values()})
    assert f"batches of {', '.join(map(str, sizes[:-1]))} and {sizes[-1]}, four seeds" in text
    assert "no error under noise, masks or shifts has a [trend]" in text
