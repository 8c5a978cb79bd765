"""What intervals say, and rank correlations, against known cases; the committed table."""

import numpy as np
import pytest
from scipy import stats

from paper_checks.figure_tables import rows_of
from sdewm.base.records import read_table
from sdewm.related.readings import rank_correlation, reading
from sdewm.related.registry import INDICATORS, OF_RUNS
from sdewm.robustness.statistics import Interval

UP, DOWN, NONE = Interval(2, 1, 3), Interval(-2, -3, -1), Interval(0.5, -1, 2)


def test_a_reading_follows_the_intervals():
    weights = ("0.001", "0.01", "0.1")
    assert reading({"0.001": NONE, "0.01": UP, "0.1": UP}, weights) == (
        "raised at 0.01 and 0.1; no measurable change at 0.001"
    )
    assert reading({"0.001": DOWN, "0.1": UP}, weights) == "raised at 0.1; lowered at 0.001"
    assert reading({"0.001": NONE, "0.1": NONE}, ()) == "no measurable change at 0.001 and 0.1"
    assert reading({"noise": DOWN}, ["noise"], "in") == "lowered in noise"


def test_what_does_not_hold_among_all_differences_is_only_perhaps():
    found = reading({"0.001": DOWN, "0.01": UP, "0.1": UP, "1": DOWN}, ["0.1", "1"])
    assert found == (
        "raised at 0.1; lowered at 1; perhaps raised at 0.01; perhaps lowered at 0.001"
    )
    assert reading({"0.1": NONE}, ["0.1"]) == "no measurable change at 0.1"


def test_the_rank_correlation_is_that_of_ranks_and_its_interval_has_its_level():
    x = np.arange(20.0)
    assert rank_correlation(x, np.exp(x)) == (1, 1, 1)
    assert rank_correlation(x, -(x**3)).estimate == -1
    source, inside = np.random.default_rng(0), 0
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's of a normal pair with correlation 0.6
    for _ in range(400):
        a, b = source.normal(size=(2, 30))
        found = rank_correlation(a, 0.6 * a + 0.8 * b)
        assert found.estimate == pytest.approx(stats.spearmanr(a, 0.6 * a + 0.8 * b).statistic)
        inside += found.low <= truth <= found.high
    assert 0.92 < inside / 400 < 0.98


@pytest.mark.parametrize(("x", "text"), [([1.0] * 6, "does not vary"), ([1.0, 2.0], "5 pairs")])
def test_a_correlation_that_is_undefined_is_refused(x, text):
    with pytest.raises(ValueError, match=text):
        rank_correlation(x, list(range(len(x))))


def test_a_difference_between_groups_alone_is_no_correlation_within():
    source, groups = np.random.default_rng(0), ["a"] * 200 + ["b"] * 200
    shift = np.repeat([0.0, 10.0], 200)
    x, y = source.normal(size=400) + shift, source.normal(size=400) + shift
    assert rank_correlation(x, y).low > 0.5
    inside = rank_correlation(x, y, groups)
    assert inside.low < 0 < inside.high


def test_the_interval_within_groups_has_its_level_and_counts_their_means():
    source, inside, groups = np.random.default_rng(0), 0, [*"abcdefgh"] * 3
    shift = np.tile(np.arange(8.0) * 5, 3)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)
    for _ in range(1000):
        a, b = source.normal(size=(2, 24))
        found = rank_correlation(a + shift, 0.6 * a + 0.8 * b - shift, groups)
        inside += found.low <= truth <= found.high
        alone = rank_correlation(a, 0.6 * a + 0.8 * b)
    assert 0.93 < inside / 1000 < 0.98
    # By hand: 24 pairs less 7 means are as wide as 17 pairs of one group.
    wide = np.arctanh([found.low, found.high])
    factor = (1 + found.estimate**2 / 2) / (24 - 7 - 3)
    assert np.ptp(wide) == pytest.approx(2 * 1.959964 * np.sqrt(factor))
    assert np.ptp(wide) > np.ptp(np.arctanh([alone.low, alone.high]))


def test_groups_that_leave_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match=r"6 values in 3 groups; expected at least 7"):
        rank_correlation([1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 5, 7], [*"aabbcc"])
    with pytest.raises(ValueError, match=r"groups 1; expected equally many"):
        rank_correlation([1, 2, 3, 4, 5], [2, 1, 3, 4, 5], ["a"])


def test_the_committed_table_has_every_measurement_of_every_run():
    rows = read_table(rows_of("fig_related"))[0]
    runs = {row["run"] for row in rows if "+" not in str(row["run"])}
    names = {one.name for one in OF_RUNS}
    assert len(names) == len(OF_RUNS) and {*INDICATORS} < names
    for run in runs:
        assert {row["measurement"] for row in rows if row["run"] == run} == names
    assert {row["weight"] for row in rows} == {0.0, 0.001, 0.01, 0.1}
    assert all(np.isfinite(row["value"]) for row in rows)
