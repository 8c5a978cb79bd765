"""How well latents predict returns, with and without noise (arXiv 2212.08765).

With the return G_t = Σ_{j=1}^{40} γ^{j−1} r_{t+j}, γ = 0.95, over as many steps from every row, a
ridge regression of G on the features [h, z] of clean observations is fitted on every other test
episode. On the others,

    R² = 1 − Σ (G − Ĝ)² / Σ (G − mean G)²,

and the value is R² of clean features minus R² of features under noise of standard deviation 0.2:
what noise takes from a linear value function. Dimensionless; above the R² of clean features if
noise makes the prediction worse than the mean.
"""

from __future__ import annotations

import numpy as np

from sdewm.base.ridge import fit_state_probe
from sdewm.related.filtered import filtered
from sdewm.related.quantity import Quantity
from sdewm.study.end_points import SETTLED, Measurement

NAME, PAPER = "value_probe", "2212.08765"
NOISE, STEPS, DISCOUNT = 0.2, 40, 0.95


def returns(rewards: np.ndarray, steps: int, discount: float) -> np.ndarray:
    """G_t of rewards (E, T), from all rows that `steps` others follow: (E, T − steps).

    >>> returns(np.array([[9.0, 1.0, 2.0, 4.0]]), 2, 0.5)
    array([[2., 4.]])
    """
    later = np.lib.stride_tricks.sliding_window_view(rewards[:, 1:], steps, axis=1)
    return later @ discount ** np.arange(steps)


def explained(prediction: np.ndarray, truth: np.ndarray) -> float:
    """R², 1 for a perfect prediction and 0 for the mean of the truth.

    >>> explained(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])).round(3)
    np.float64(0.786)
    """
    return 1 - np.square(truth - prediction).sum() / np.square(truth - truth.mean()).sum()


def probe_scores(clean: np.ndarray, noisy: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """R² of clean and of noisy features (E, T, F) on odd episodes, from a fit on the even ones.

    >>> x = np.random.default_rng(0).normal(size=(10, 20, 2))
    >>> clean, noisy = probe_scores(x, np.zeros_like(x), x[..., 0] + x[..., 1])
    >>> round(clean, 2), abs(noisy) < 0.02
    (1.0, True)
    """
    probe = fit_state_probe(clean[::2], target[::2, :, None])
    found = [explained(probe.predict(x[1::2])[..., 0], target[1::2]) for x in (clean, noisy)]
    return float(found[0]), float(found[1])


def measure(given: Measurement) -> float:
    """R² of clean features minus that of noisy ones."""
    target = returns(given.episodes.rewards[:, SETTLED:].double().numpy(), STEPS, DISCOUNT)
    rows = target.shape[1]
    features = [filtered(given, s).features[:, :rows].numpy() for s in (0.0, NOISE)]
    clean, noisy = probe_scores(features[0], features[1], target)
    return clean - noisy


QUANTITIES = (
    Quantity(
        NAME,
        PAPER,
        "Linear value under noise",
        "loss of R²",
        "R² of returns on latents, clean minus noisy; lower is more robust",
        measure,
    ),
)
