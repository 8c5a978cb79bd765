"""Expansion of a trained model's expected loss in the size of its encoder's error (S2, S4, S27)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.errors import encoder_error, tabled_error
from sdewm.latent_sde.inputs import ModelInputs, episode_inputs
from sdewm.latent_sde.model_contract import require_model
from sdewm.latent_sde.models import LatentModel, as_latent_model
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.latent_sde.system import LatentSystem, latent_system
from sdewm.model.world_model import WorldModel
from sdewm.model_theorems.error_statistics import ErrorStatistics
from sdewm.model_theorems.representation_error import (
    Perturb,
    check_episodes,
    perturbation_error,
    perturbed,
    require_perturbation,
)
from sdewm.theory.expansion.expand import Expansion, expand
from sdewm.theory.expansion.perturbation import Perturbation

# (system, final observations (E, *shape), final rewards (E,)) -> loss as a function of the state
MakeLoss = Callable[[LatentSystem, Tensor, Tensor], Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class ModelExpansion:
    """Expansions for one error in two forms; episodes are the units of all standard errors.

    Attributes:
        encoder: expansion with the encoder's error at each state. At ε = 1 the system is exactly
            the model fed with the perturbed observations. The error of each copy is a drift that is
            random over copies.
        measured: expansion with the measured drift, same-driver and independent diffusion of each
            step, which do not depend on the state. Of a one-hot latent the same-driver part is
            left out, as its covariance has no diagonal factor: what the perturbation does to the
            covariance of z is missing.
        error: the measured error.
        label: "exact", or the surrogate that replaces the model's noise.
    """

    encoder: Expansion
    measured: Expansion
    error: ErrorStatistics
    label: str


def expand_on_model(
    world_model: WorldModel | LatentModel,
    episodes: Episodes,
    perturbation: Perturb,
    make_loss: MakeLoss,
    *,
    start: int,
    horizon: int,
    copies: int = 8,
    paths: int = 4,
    draws: int = 64,
    seed: int = 0,
) -> ModelExpansion:
    """Expand the expected loss `horizon` steps after row `start` of recorded episodes.

    The state at row `start` comes from the clean posterior. From there on, the observations are
    perturbed and z follows the posterior (teacher forcing), so that errors propagate through the
    dynamics.

    Args:
        world_model: a `WorldModel` or any `LatentModel`.
        episodes: recorded, with at least start + 1 + horizon rows.
        perturbation: see `measure_representation_error`.
        make_loss: (system, observations (E, *shape), rewards (E,)), both at the final time -> loss
            of the states, for example from a function of `latent_sde.losses`.
        start: row of the first state.
        horizon: number of steps.
        copies: perturbed copies of each episode.
        paths: sample paths of each copy; copies·paths must be even.
        draws: perturbed copies of each episode with which the error is measured.
        seed: root seed; for independent repetitions see `measure_representation_error`.

    Raises:
        ValueError: too few rows or episodes, a number out of range, or something that
            `sdewm.check_model` finds.
    """
    for name, number in (("horizon", horizon), ("copies", copies), ("paths", paths)):
        check_count(name, number)
    check_count("start", start, minimum=0)
    check_count("draws", draws, minimum=2)
    check_episodes(episodes)
    needed, there = start + 1 + horizon, episodes.observations.shape[1]
    if there < needed:
        raise ValueError(
            f"start={start}, horizon={horizon}: expected episodes of at least {needed} rows, got "
            f"{there}."
        )
    episodes = episodes.first_rows(needed)
    model, count = as_latent_model(world_model), len(episodes.rewards)
    require_model(model, episode_inputs(episodes))
    require_perturbation(perturbation, episodes.observations[0], draws)
    clean = clean_paths(model, episodes, seed)
    first = clean.states[:, start]
    rows = slice(start + 1, None)
    actions, seen = episodes.previous_actions[:, rows].double(), episodes.observations[:, rows]
    embeds = clean.embeds[:, rows]
    ends = (episodes.observations[:, -1], episodes.rewards[:, -1])

    def expanded(system: LatentSystem, error: Perturbation, repeat: int, each: int) -> Expansion:
        targets = (end.repeat_interleave(repeat, 0) for end in ends)
        return expand(
            system,
            error,
            make_loss(system, *targets),
            system.start(first.repeat_interleave(repeat, 0), each),
            t1=horizon,
            steps=horizon,
            paths=count * copies * paths,
            groups=count,
            seed=seed,
        )

    repeated = seen.repeat_interleave(copies, 0)
    others = perturbed(perturbation, repeated, torch.Generator().manual_seed(seed + 2))
    inputs = ModelInputs(actions.repeat_interleave(copies, 0))
    fed = latent_system(model, inputs, embeds=embeds.repeat_interleave(copies, 0))
    encoder = expanded(fed, encoder_error(fed, others), copies, paths)
    error = perturbation_error(model, episodes, perturbation, clean, draws=draws, seed=seed)
    drift, same, factor = (
        torch.from_numpy(table[:, rows])
        for table in (error.drift, error.same_driver, error.factor())
    )
    plain = latent_system(
        model, ModelInputs(actions), embeds=embeds, error_drivers=factor.shape[-1]
    )
    measured = tabled_error(
        plain,
        drift=drift,
        same=None if model.surrogate or not model.noise_size else same,
        independent=factor,
    )
    return ModelExpansion(encoder, expanded(plain, measured, 1, copies * paths), error, plain.label)
