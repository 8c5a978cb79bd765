"""The error of a model's latent relative to a larger model on the same episodes (S28)."""

from __future__ import annotations

import numpy as np

from sdewm.base.ridge import RIDGE, cross_fitted_states
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import LatentModel, as_latent_model
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.model.world_model import WorldModel
from sdewm.model_theorems.drift_regression import FOLDS
from sdewm.model_theorems.error_statistics import ErrorStatistics
from sdewm.model_theorems.representation_error import posterior_moments


def measure_reference_error(
    world_model: WorldModel | LatentModel,
    reference: WorldModel | LatentModel,
    episodes: Episodes,
    *,
    folds: int = FOLDS,
    ridge: float = RIDGE,
    seed: int = 0,
) -> ErrorStatistics:
    """The part of a model's posterior mean that is not a linear function of a reference's state.

    The latents of two models have different coordinates. Let m_ref be a linear map of the
    reference's state (h, z) at the same step, fitted to the model's posterior mean m on the other
    episodes. The shift is m − m_ref. Information that the reference represents linearly is
    therefore not counted as error. A constant offset cannot be detected, because the map has an
    intercept; use `regress_drift` to look for a state-dependent drift. Standard deviations are not
    compared: the reference is given those of the model.

    Args:
        world_model: the model whose error is measured.
        reference: a stronger model, which takes the same observations and actions.
        episodes: recorded episodes.
        folds: number of cross-fitting folds, from 2 to E.
        ridge: as in `fit_state_probe`.
        seed: seed of the models' noise and of the folds.

    Returns:
        `ErrorStatistics` with one draw.

    Raises:
        ValueError: episodes that one of the models does not take, or folds out of range.
    """
    model, other = as_latent_model(world_model), as_latent_model(reference)
    paths = clean_paths(model, episodes, seed)
    mean, std = (part.cpu().numpy() for part in posterior_moments(model, paths))
    states = clean_paths(other, episodes, seed).states.cpu().numpy()
    aligned = cross_fitted_states(states, mean, states, folds=folds, ridge=ridge, seed=seed)
    return ErrorStatistics((mean - aligned)[:, None], std[:, None], np.asarray(std))
