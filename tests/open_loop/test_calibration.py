"""Spread, coverage and CRPS of samples against closed forms and loops."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from sdewm.open_loop.calibration import coverage, crps, sample_spread


def normal_crps(mean, deviation, y):
    """Closed form for a normal law (Gneiting and Raftery 2007, equation 21)."""
    z = (y - mean) / deviation
    return deviation * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / math.sqrt(math.pi))


def test_spread_is_the_unbiased_standard_deviation_over_samples():
    samples = np.random.default_rng(0).normal(size=(5, 2, 3, 4))
    x = samples[:, 1, 2, 3]
    expected = math.sqrt(sum((value - x.mean()) ** 2 for value in x) / 4)
    spread = sample_spread(samples)
    assert spread.shape == (2, 3, 4)
    assert spread[1, 2, 3] == pytest.approx(expected)


@pytest.mark.parametrize("y", [-1.0, 2.0, 6.0])
@pytest.mark.parametrize("count", [2, 7])
def test_crps_averages_to_the_closed_form_whatever_the_number_of_samples(count, y):
    samples = np.random.default_rng(1).normal(2.0, 3.0, size=(count, 100_000, 1))
    scores = crps(samples, np.full((100_000, 1), y))
    error = scores.std() / math.sqrt(scores.size)
    assert abs(scores.mean() - normal_crps(2.0, 3.0, y)) < 4.5 * error
    assert error < 0.01


def test_crps_equals_the_double_loop():
    generator = np.random.default_rng(2)
    samples, truth = generator.normal(size=(4, 2, 3, 2)), generator.normal(size=(2, 3, 2))
    scores = crps(samples, truth)
    for place in np.ndindex(truth.shape):
        x, y = samples[(slice(None), *place)], truth[place]
        pairs = sum(abs(a - b) for a in x for b in x)
        expected = sum(abs(a - y) for a in x) / 4 - pairs / (2 * 4 * 3)
        assert scores[place] == pytest.approx(expected)


def test_crps_of_whole_numbers_does_not_wrap_around():
    samples, truth = np.array([0, 2], np.uint8).reshape(2, 1, 1), np.array([[3]], np.uint8)
    assert crps(samples, truth).tolist() == [[1.0]]


def test_crps_is_lowest_for_the_law_of_the_truth():
    generator = np.random.default_rng(3)
    truth, draws = generator.normal(size=(20_000, 1)), generator.normal(size=(8, 20_000, 1))
    right, shifted, narrow, wide = (
        crps(samples, truth).mean() for samples in (draws, draws + 0.7, 0.3 * draws, 3 * draws)
    )
    assert right < min(shifted, narrow, wide)


@pytest.mark.parametrize(("count", "level"), [(9, 0.8), (19, 0.9), (19, 0.5), (2, 1 / 3), (4, 0.2)])
def test_coverage_is_the_level_if_the_truth_is_one_of_the_samples(count, level):
    generator = np.random.default_rng(4)
    truth, samples = generator.normal(size=(20_000, 1)), generator.normal(size=(count, 20_000, 1))
    share = coverage(samples, truth, level=level).mean()
    assert abs(share - level) < 4.5 * math.sqrt(level * (1 - level) / 20_000)


def test_coverage_shows_a_model_that_is_too_sure():
    generator = np.random.default_rng(5)
    truth, samples = generator.normal(size=(5000, 1)), generator.normal(size=(9, 5000, 1))
    assert coverage(0.5 * samples, truth, level=0.8).mean() < 0.6
    assert coverage(2.0 * samples, truth, level=0.8).mean() > 0.9


def test_a_sure_and_right_model_covers():
    assert coverage(np.zeros((9, 1, 1)), np.zeros((1, 1)), level=0.8) == 1.0


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (0.9, r"9 samples allow 0.8, 0.6, 0.4, 0.2"),
        (1.0, "level=1.0: 9 samples allow"),
        (0.0, "level=0.0: 9 samples allow"),
    ],
)
def test_levels_that_the_samples_do_not_allow_are_refused(level, message):
    with pytest.raises(ValueError, match=message):
        coverage(np.ones((9, 2, 3)), np.ones((2, 3)), level=level)
