"""The table of related papers: groups, sentences from intervals, and the committed rows."""

from pathlib import Path

import numpy as np
import pytest

from sdewm.base.records import ROOT, read_table
from sdewm.robustness.statistics import compare
from sdewm.study.committed import read_results
from tests.plots.committed import load

TABLE, FIGURE = load("table_related"), load("fig_related")


def committed():
    return read_table(ROOT / "figures" / "data" / "table_related.csv")[0]


def test_runs_of_one_arm_are_grouped_in_disjoint_pairs_by_seed():
    names = ["b-seed10", "a-seed1", "b-seed2", "a-seed0", "a-seed2"]
    found = TABLE.groups([Path("runs") / name for name in names])
    assert [[run.name for run in one] for one in found] == [
        ["a-seed0", "a-seed1"],
        ["b-seed2", "b-seed10"],
    ]


def test_groups_that_would_be_paired_although_their_seeds_differ_are_refused():
    """The difference to weight 0 is paired by the first seed of each group."""
    names = ["a-seed0", "a-seed1", "b-seed0", "b-seed2"]
    with pytest.raises(ValueError, match=r"a-seed0 \+ a-seed1 and b-seed0 \+ b-seed2 are of diff"):
        TABLE.groups([Path("runs") / name for name in names])


@pytest.mark.parametrize("name", ["run", "a-seed", "-seed3", "a-seedx"])
def test_a_run_that_is_not_of_a_study_is_refused(name):
    with pytest.raises(ValueError, match="expected a run of a study"):
        TABLE.named(Path(name))


def test_differences_are_paired_by_seed_and_read_from_their_intervals():
    rows, results = committed(), read_results("cartpole")
    (line,) = [x for x in TABLE.effects(rows, results) if x["measurement"] == "flatness"]
    ours, theirs = (TABLE.values(rows, "flatness", weight) for weight in (0.1, 0.0))
    seeds = sorted(theirs)
    expected = compare([ours[s] for s in seeds], [theirs[s] for s in seeds]).difference
    assert line["0.1"] == TABLE.interval_text(expected) + "*"
    raised = "0.1" in line["reading"].split("(")[0].partition("raised at")[2].split(";")[0]
    assert raised == (expected.low > 0)


def test_a_star_needs_the_p_value_to_hold_among_all_differences():
    """An interval that excludes zero alone is not enough."""
    lines = TABLE.effects(committed(), read_results("cartpole"))
    cells = {
        (line["measurement"], weight): line[weight]
        for line in lines
        for weight in ("0.001", "0.01", "0.1")
    }
    starred = {key for key, text in cells.items() if text.endswith("*")}
    assert not any(weight == "0.001" for _, weight in starred)
    alone = ("drift_equilibrium", "0.1")
    assert "[-0.0191, -0.00508]" in cells[alone] and alone not in starred
    by_hand = compare(
        *(
            [TABLE.values(committed(), alone[0], weight)[seed] for seed in range(8)]
            for weight in (0.1, 0.0)
        )
    )
    smaller = sum(text.endswith("*") for text in cells.values())
    assert (61 - smaller) * by_hand.t_p > 0.05 > by_hand.t_p  # 60 differences and clean_target
    told = {"sample_consistency", "flatness", "features: singular-value entropy"}
    told |= {"features: centroid under noise", "equivariance: own output"}
    assert {name for name, weight in starred if weight == "0.1"} == told


def test_a_sentence_changes_with_the_rows():
    rows, results = committed(), read_results("cartpole")
    same = [row | {"value": 1.0 + 1e-3 * row["seed"]} for row in rows]
    readings = {x["measurement"]: x["reading"] for x in TABLE.effects(same, results)}
    assert readings["flatness"].startswith("no measurable change at 0.001, 0.01 and 0.1 (")


def test_the_readme_says_what_the_rows_say():
    rows, text = committed(), " ".join((ROOT / "README.md").read_text("utf-8").split())
    lines = TABLE.effects(rows, read_results("cartpole"))
    assert "At 0.001 no interval of a difference excludes zero" in text
    own = [
        line["reading"].split(" (")[0] for line in lines if line["measurement"] != "clean_target"
    ]
    found = [part for line in own for part in line.split("; ") if "0.001" in part]
    assert len(found) == len(own) and all(x.startswith("no measurable change") for x in found)
    for name, told in (("sample_consistency", "the spread of sampled predictions is {} times"),
                       ("flatness", "the trace of the loss's Hessian {} times")):  # fmt: skip
        ours, theirs = (TABLE.values(rows, name, weight) for weight in (0.1, 0.0))
        factor = np.exp(np.mean([ours[seed] - theirs[seed] for seed in theirs]))
        assert told.format(f"{factor:.1f}") in text


def test_the_indicators_are_correlated_over_the_runs_of_the_table():
    lines = TABLE.indicators(committed(), read_results("cartpole"))
    runs = {row["run"] for row in committed() if "+" not in str(row["run"])}
    assert [int(line["runs"]) for line in lines] == [len(runs)] * 4


def test_the_trade_off_has_both_errors_of_each_run():
    found = FIGURE.trade_off(committed())
    assert all({"weight", "seed", "clean", "robust"} == {*row} for row in found)
    assert all(row["clean"] < row["robust"] for row in found)
