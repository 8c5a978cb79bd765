"""Structural similarity of images (SSIM)."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

WINDOW = 11  # pixels
_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03


def ssim(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity, 1 for equal images, at most 1.

    With local means μ, variances σ² and covariance σ_xy under a Gaussian window w of 11 × 11 pixels
    and σ = 1.5, Σ w = 1 (so that σ² = Σ w x² − μ²), C₁ = 0.01² and C₂ = 0.03²:

        SSIM = (2 μ_x μ_y + C₁)(2 σ_xy + C₂) / ((μ_x² + μ_y² + C₁)(σ_x² + σ_y² + C₂)),

    averaged over all positions where the window lies inside the image, then over channels. The
    window is separable, so each local mean takes two passes of scipy.ndimage.

    Args:
        prediction: (E, H, height, width, channels) in [0, 1]; clip the output of a decoder.
        truth: the same shape.

    Returns:
        (E, H).

    Raises:
        ValueError: images smaller than 11 × 11.

    Source: Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13 (2004).

    >>> image = np.random.default_rng(0).random((1, 1, 16, 16, 3))
    >>> ssim(image, image), ssim(1 - image, image) < 0
    (array([[1.]]), array([[ True]]))
    """
    if min(truth.shape[2:4]) < WINDOW:
        raise ValueError(
            f"truth {truth.shape}: expected (E, H, height, width, channels), height and width at "
            f"least {WINDOW}."
        )
    means = []
    for pair in zip(prediction, truth, strict=True):  # one episode at a time, to limit memory
        x, y = (images.astype(np.float64) for images in pair)
        means.append(_similarity(x, y).mean(axis=(1, 2, 3)))
    return np.minimum(np.stack(means), 1.0)  # rounding exceeds 1 where images are nearly equal


def _similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Local similarity (H, height − 10, width − 10, channels) of (H, height, width, channels)."""
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    covariance = _local_mean(x * y) - mean_x * mean_y
    variances = _local_mean(x * x) - mean_x**2 + _local_mean(y * y) - mean_y**2
    c1, c2 = _K1**2, _K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


def _local_mean(images: np.ndarray) -> np.ndarray:
    half = WINDOW // 2
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        images = correlate1d(images, weights, axis=axis)
    return images[:, half:-half, half:-half]
