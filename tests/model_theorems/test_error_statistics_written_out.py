"""Estimates from a few drawn numbers, computed again by loops."""

import itertools
import math

import numpy as np
import pytest

from sdewm.base.stats import mean_and_error
from sdewm.model_theorems.episode_statistics import ratio
from sdewm.model_theorems.error_statistics import FLIPS, ErrorStatistics

EPISODES, DRAWS, STEPS, SIZE = 9, 3, 4, 2


def statistics(draws=DRAWS, offset=0.0):
    rng = np.random.default_rng(3)
    shape = (EPISODES, draws, STEPS, SIZE)
    shift, std = offset + rng.normal(size=shape), rng.uniform(0.5, 2.0, size=shape)
    return ErrorStatistics(shift, std, rng.uniform(0.5, 2.0, size=(EPISODES, STEPS, SIZE)))


def test_the_variance_of_one_draw_is_that_over_episodes_and_steps():
    given = statistics(draws=1)
    for z in range(SIZE):
        values = given.shift[:, 0, :, z].ravel()
        expected = sum((x - values.mean()) ** 2 for x in values) / (len(values) - 1)
        assert given.variance[..., z] == pytest.approx(np.full((EPISODES, STEPS), expected))


def test_the_variance_of_draws_is_that_of_each_step():
    given = statistics()
    assert given.variance == pytest.approx(given.shift.var(axis=1, ddof=1))


def test_the_change_of_the_variance_is_the_mean_of_squares_less_the_square_of_the_reference():
    given = statistics()
    for e in range(EPISODES):
        for t in range(STEPS):
            squares = sum(given.std[e, k, t] ** 2 for k in range(DRAWS)) / DRAWS
            expected = squares - given.reference_std[e, t] ** 2
            assert given.variance_change[e, t] == pytest.approx(expected)
            changes = sum(given.std[e, k, t] for k in range(DRAWS)) / DRAWS
            assert given.same_driver[e, t] == pytest.approx(changes - given.reference_std[e, t])


def test_the_error_of_the_mean_drift_is_that_of_its_episodes():
    given = statistics()
    means = given.shift.mean((1, 2))
    for z, found in enumerate(given.mean_drift()):
        squares = sum((x - means[:, z].mean()) ** 2 for x in means[:, z])
        assert found.value == pytest.approx(means[:, z].mean())
        expected = math.sqrt(squares / (EPISODES - 1) / EPISODES)
        assert found.standard_error == pytest.approx(expected)


def test_the_probability_of_random_signs_is_that_of_all_of_them():
    given = statistics(offset=0.2)
    rows = given.shift.mean((1, 2))
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=EPISODES)))
    square = float((rows.mean(0) ** 2).sum())
    exact = float((((signs @ rows / EPISODES) ** 2).sum(1) >= square - 1e-12).mean())
    found = given.zero_drift_test()
    assert (found.name, found.statistic) == ("sign flips", pytest.approx(square))
    spread = math.sqrt(exact * (1 - exact) / FLIPS)
    assert abs(found.p_value - exact) < 5 * spread + 1 / FLIPS and exact < 0.5
    # All signs equal, or all reversed: these two of the eight are as large.
    three = ErrorStatistics(np.full((3, 2, 2, 1), 0.5), np.ones((3, 2, 2, 1)), np.ones((3, 2, 1)))
    assert three.zero_drift_test().p_value == pytest.approx(0.25, abs=5 * 0.43 / FLIPS**0.5)


def test_a_probability_of_random_signs_is_never_zero():
    many = ErrorStatistics(np.ones((60, 2, 2, 1)), np.ones((60, 2, 2, 1)), np.ones((60, 2, 1)))
    assert many.zero_drift_test().p_value == 1 / (1 + FLIPS)


def test_errors_over_episodes_have_one_degree_of_freedom_less_than_there_are_episodes():
    above, below = np.array([1.0, 2.0, 4.0, 5.0]), np.array([2.0, 3.0, 4.0, 7.0])
    found, error = mean_and_error(above)
    assert (found, error) == pytest.approx((3.0, math.sqrt((4 + 1 + 1 + 4) / 3 / 4)))
    share = ratio(above, below)
    rest = [(a - 0.75 * b) / 4.0 for a, b in zip(above, below, strict=True)]
    assert share.value == pytest.approx(0.75)
    assert share.standard_error == pytest.approx(math.sqrt(sum(x * x for x in rest) / 3 / 4))
