"""Initial states of imagination, perturbed by an encoder's error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdewm.base.checks import check_choice, check_count
from sdewm.data.recorded_episodes import Episodes, check_rows
from sdewm.latent_sde.inputs import LatentPolicy, ModelInputs, embed_by_time
from sdewm.latent_sde.models import LatentModel
from sdewm.latent_sde.posterior_paths import clean_paths, filter_states
from sdewm.latent_sde.system import LatentSystem, latent_system
from sdewm.model_theorems.representation_error import (
    MODES,
    Perturb,
    perturbed_copies,
    require_perturbation,
)


@dataclass(frozen=True)
class PerturbedInitialStates:
    """Initial states of imagination, and the errors that perturbed observations cause in them.

    Attributes:
        states: x0 (E, D), from the clean posterior.
        errors: e (E, K, D), one for each perturbed copy of the episode.
    """

    states: Tensor
    errors: Tensor


def perturbed_initial_states(
    model: LatentModel,
    episodes: Episodes,
    perturbation: Perturb,
    *,
    start: int,
    copies: int,
    mode: str,
    seed: int,
) -> PerturbedInitialStates:
    """Posterior states at a row, and their change when the observations are perturbed.

    Clean and perturbed states share the noise of the model. The observations are perturbed

        "accumulated"   from the first row on: e has components in the whole state
        "single_frame"  at that row alone: e has only components of z

    Args:
        model: the world model.
        episodes: recorded, with at least start + 1 rows.
        perturbation: (copies (N, T, *shape), generator) -> perturbed copies of the same shape.
        start: the row.
        copies: number K of perturbed copies of each episode.
        mode: "accumulated" or "single_frame", see above.
        seed: seed of the model's noise and of the perturbations, as in
            `measure_representation_error`.

    Raises:
        ValueError: too few rows, fewer than two episodes, an unknown mode, a perturbation that
            changes no state, or one that `require_perturbation` refuses.
    """
    start, copies = check_count("start", start, minimum=0), check_count("copies", copies)
    check_choice("mode", mode, MODES)
    check_rows(episodes, start + 1)
    count = check_count("episodes", len(episodes.rewards), minimum=2)
    seen = episodes.first_rows(start + 1)
    require_perturbation(perturbation, seen.observations[0], copies)
    clean = clean_paths(model, seen, seed)
    rows = slice(0 if mode == "accumulated" else start, None)
    generator = torch.Generator().manual_seed(seed + 1)
    errors = []
    for e in range(count):
        shown = perturbed_copies(perturbation, seen.observations[e], copies, generator)
        embeds = embed_by_time(model, shown[:, rows]).transpose(0, 1)
        actions, noise = (
            table[e, rows].expand(copies, *table[e, rows].shape)
            for table in (seen.previous_actions.double(), clean.noise)
        )
        before = clean.states[e, start - 1].expand(copies, -1) if rows.start > 0 else None
        states, _ = filter_states(model, actions, embeds, noise, before)
        errors.append(states[:, -1] - clean.states[e, start])
    found = torch.stack(errors)
    if not bool(found.any()):
        raise ValueError("perturbation changes no state: expected one that changes the latent.")
    return PerturbedInitialStates(clean.states[:, start], found)


def imagination(
    model: LatentModel,
    episodes: Episodes,
    *,
    start: int,
    horizon: int,
    policy: LatentPolicy | None,
    episode: int | None = None,
) -> LatentSystem:
    """The system that rolls out the prior, under recorded actions or a policy in closed loop.

    Args:
        model: the world model.
        episodes: recorded, with start + 1 + horizon rows unless a policy is given.
        start: row of the initial state.
        horizon: number of steps.
        policy: see `as_system`.
        episode: index of the episode whose actions are used; None: all episodes in parallel.

    Raises:
        ValueError: too few rows.
    """
    check_count("horizon", horizon)
    if policy is not None:
        return latent_system(model, ModelInputs(None, policy=policy))
    check_rows(episodes, start + 1 + horizon)
    rows = slice(None) if episode is None else slice(episode, episode + 1)
    actions = episodes.previous_actions[rows, start + 1 : start + 1 + horizon]
    return latent_system(model, ModelInputs(actions.double()))
