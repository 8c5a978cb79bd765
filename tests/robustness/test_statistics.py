"""Statistics of runs against enumeration, scipy, closed forms and simulated coverage."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sdewm.robustness.statistics import (
    bootstrap_interval,
    compare,
    hill_index,
    holm,
    interquartile_mean,
    levene_p,
    performance_profile,
    probability_of_improvement,
    sign_flip_p,
    t_interval,
    wilson_interval,
)


@pytest.fixture
def source():
    return np.random.default_rng(0)


def test_the_sign_flip_test_is_that_over_all_signs(source):
    for n in (1, 3, 8):
        differences = source.normal(0.5, 1, n)
        seen = abs(differences.sum())
        signs = itertools.product((-1, 1), repeat=n)
        count = sum(abs(np.dot(one, differences)) >= seen - 1e-12 for one in signs)
        assert sign_flip_p(differences) == count / 2**n
    assert sign_flip_p(np.arange(1.0, 11.0)) == 2 / 2**10  # the least possible
    assert sign_flip_p([1.0, -1.0]) == 1.0
    assert sign_flip_p([0.0, 0.0]) == 1.0


def test_many_differences_are_compared_with_drawn_signs(source):
    sample = source.normal(0.4, 1, 40)
    normal = 2 * stats.norm.sf(abs(sample.sum()) / np.sqrt((sample**2).sum()))
    assert sign_flip_p(sample) == pytest.approx(normal, rel=0.3)
    assert sign_flip_p(np.ones(60)) == 1 / (1 + 2**16)


def test_the_sign_flip_test_holds_its_level_under_heavy_tails(source):
    rejected = np.mean([sign_flip_p(row) <= 0.05 for row in source.standard_cauchy((2000, 8))])
    assert 0.02 < rejected < 0.065  # of steps of 2/256 the largest below .05
    shifted = np.mean([sign_flip_p(row + 2) <= 0.05 for row in source.normal(size=(200, 8))])
    assert shifted > 0.9


def test_a_comparison_is_scipys_paired_test(source):
    a, b = source.normal(1, 1, 9), source.normal(0, 2, 9)
    found, theirs = compare(a, b), stats.ttest_rel(a, b)
    assert found.t_p == pytest.approx(theirs.pvalue) and found.pairs == 9
    assert found.difference[1:] == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.sign_p == sign_flip_p(a - b)
    unpaired = stats.ttest_ind(a, b).pvalue
    assert found.t_p != pytest.approx(unpaired, rel=1e-3)
    assert compare([1.0, 1.0], [1.0, 1.0]).t_p == 1.0 and compare([2.0, 3.0], [1.0, 2.0]).t_p == 0.0


def test_holm_multiplies_and_keeps_the_order(source):
    p = {"a": 0.011, "b": 0.02, "c": 0.04, "d": 0.5}
    assert holm(p) == pytest.approx({"a": 0.044, "b": 0.06, "c": 0.08, "d": 0.5})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    wrong = [
        min(holm(dict(enumerate(map(float, row)))).values()) < 0.05
        for row in source.random((4000, 5))
    ]
    assert 0.03 < np.mean(wrong) < 0.06  # the family-wise level
    single = [row.min() < 0.05 for row in source.random((4000, 5))]
    assert np.mean(single) > 0.2


def coverage(interval, draw, mean, n, times):
    found = (interval(draw(n)) for _ in range(times))
    return np.mean([one.low <= mean <= one.high for one in found])


def test_intervals_cover_what_is_said_of_them(source):
    """t: .95 for normal, .91 to .93 for skewed scores; percentile bootstrap of a mean: .79 at 5."""
    normal, skewed = (lambda n: source.normal(size=n)), (lambda n: source.exponential(size=n))
    assert 0.93 < coverage(t_interval, normal, 0.0, 5, 1000) < 0.97
    assert 0.85 < coverage(t_interval, skewed, 1.0, 8, 1000) < 0.945

    def percentile(sample):
        return bootstrap_interval(sample[:, None], lambda table: float(table.mean()), draws=100)

    assert 0.72 < coverage(percentile, normal, 0.0, 5, 200) < 0.88


def test_the_interquartile_mean_drops_a_quarter_at_either_end(source):
    scores = source.normal(size=(6, 4))
    ordered = np.sort(scores.ravel())
    assert interquartile_mean(scores) == pytest.approx(ordered[6:18].mean())
    for n in range(1, 9):  # as the published library takes it
        some = source.normal(size=(n, 1))
        assert interquartile_mean(some) == pytest.approx(stats.trim_mean(some.ravel(), 0.25))
    spoilt = scores.copy()
    spoilt[0] = 1e9
    assert abs(interquartile_mean(spoilt)) < 2 < spoilt.mean()


def test_the_bootstrap_draws_runs_within_each_task(source):
    scores = np.stack([np.full(5, 0.0), np.full(5, 10.0)], 1)  # tasks differ, runs do not
    found = bootstrap_interval(scores, lambda table: float(table.mean()), draws=50)
    assert found == (5.0, 5.0, 5.0)
    wide = bootstrap_interval(source.normal(size=(40, 1)), draws=500)
    assert wide.low < wide.estimate < wide.high
    again = (
        bootstrap_interval(np.arange(10.0)[:, None], seed=3),
        bootstrap_interval(np.arange(10.0)[:, None], seed=3),
    )
    assert again[0] == again[1]


def test_probability_of_improvement_is_mann_whitney(source):
    a, b = source.integers(0, 5, (7, 2)).astype(float), source.integers(1, 6, (9, 2)).astype(float)
    expected = np.mean([stats.mannwhitneyu(a[:, k], b[:, k]).statistic / 63 for k in (0, 1)])
    assert probability_of_improvement(a, b) == pytest.approx(expected)
    assert probability_of_improvement(b, a) == pytest.approx(1 - expected)
    assert probability_of_improvement(a, a) == 0.5


def test_profile_levene_and_wilson(source):
    scores = source.random((5, 3))
    assert performance_profile(scores, [0.3])[0] == np.mean(scores > 0.3)
    one, two = source.normal(0, 1, 40), source.normal(0, 4, 40)
    assert levene_p([one, two]) < 1e-3 < levene_p([one, one + 5])
    share = wilson_interval(3, 10)
    z = stats.norm.ppf(0.975)
    centre = (0.3 + z * z / 20) / (1 + z * z / 10)
    reach = z * math.sqrt(0.3 * 0.7 / 10 + z * z / 400) / (1 + z * z / 10)
    assert share == pytest.approx((0.3, centre - reach, centre + reach))


@pytest.mark.parametrize("alpha", [1.5, 2.0, 4.0])
def test_the_tail_index_of_a_pareto_law(alpha, source):
    sample = source.pareto(alpha, 20000) + 1
    found, error = hill_index(sample, 1000)
    assert abs(found - alpha) < 4 * error and error == pytest.approx(found / math.sqrt(1000))
    assert hill_index(-sample, 1000)[0] == found
    assert hill_index(source.normal(size=20000))[0] > 4  # a normal law has none


def test_rliable_gives_the_same_aggregates(source):
    metrics = pytest.importorskip("rliable.metrics")
    a, b = source.normal(size=(6, 3)), source.normal(size=(5, 3))
    assert interquartile_mean(a) == pytest.approx(metrics.aggregate_iqm(a))
    assert probability_of_improvement(a, b) == pytest.approx(
        metrics.probability_of_improvement(a, b)
    )


def test_whole_numbers_given_as_floats_and_tiny_tails_are_right():
    assert wilson_interval(1.0, 2.0) == wilson_interval(1, 2)
    tiny = hill_index([1.0, 1.0, 1.0, 5e-324], 3)  # a ratio of 2e323 is no number
    assert tiny[0] == pytest.approx(1 / -math.log(5e-324))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: t_interval([1.0]), "values has shape (1,); expected (n,) with n ≥ 2"),
        (lambda: t_interval([1.0, math.nan]), "values holds nan"),
        (lambda: t_interval([1.0, 2.0], level=95), "level=95: expected a number between 0 and 1"),
        (lambda: compare([1.0, 2.0], [1.0, 2.0, 3.0]), "theirs has 3 numbers, ours 2"),
        (lambda: holm({"a": 1.5}), "p_values['a']=1.5"),
        (lambda: interquartile_mean([1.0, 2.0]), "scores has shape (2,); expected (runs, tasks)"),
        (lambda: bootstrap_interval([[1.0]], draws=0), "draws=0"),
        (lambda: probability_of_improvement([[1.0]], [[1.0, 2.0]]), "theirs has 2 tasks, ours 1"),
        (lambda: levene_p([[1.0, 2.0, 3.0]]), "groups has 1 groups"),
        (lambda: levene_p([[1.0, 2.0], [1.0, 2.1]]), "groups[0] has shape (2,)"),
        (lambda: levene_p([[1.0] * 3, [2.0] * 3]), "no value differs from the others"),
        (lambda: wilson_interval(3, 2), "successes=3: expected at most trials=2"),
        (lambda: hill_index([1.0, 2.0, 3.0, 4.0], 4), "largest=4: expected fewer than the 4"),
        (lambda: hill_index([1.0, 0.0, 0.0, 0.0], 2), "values: only 1 are not 0"),
        (lambda: t_interval([True, False]), "values is bool numbers; expected real numbers"),
        (lambda: t_interval([1j, 2.0]), "values is complex128 numbers"),
        (lambda: t_interval(["1", "2"]), "expected real numbers (n,)"),
        (lambda: t_interval({1.0, 2.0}), "values is set; expected real numbers"),
        (lambda: t_interval([[1.0], [2.0, 3.0]]), "values has rows of several lengths"),
        (lambda: holm([0.1]), "p_values=list: expected names with their p-values"),
        (lambda: bootstrap_interval([[1.0]], "mean"), "statistic='mean': expected a function"),
        (lambda: bootstrap_interval([[1.0]], lambda x: x), "expected a function (runs, tasks)"),
        (lambda: bootstrap_interval([[1.0]], seed=-1), "seed=-1"),
        (lambda: levene_p(None), "groups=NoneType"),
    ],
)
def test_wrong_input_is_named(call, said):
    with pytest.raises(ValueError) as problem:
        call()
    assert said in str(problem.value)
