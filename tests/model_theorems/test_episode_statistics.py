"""Errors over episodes: they cover where episodes differ, and those of independent paths do not."""

import math

import numpy as np
import pytest

from sdewm.model_theorems.episode_statistics import (
    mean_curve,
    mean_estimate,
    pooled_quantile,
    ratio_curve,
)

EPISODES, PATHS, REPEATS = 40, 25, 300


@pytest.fixture(scope="module")
def samples():
    """Values (repeats, E, P, 1) with an effect of the episode three times that of the path."""
    generator = np.random.default_rng(0)
    effect = 3.0 * generator.normal(size=(REPEATS, EPISODES, 1, 1))
    return 10.0 + effect + generator.normal(size=(REPEATS, EPISODES, PATHS, 1))


def calibration(curves):
    """Mean standard error over the true spread of the estimates."""
    spread = np.std([curve.values[0] for curve in curves])
    return float(np.mean([curve.standard_errors[0] for curve in curves])) / spread


def test_the_error_of_a_mean_is_that_of_its_episodes(samples):
    found = [mean_curve([0.0], one.mean(1)) for one in samples]
    assert calibration(found) == pytest.approx(1, abs=0.15)
    independent = np.mean([one.std() / math.sqrt(EPISODES * PATHS) for one in samples])
    assert independent < 0.4 * np.std([curve.values[0] for curve in found])
    values = samples[0, :, 0, 0]
    assert mean_estimate(values).standard_error == pytest.approx(values.std(ddof=1) / EPISODES**0.5)


@pytest.mark.parametrize("level", [0.25, 0.5, 0.8])
def test_the_error_of_a_quantile_is_that_of_its_episodes(samples, level):
    found = [pooled_quantile([0.0], one, level) for one in samples]
    assert calibration(found) == pytest.approx(1, abs=0.25)
    expected = np.quantile(samples, level)
    assert np.mean([curve.values[0] for curve in found]) == pytest.approx(expected, abs=0.05)


def test_quantiles_are_order_statistics_and_ends_have_no_error():
    values = np.arange(20.0).reshape(4, 5, 1)
    assert pooled_quantile([0.0], values, 0.5).values[0] == 9.0
    assert pooled_quantile([0.0], values, 0.05).values[0] == 0.0
    assert math.isnan(pooled_quantile([0.0], values, 0.05).standard_errors[0])


def test_the_error_of_a_ratio_knows_that_both_are_of_the_same_episodes(samples):
    below = samples[..., 0].mean(2, keepdims=True)  # (repeats, E, 1)
    generator = np.random.default_rng(1)
    above = 2.0 * below + generator.normal(size=below.shape)
    found = [ratio_curve([0.0], a, b) for a, b in zip(above, below, strict=True)]
    assert calibration(found) == pytest.approx(1, abs=0.15)
    assert found[0].values[0] == pytest.approx(2, abs=0.1)
    exact = ratio_curve([0.0, 1.0], np.zeros((3, 2)), np.zeros((3, 2)))
    assert exact.values.tolist() == [1.0, 1.0] and not exact.standard_errors.any()


def test_infinite_bounds_stay_infinite():
    curve = mean_curve([0.0], np.array([[1.0], [np.inf]]))
    assert curve.values[0] == np.inf and math.isnan(curve.standard_errors[0])
