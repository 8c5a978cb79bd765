"""Estimates from a few drawn numbers, computed again by loops."""

import math

import numpy as np
import pytest
from scipy.stats import f as fisher

from sdewm.model_theorems.episode_statistics import mean_and_error, ratio
from sdewm.model_theorems.error_statistics import ErrorStatistics

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


def test_hotellings_probability_is_that_of_the_distribution_of_fisher():
    given = statistics(offset=0.2)
    rows = given.shift.mean((1, 2))
    mean, covariance = rows.mean(0), np.cov(rows.T)
    square = EPISODES * mean @ np.linalg.solve(covariance, mean)
    found = given.zero_drift_test()
    assert found.name == "Hotelling"
    assert found.statistic == pytest.approx(square)
    scaled = square * (EPISODES - SIZE) / (SIZE * (EPISODES - 1))
    assert found.p_value == pytest.approx(fisher.sf(scaled, SIZE, EPISODES - SIZE))


def test_errors_over_episodes_have_one_degree_of_freedom_less_than_there_are_episodes():
    above, below = np.array([1.0, 2.0, 4.0, 5.0]), np.array([2.0, 3.0, 4.0, 7.0])
    found, error = mean_and_error(above)
    assert (found, error) == pytest.approx((3.0, math.sqrt((4 + 1 + 1 + 4) / 3 / 4)))
    share = ratio(above, below)
    rest = [(a - 0.75 * b) / 4.0 for a, b in zip(above, below, strict=True)]
    assert share.value == pytest.approx(0.75)
    assert share.standard_error == pytest.approx(math.sqrt(sum(x * x for x in rest) / 3 / 4))
