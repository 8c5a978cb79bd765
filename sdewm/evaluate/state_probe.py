"""Physical state read off latents by a linear probe: errors in the units of physics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from sdewm.base.checks import check_count, check_finite_number
from sdewm.evaluate.episode_bootstrap import LEVEL, RESAMPLES, Band, episode_bootstrap
from sdewm.evaluate.recorded_arrays import check_array, check_pair

RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class StateProbe:
    """ŝ = z W + b.

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

    With z' the latents less their mean, over their standard deviation component by component, it
    minimises (1/N) Σ_n ‖s_n − s̄ − z'_n W'‖² + ridge ‖W'‖_F²: along a direction of variance v of z'
    the weight is v/(v + ridge) times that of least squares. The offset is not penalised. A
    component that never varies gets no weight.

    Args:
        latents: posteriors, (E, T, D).
        states: (E, T, Q) at the same steps; an angle as cosine and sine.
        ridge: > 0, without unit.

    Raises:
        ValueError: shapes that do not match, numbers that are not finite, ridge ≤ 0.

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
    """Physical state of predicted latents, each from a probe that never saw the episode.

    The episodes are dealt into folds at random; those of a fold are read by the probe fitted to the
    posteriors of all others. With separate training episodes this is not needed:
    `fit_state_probe` on them, `predict` on the rest.

    Args:
        latents: posteriors (E, T, D).
        states: (E, T, Q) at the same steps.
        predicted: latents (E, H, D) of open-loop rollouts of the same episodes.
        folds: from 2 to E.
        seed: of the dealing.
        ridge: as in `fit_state_probe`.

    Returns:
        (E, H, Q).

    Raises:
        ValueError: as `fit_state_probe`, another E or D, or folds out of range.
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


@dataclass(frozen=True, eq=False)
class ProbeError:
    """Root mean squared error of the probed state.

    Attributes:
        raw: (H, Q), in the units of each quantity.
        relative: (H, Q), over the standard deviation of each quantity: 1 is the error of its mean.
    """

    raw: Band
    relative: Band


def probe_error(
    predicted: np.ndarray,
    truth: np.ndarray,
    data: np.ndarray,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> ProbeError:
    """√(mean over episodes of (ŝ − s)²) at each horizon, for each quantity.

    The intervals are for the given probe: they do not include what refitting it would change.

    Args:
        predicted: probed states (E, H, Q) of held-out episodes.
        truth: (E, H, Q).
        data: states (N, Q) whose standard deviations (÷ N) are the units of `relative`.
        seed: of the resampling of episodes.
        resamples: as in `episode_bootstrap`.
        level: likewise.

    Raises:
        ValueError: shapes that do not match; a quantity that does not vary in the data; as
            `episode_bootstrap`.

    >>> s = np.random.default_rng(0).normal(size=(50, 3, 1))
    >>> probe_error(s + 0.5, s, np.array([[0.0], [4.0]]), seed=0).relative.value.ravel()
    array([0.25, 0.25, 0.25])
    """
    predicted, truth = check_pair(predicted, truth, "(E, H, Q)")
    data = check_array("data", data, "(N, Q)")
    if data.shape[1] != truth.shape[2]:
        raise ValueError(f"data {data.shape}: expected (N, Q) with Q = {truth.shape[2]}.")
    if (still := (data == data[0]).all(axis=0)).any():
        raise ValueError(f"data: quantity {int(still.argmax())} never varies; leave it out.")
    scale = data.std(axis=0)
    raw = episode_bootstrap(
        lambda part: np.sqrt(part.mean(axis=0)),
        np.square(predicted - truth),
        seed=seed,
        resamples=resamples,
        level=level,
    )
    parts = (raw.value / scale, raw.low / scale, raw.high / scale)
    return ProbeError(raw, Band(*parts, raw.undefined, raw.level, raw.episodes))


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
