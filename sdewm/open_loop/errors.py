"""Errors of recorded predictions, one per episode and horizon (E, H), for `episode_bootstrap`.

The Kullback–Leibler divergence of posterior and k-step prior is also an array (E, H). It is
computed from the distributions (`sdewm.model.distributions`) and recorded with the predictions.
Differences are taken in float64, whatever the dtype of the arrays.
"""

from __future__ import annotations

import numpy as np

from sdewm.base.checks import check_finite_number


def squared_error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean of (x̂ − x)² over all axes after (E, H): over pixels and channels, or components.

    Args:
        prediction: (E, H, …), for example frames (E, H, height, width, 3) in [0, 1].
        truth: the same shape.

    Returns:
        (E, H), in squared units of the input.

    >>> squared_error(np.array([[[1.0, 3.0]]]), np.zeros((1, 1, 2)))
    array([[5.]])
    """
    apart = np.subtract(prediction, truth, dtype=np.float64)
    return np.square(apart).mean(axis=tuple(range(2, truth.ndim)))


def psnr(mean_squared_error: np.ndarray, *, peak: float) -> np.ndarray:
    """Peak signal-to-noise ratio 10 log₁₀(peak²/MSE) in decibels; inf where the MSE is 0.

    The customary definition averages the PSNR of single images over episodes, but one perfect image
    makes that mean infinite. The PSNR of the mean error over episodes avoids this. The former is
    never smaller than the latter (Jensen), so reports should state which one is used. For the
    interval of the latter:

        episode_bootstrap(lambda e: psnr(e.mean(axis=0), peak=1.0), errors, seed=0)

    Args:
        mean_squared_error: any shape, from `squared_error`, ≥ 0.
        peak: greatest possible value of a pixel: 1.0 for images in [0, 1].

    Raises:
        ValueError: a peak that is not positive.

    >>> psnr(np.array([0.01, 1.0]), peak=1.0)
    array([20., 0.])
    """
    peak = check_finite_number("peak", peak)
    if not peak > 0:
        raise ValueError(f"peak={peak!r}: expected a positive number.")
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / mean_squared_error)


def absolute_error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|r̂ − r| of scalars such as rewards.

    Args:
        prediction: (E, H).
        truth: (E, H).

    Returns:
        (E, H), in units of the input.
    """
    return np.abs(np.subtract(prediction, truth, dtype=np.float64))


def return_error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|Σ_{j ≤ k} (r̂_j − r_j)|, undiscounted: errors of equal sign add up, others cancel.

    Args:
        prediction: rewards (E, H).
        truth: (E, H).

    Returns:
        (E, H): at k, the absolute error of the return over the first k steps.

    >>> return_error(np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 1.0]]))
    array([[1., 0., 1.]])
    """
    return np.abs(np.cumsum(np.subtract(prediction, truth, dtype=np.float64), axis=1))


def normalised_distance(prediction: np.ndarray, truth: np.ndarray, data: np.ndarray) -> np.ndarray:
    """‖ẑ − z‖² / Σ_d Var z_d, with variances (divisor N) over the rows of the data.

    On average, the mean of the data has distance 1 and an independent draw distance 2, whatever
    the scale of the latents. A model therefore gains nothing by shrinking its latents.

    Args:
        prediction: latents (E, H, D).
        truth: (E, H, D).
        data: latents (N, D) that set the scale, for example posteriors of training episodes; they
            vary.

    Returns:
        (E, H), dimensionless.

    >>> z = np.random.default_rng(0).normal(size=(1000, 1, 4))
    >>> data = z[:, 0]
    >>> normalised_distance(np.broadcast_to(data.mean(axis=0), z.shape), z, data).mean()
    np.float64(1.0)
    """
    apart = np.subtract(prediction, truth, dtype=np.float64)
    return np.square(apart).sum(axis=2) / data.var(axis=0, dtype=np.float64).sum()
