"""Linear probes: ridge regression of the physical state on latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from sdewm.base.arrays import check_array
from sdewm.base.checks import check_count, check_finite_number

RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class StateProbe:
    """Affine probe ŝ = z W + b of the physical state.

    Attributes:
        weights: W, (D, Q).
        offset: b, (Q,).
    """

    weights: np.ndarray
    offset: np.ndarray

    def predict(self, latents: np.ndarray) -> np.ndarray:
        """Physical state (…, Q) of latents (…, D)."""
        return latents @ self.weights + self.offset


def fit_state_probe(latents: np.ndarray, states: np.ndarray, *, ridge: float = RIDGE) -> StateProbe:
    """Ridge regression of the physical state on latents.

    Let z' be the latents standardised component by component over the N = E·T rows. The probe
    minimises (1/N) Σ_n ‖s_n − s̄ − z'_n W'‖² + ridge ‖W'‖_F². Along a direction of variance v of z'
    the weight is v/(v + ridge) times that of least squares. The offset is not penalised. A constant
    component has weight 0.

    Args:
        latents: posteriors, (E, T, D).
        states: physical states (E, T, Q) at the same steps; give an angle as cosine and sine.
        ridge: penalty > 0, dimensionless.

    Raises:
        ValueError: the shapes do not match, a value is not finite, or ridge ≤ 0.

    Source: Hoerl and Kennard, Technometrics 12 (1970).

    >>> z = np.random.default_rng(0).normal(size=(20, 10, 2))
    >>> fit_state_probe(z, z @ np.array([[2.0], [-1.0]]) + 5, ridge=1e-9).weights
    array([[ 2.],
           [-1.]])
    """
    latents, states = _check_recorded(latents, states)
    ridge = check_finite_number("ridge", ridge)
    if not ridge > 0:
        raise ValueError(f"ridge={ridge!r}: expected a positive number.")
    rows, targets = _flatten(latents), _flatten(states)  # (N, D), (N, Q)
    mean = rows.mean(axis=0)
    scale = np.where((rows != rows[0]).any(axis=0), rows.std(axis=0), 1.0)
    standard = (rows - mean) / scale
    gram = standard.T @ standard / len(rows) + ridge * np.eye(rows.shape[1])
    centre = targets.mean(axis=0)
    weights = cho_solve(cho_factor(gram), standard.T @ (targets - centre) / len(rows))
    weights = weights / scale[:, None]
    return StateProbe(weights, centre - mean @ weights)


def cross_fitted_states(
    latents: np.ndarray,
    states: np.ndarray,
    predicted: np.ndarray,
    *,
    folds: int,
    seed: int,
    ridge: float = RIDGE,
) -> np.ndarray:
    """Cross-fitted physical state of predicted latents.

    The episodes are divided into folds at random. Each fold is decoded by the probe fitted to the
    posteriors of the other folds, so that no probe is applied to an episode it was fitted to. With
    separate training episodes use `fit_state_probe` on them and `predict` on the rest instead.

    Args:
        latents: posteriors (E, T, D).
        states: physical states (E, T, Q) at the same steps.
        predicted: latents (E, H, D) of open-loop rollouts of the same episodes.
        folds: number of folds, from 2 to E.
        seed: seed of the random division into folds.
        ridge: see `fit_state_probe`.

    Returns:
        Physical states (E, H, Q).

    Raises:
        ValueError: see `fit_state_probe`; or E or D differ, or `folds` is out of range.
    """
    latents, states = _check_recorded(latents, states)
    predicted = check_array("predicted", predicted, "(E, H, D)")
    if (len(predicted), predicted.shape[2]) != (len(latents), latents.shape[2]):
        raise ValueError(
            f"predicted {predicted.shape} and latents {latents.shape}: "
            "expected (E, H, D) and (E, T, D)."
        )
    folds = check_count("folds", folds, minimum=2, maximum=len(latents))
    fold = np.random.default_rng(seed).permutation(len(latents)) % folds
    result = np.empty((*predicted.shape[:2], states.shape[2]))
    for number in range(folds):
        held, seen = fold == number, fold != number
        result[held] = fit_state_probe(latents[seen], states[seen], ridge=ridge).predict(
            predicted[held]
        )
    return result


def _check_recorded(latents: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    latents = check_array("latents", latents, "(E, T, D)")
    states = check_array("states", states, "(E, T, Q)")
    if latents.shape[:2] != states.shape[:2]:
        raise ValueError(
            f"latents {latents.shape} and states {states.shape}: expected (E, T, D), (E, T, Q)."
        )
    return latents, states


def _flatten(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, rows.shape[-1])
