"""SSIM against a loop over windows with its published constants."""

import math

import numpy as np
import pytest

from sdewm.open_loop.error_growth import horizon_growth
from sdewm.open_loop.ssim import ssim


def slow_ssim(x, y):
    """Mean SSIM of two images (height, width, channels), one window at a time."""
    total, count = 0.0, 0
    weights = np.array(
        [[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)]
    )
    weights /= weights.sum()
    for channel in range(x.shape[2]):
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                a = x[row : row + 11, column : column + 11, channel]
                b = y[row : row + 11, column : column + 11, channel]
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                variance_a = (weights * (a - mean_a) ** 2).sum()
                variance_b = (weights * (b - mean_b) ** 2).sum()
                covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
                total += (
                    (2 * mean_a * mean_b + 0.0001)
                    * (2 * covariance + 0.0009)
                    / ((mean_a**2 + mean_b**2 + 0.0001) * (variance_a + variance_b + 0.0009))
                )
                count += 1
    return total / count


def smooth_images(*shape):
    """Blobs with little noise, so that local variances differ from place to place."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[2], : shape[3]]
    waves = 0.5 + 0.4 * np.sin(rows / 3.0 + 1) * np.cos(columns / 4.0)
    noise = 0.1 * generator.uniform(-1, 1, size=shape)
    return np.clip(waves[:, :, None] + noise, 0, 1)


def test_equals_the_loop_for_shifted_and_for_noisy_images():
    images = smooth_images(2, 2, 15, 18, 3)
    shifted = np.roll(images, 2, axis=3)
    other = np.clip(0.7 * images + 0.2 * np.random.default_rng(1).random(images.shape), 0, 1)
    for prediction in (shifted, other):
        fast = ssim(prediction, images)
        assert fast.shape == (2, 2)
        for e in range(2):
            for h in range(2):
                assert fast[e, h] == pytest.approx(slow_ssim(prediction[e, h], images[e, h]))
        assert (fast < 0.95).all()


def test_is_one_for_equal_images_and_symmetric():
    images = smooth_images(1, 3, 16, 16, 1)
    other = np.roll(images, 1, axis=2)
    np.testing.assert_allclose(ssim(images, images), 1.0, rtol=1e-12)
    np.testing.assert_allclose(ssim(images, other), ssim(other, images), rtol=1e-12)


def test_is_at_most_one_for_nearly_equal_images():
    images = np.full((4, 10, 16, 16, 3), 0.5)
    nearly = images + 1e-9 * np.random.default_rng(0).normal(size=images.shape)
    similar = ssim(nearly, images)
    assert (similar <= 1).all() and (similar > 1 - 1e-12).all()
    horizon_growth(1 - similar, 0.5, theta=0.5, seed=0, resamples=40)  # takes no negative error


def test_constant_images_by_hand():
    low, high = np.full((1, 1, 11, 11, 3), 0.2), np.full((1, 1, 11, 11, 3), 0.6)
    expected = (2 * 0.2 * 0.6 + 0.0001) / (0.04 + 0.36 + 0.0001)
    np.testing.assert_allclose(ssim(low, high), expected)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="height and width at least 11"):
        ssim(np.ones((1, 1, 10, 16, 3)), np.ones((1, 1, 10, 16, 3)))
