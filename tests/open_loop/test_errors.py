"""Errors of predictions against loops and hand computation."""

import math

import numpy as np
import pytest

from sdewm.open_loop.errors import (
    absolute_error,
    normalised_distance,
    psnr,
    return_error,
    squared_error,
)


def arrays(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.random(shape), generator.random(shape)


def test_squared_error_is_the_mean_over_all_further_axes():
    prediction, truth = arrays(2, 3, 4, 5, 3)
    expected = np.zeros((2, 3))
    for e in range(2):
        for h in range(3):
            terms = (prediction[e, h] - truth[e, h]).ravel()
            expected[e, h] = sum(term * term for term in terms) / len(terms)
    np.testing.assert_allclose(squared_error(prediction, truth), expected, rtol=1e-12)
    rewards = squared_error(prediction[..., 0, 0, 0], truth[..., 0, 0, 0])
    np.testing.assert_allclose(rewards, (prediction - truth)[..., 0, 0, 0] ** 2)


def test_errors_of_single_precision_are_computed_in_double():
    prediction = np.full((1, 1, 3), 1 + 1e-4, dtype=np.float32)
    error = squared_error(prediction, np.ones((1, 1, 3), dtype=np.float32))
    assert error.dtype == np.float64
    assert error[0, 0] == pytest.approx((float(prediction[0, 0, 0]) - 1) ** 2, rel=1e-12)


def test_differences_of_whole_numbers_do_not_wrap_around():
    prediction, truth = np.array([[1, 0]], np.uint8), np.array([[2, 3]], np.uint8)
    assert absolute_error(prediction, truth).tolist() == [[1.0, 3.0]]
    assert return_error(prediction, truth).tolist() == [[1.0, 4.0]]
    data = np.array([[0], [2]], np.uint8)  # of variance 1
    assert normalised_distance(prediction[..., None], truth[..., None], data).tolist() == [[1, 9]]


def test_psnr_by_hand():
    # an error of 0.1 everywhere: MSE 0.01, 20 dB; of 25.5 out of 255 the same
    error = squared_error(np.full((1, 1, 2, 2, 3), 0.6), np.full((1, 1, 2, 2, 3), 0.5))
    np.testing.assert_allclose(psnr(error, peak=1.0), 20.0)
    np.testing.assert_allclose(psnr(np.array([25.5**2]), peak=255.0), 20.0)
    np.testing.assert_allclose(psnr(np.array(0.5), peak=1.0), 3.010299957)
    assert psnr(np.array([0.0]), peak=1.0)[0] == math.inf


def test_mean_psnr_of_images_is_not_below_psnr_of_the_mean_error():
    errors = np.random.default_rng(0).exponential(size=(50, 4))
    assert (psnr(errors, peak=1.0).mean(axis=0) > psnr(errors.mean(axis=0), peak=1.0)).all()


def test_reward_and_return_errors_against_loops():
    prediction, truth = arrays(3, 5)
    for e in range(3):
        total = 0.0
        for h in range(5):
            gap = prediction[e, h] - truth[e, h]
            total += gap
            assert absolute_error(prediction, truth)[e, h] == pytest.approx(abs(gap))
            assert return_error(prediction, truth)[e, h] == pytest.approx(abs(total))


def test_normalised_distance_is_one_for_the_mean_and_two_for_an_independent_draw():
    generator = np.random.default_rng(1)
    scales, shift = np.array([1.0, 10.0, 0.1]), np.array([5.0, 0.0, -3.0])
    data = generator.normal(size=(20_000, 3)) * scales + shift
    truth, other = data[:10_000, None], data[10_000:, None]
    mean = np.broadcast_to(data.mean(axis=0), truth.shape)
    assert normalised_distance(mean, truth, data).mean() == pytest.approx(1.0, rel=0.03)
    assert normalised_distance(other, truth, data).mean() == pytest.approx(2.0, rel=0.03)


def test_normalised_distance_has_no_unit_and_is_a_total_over_components():
    prediction, truth = arrays(2, 3, 4)
    data = np.random.default_rng(2).normal(size=(50, 4))
    distance = normalised_distance(prediction, truth, data)
    scaled = normalised_distance(7 * prediction + 1, 7 * truth + 1, 7 * data + 1)
    np.testing.assert_allclose(scaled, distance, rtol=1e-9)
    total = sum(np.mean((data[:, d] - np.mean(data[:, d])) ** 2) for d in range(4))
    expected = sum((prediction[1, 2, d] - truth[1, 2, d]) ** 2 for d in range(4)) / total
    assert distance[1, 2] == pytest.approx(expected)


def test_a_peak_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="peak=0.0"):
        psnr(np.ones((1, 1)), peak=0.0)
