"""Intervals of the order of a remainder, from groups and from batches with known slopes."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from sdewm.base.stats import Estimate
from sdewm.theory.remainder_order import remainder_order

EPSILONS = (0.4, 0.2, 0.1, 0.05)


def order(replicates, by_group):
    means = replicates.mean(0)
    errors = replicates.std(0, ddof=1) / math.sqrt(len(replicates))
    remainders = [Estimate(*map(float, pair)) for pair in zip(means, errors, strict=True)]
    options = {"expected": 3, "scale": 1.0, "change": 1.0, "rounding": 2e-16}
    return remainder_order(EPSILONS, remainders, replicates, by_group=by_group, **options)


def test_the_interval_over_groups_is_students():
    slopes = np.array([2.9, 3.0, 3.15, 3.2])
    remainders = np.array(EPSILONS) ** slopes[:, None]
    remainders[:, 0] *= 7.0  # the largest of four sizes is not used
    found = order(remainders, by_group=True)
    half = student.ppf(0.975, 3) * slopes.std(ddof=1) / 2
    assert found.slope == pytest.approx(slopes.mean())
    assert found.interval == pytest.approx((slopes.mean() - half, slopes.mean() + half))


def test_the_interval_over_batches_has_the_width_of_95_percent():
    """Only the smallest size varies: the slope moves by −log(mean)/(2 log 2) of it."""
    rng = np.random.default_rng(5)
    factors = np.ones((400, 4))
    factors[:, 3] = 1 + 0.2 * rng.normal(size=400)
    found = order(factors * np.array(EPSILONS) ** 3, by_group=False)
    error = 0.2 / 20 / (2 * math.log(2))
    width = found.interval[1] - found.interval[0]
    assert width == pytest.approx(2 * 1.96 * error, rel=0.08)  # 90 % would be 16 % less


def test_one_remainder_without_precision_leaves_the_order_undecided():
    rng = np.random.default_rng(5)
    factors = np.ones((100, 4))
    factors[:, 3] = 1 + 2.0 * rng.normal(size=100)  # relative standard error about 0.2
    found = order(factors * np.array(EPSILONS) ** 3, by_group=False)
    assert found.verdict.outcome == "undecided"
    assert "relative standard error" in found.verdict.reason


@pytest.mark.parametrize("groups", [2, 8, 32])
def test_the_interval_over_few_groups_covers_the_order_in_95_percent(groups):
    """The percentile bootstrap covers 50 % with two groups and 85 % with eight."""
    rng, covered, runs = np.random.default_rng(7), 0, 400
    for _ in range(runs):
        factors = 1 + rng.normal(size=(groups, 4)) * np.array([0.0, 0.05, 0.05, 0.05])
        means = factors.mean(0) * np.array(EPSILONS) ** 3
        precise = [Estimate(float(mean), 0.01 * float(mean)) for mean in means]
        options = {"expected": 3, "scale": 1e-3, "change": 1.0, "rounding": 2e-16}
        replicates = factors * np.array(EPSILONS) ** 3
        low, high = remainder_order(EPSILONS, precise, replicates, **options).interval
        covered += low <= 3 <= high
    assert covered / runs == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize("sampled", [True, False])
def test_a_remainder_that_changes_its_sign_has_no_order(sampled):
    """ε²(0.08 − ε) has order 2, but its modulus falls from 0.2 to 0.05 like ε³."""
    sizes = np.array(EPSILONS)
    remainders = sizes**2 * (0.08 - sizes)
    noise = 1 + 1e-3 * np.random.default_rng(3).normal(size=(256, 4))
    estimates = [Estimate(float(r), 1e-4 * abs(float(r)) * sampled) for r in remainders]
    options = {"expected": 3, "scale": 1e-3, "change": 1.0, "rounding": 2e-16}
    replicates = noise * remainders if sampled else None
    found = remainder_order(EPSILONS, estimates, replicates, **options)
    assert found.verdict.outcome == "undecided" and "sign" in found.verdict.reason
