"""Verdicts of a study follow its declaration."""

from dataclasses import replace

import pytest

from sdewm.robustness.statistics import compare
from sdewm.study.study_file import read_study
from sdewm.study.verdicts import judge, report
from tests.study.declared import TEXT, rows_for, written

SEEN = {  # differences of the arm to the baseline: three seeds
    "support": [-0.30, -0.31, -0.29],
    "refuted": [0.00, 0.01, -0.01],
    "undecided": [-0.30, 0.10, -0.10],
}


@pytest.mark.parametrize("outcome", [*SEEN])
@pytest.mark.parametrize("control", [True, False])
def test_verdicts_follow_the_declared_rule_and_are_void_without_the_control(
    study, outcome, control
):
    values = {
        ("baseline", "open_loop 5"): [1.0, 2.0, 3.0],
        ("strong", "open_loop 5"): [
            a + b for a, b in zip([1.0, 2.0, 3.0], SEEN[outcome], strict=True)
        ],
        ("baseline", "jacobian"): [1.0, 1.1, 1.2],
        ("strong", "jacobian"): [0.5, 0.61, 0.7] if control else [1.4, 0.9, 1.2],
    }
    rows = rows_for(study, values)
    controls, comparisons = judge(study, rows)
    assert controls[0].outcome == ("holds" if control else "fails")
    assert comparisons[0].outcome == (outcome if control else "void")
    text = report(study, rows)
    assert ("VOID" in text) == (not control) and comparisons[0].outcome in text


@pytest.mark.parametrize(("clean", "outcome"), [(0.0, "support"), (0.2, "undecided")])
def test_a_gain_that_costs_another_end_point_is_no_support(clean, outcome, tmp_path):
    """Also where the interval of the cost only reaches above its margin."""
    text = TEXT.replace('"jacobian"]', '"jacobian", "decoded noise:0"]', 1)
    text = text.replace('claim = "C5"', 'claim = "C5"\nnot_worse = "decoded noise:0"')
    study = read_study(written(tmp_path, text))
    base = [1.0, 2.0, 3.0]
    values = {
        ("baseline", "open_loop 5"): base,
        ("strong", "open_loop 5"): [0.7, 1.69, 2.71],
        ("baseline", "jacobian"): base,
        ("strong", "jacobian"): [0.5, 1.51, 2.5],
        ("baseline", "decoded noise:0"): base,
        # With 0.2 the mean cost is 0 and its interval reaches from below −.05 to above .05.
        ("strong", "decoded noise:0"): [1.0 + clean, 2.0, 3.0 - clean],
    }
    assert judge(study, rows_for(study, values))[1][0].outcome == outcome


def test_pairs_are_of_equal_seeds_and_one_pair_decides_nothing(study):
    values = {("baseline", "open_loop 5"): [1.0, 5.0], ("strong", "open_loop 5"): [0.5]}
    _, comparisons = judge(study, rows_for(study, values))
    assert comparisons[0].paired is None and comparisons[0].outcome == "undecided"


def test_there_is_no_verdict_before_all_declared_seeds_are_there(study):
    base = [1.0, 2.0, 3.0]
    values = {
        ("baseline", "open_loop 5"): base,
        ("strong", "open_loop 5"): [0.7, 1.69, 2.71],
        ("baseline", "jacobian"): base,
        ("strong", "jacobian"): [0.5, 1.51, 2.5],
    }
    for name, outcome in (
        ("open_loop 5", "undecided"),
        ("jacobian", "undecided"),
        (None, "support"),
    ):
        rows = rows_for(study, values)
        if name is not None:  # the last seed of one arm is missing
            rows = [
                row for row in rows
                if (row["arm"], row["end_point"], row["seed"]) != ("strong", name, "2")
            ]  # fmt: skip
        controls, comparisons = judge(study, rows)
        assert comparisons[0].outcome == outcome
        assert controls[0].outcome == ("open" if name == "jacobian" else "holds")
        text = report(study, rows)
        assert ("INTERIM: 1 of 2" in text) == (name is not None) and "VOID" not in text


def test_intervals_of_several_confirmatory_comparisons_are_wider(tmp_path):
    second = '[[comparisons]]\nclaim = "C6"\narm = "strong"\nbaseline = "baseline"\n'
    text = TEXT.replace('["open_loop 5",', '["open_loop 3", "open_loop 5",')
    study = read_study(written(tmp_path, text + second + 'end_point = "open_loop 3"\n'))
    theirs, ours = [1.0, 2.0, 3.0], [0.7, 1.8, 2.6]
    values = {("baseline", "open_loop 5"): theirs, ("strong", "open_loop 5"): ours}
    first = judge(study, rows_for(study, values))[1][0]
    assert first.paired.difference == compare(ours, theirs, 0.975).difference
    assert first.paired.difference != compare(ours, theirs, 0.95).difference
    assert first.level == pytest.approx(0.975) and "0.975" in report(study, rows_for(study, values))
    explored = replace(study.comparisons[1], confirmatory=False)
    study = replace(study, comparisons=(*study.comparisons, explored))
    levels = [one.level for one in judge(study, rows_for(study, values))[1]]
    assert levels == pytest.approx([0.975, 0.975, 0.95])


GAIN = {
    ("baseline", "open_loop 5"): [1.0, 2.0, 3.0],
    ("strong", "open_loop 5"): [0.7, 1.69, 2.71],
    ("baseline", "jacobian"): [1.0, 2.0, 3.0],
    ("strong", "jacobian"): [0.5, 1.51, 2.5],
}


@pytest.mark.parametrize("arms", [("strong",), ("strong", "baseline")])
@pytest.mark.parametrize("name", ["open_loop 5", "jacobian"])
def test_as_many_seeds_as_declared_are_not_the_declared_ones(study, arms, name):
    """Seed 9 in place of seed 2, in one arm or in both."""
    rows = [
        row | {"seed": "9"}
        if row["arm"] in arms and row["seed"] == "2" and row["end_point"] == name
        else row
        for row in rows_for(study, GAIN)
    ]
    assert judge(study, rows_for(study, GAIN))[1][0].outcome == "support"
    assert judge(study, rows)[1][0].outcome == "undecided"
    assert "INTERIM: 1 of 2" in report(study, rows)


def test_a_further_seed_decides_nothing(study):
    more = {key: [*values, values[-1]] for key, values in GAIN.items()}
    assert judge(study, rows_for(study, more))[1][0].outcome == "undecided"


def test_a_gain_needs_the_clean_error_of_all_seeds(tmp_path):
    text = TEXT.replace('"jacobian"]', '"jacobian", "decoded noise:0"]', 1)
    text = text.replace('claim = "C5"', 'claim = "C5"\nnot_worse = "decoded noise:0"')
    study = read_study(written(tmp_path, text))
    for clean, outcome in (([1.0, 2.001, 3.0], "support"), ([1.0, 2.001], "undecided")):
        values = GAIN | {
            ("baseline", "decoded noise:0"): [1.0, 2.0, 3.0],
            ("strong", "decoded noise:0"): clean,
        }
        assert judge(study, rows_for(study, values))[1][0].outcome == outcome


def test_a_study_of_one_seed_is_neither_decided_nor_void(tmp_path):
    study = read_study(written(tmp_path, TEXT.replace("seeds = [0, 1, 2]", "seeds = [0]")))
    rows = rows_for(study, {key: values[:1] for key, values in GAIN.items()})
    controls, comparisons = judge(study, rows)
    assert (controls[0].outcome, comparisons[0].outcome) == ("open", "undecided")
    assert "VOID" not in report(study, rows)


INTERACTION = """
[arms.long]
batch_length = 6
[arms.strong_long]
batch_length = 6
"jacobian.weight" = 1.0

[[comparisons]]
claim = "C4"
arm = "strong_long"
baseline = "long"
end_point = "open_loop 5"
minus_arm = "strong"
minus_baseline = "baseline"
"""


def test_an_interaction_is_a_difference_of_differences_of_the_same_seeds(tmp_path):
    study = read_study(written(tmp_path, TEXT + INTERACTION))
    base = [1.0, 2.0, 3.0]
    values = {
        ("baseline", "open_loop 5"): base, ("strong", "open_loop 5"): [0.9, 2.1, 2.8],
        ("long", "open_loop 5"): [4.0, 7.0, 9.0], ("strong_long", "open_loop 5"): [3.4, 6.6, 8.27],
        ("baseline", "jacobian"): base, ("strong", "jacobian"): [0.5, 1.51, 2.5],
    }  # fmt: skip
    rows = rows_for(study, values)
    plain, interaction = judge(study, rows)[1]
    # −.6, −.4, −.73 with long imagination; −.1, .1, −.2 with short: −.5, −.5, −.53.
    assert interaction.paired.difference.estimate == pytest.approx(-0.51)
    # Two confirmatory comparisons: level .975, and t₂ = 6.2053.
    assert interaction.paired.difference.high == pytest.approx(-0.51 + 6.2053 * 0.01, abs=1e-6)
    assert (plain.outcome, interaction.outcome) == ("undecided", "support")
    assert "long, minus that of strong to baseline" in report(study, rows)
    fewer = [
        row for row in rows
        if (row["arm"], row["end_point"], row["seed"]) != ("strong", "open_loop 5", "2")
    ]  # fmt: skip
    short = judge(study, fewer)[1][1]
    assert short.outcome == "undecided" and short.paired.pairs == 2
    assert "INTERIM" in report(study, fewer)
