"""Representation error of a trained world model, measured as drift and diffusion (S28)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sdewm.base.checks import check_choice, check_count
from sdewm.base.findings import repeats
from sdewm.base.progress import Progress
from sdewm.data.recorded_episodes import Episodes, check_rows
from sdewm.latent_sde.inputs import embed_by_time, episode_inputs
from sdewm.latent_sde.model_contract import require_model
from sdewm.latent_sde.models import LatentModel, as_latent_model, factored_law
from sdewm.latent_sde.posterior_paths import CleanPaths, clean_paths, filter_states
from sdewm.model.world_model import WorldModel
from sdewm.model_theorems.error_statistics import ErrorStatistics

Perturb = Callable[[Tensor, torch.Generator], Tensor]
ReferenceEncoder = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
MODES = ("single_frame", "accumulated")
ROWS_AT_ONCE = 4096  # states through the model at a time
A_PERTURBATION = (
    "a function (copies (N, T, *shape), generator) -> perturbed copies, such as "
    'sdewm.perturbations.observation.ObservationPerturbation("noise", 0.1)'
)


def measure_representation_error(
    world_model: WorldModel | LatentModel,
    episodes: Episodes,
    perturbation: Perturb | None = None,
    *,
    reference_encoder: ReferenceEncoder | None = None,
    mode: str = "single_frame",
    draws: int = 64,
    seed: int = 0,
) -> ErrorStatistics:
    """Drift and diffusion of the encoder's error along recorded episodes.

    Each of the `draws` copies of an episode is perturbed as a unit, so that a perturbation held
    fixed over an episode appears as correlation in time. The posterior is compared with that of the
    clean observation:

        "single_frame"  the previous state is clean (teacher forcing): the error of one step
        "accumulated"   the previous state comes from the perturbed observations under the same
                        noise: the error includes the propagated errors of earlier steps

    With a reference encoder instead of a perturbation, the model's posterior is compared with that
    of the reference on the clean observations; there is then one draw.

    Args:
        world_model: a `WorldModel` or any `LatentModel`.
        episodes: recorded, of equal length.
        perturbation: (copies (N, T, *shape), generator) -> perturbed copies of the same shape, for
            example an `ObservationPerturbation`. It draws from this generator alone.
        reference_encoder: (predicted state (B, D), embed (B, F)) -> mean and standard deviation
            (B, Z) in the same latent coordinates; it may draw the error that is to be measured.
        mode: "single_frame" or "accumulated", see above.
        draws: number K of perturbed copies of each episode.
        seed: seed of the model's noise and of the perturbations, which draw from torch's
            generators `seed` and `seed + 1`. Independent repetitions need seeds at least 3 apart:
            the perturbations of one seed are made of the random numbers of the next.

    Returns:
        `ErrorStatistics` of all steps from the first row on.

    Raises:
        ValueError: both or neither of perturbation and reference, an unknown mode, fewer than two
            episodes or draws, a perturbation that changes shape or dtype, returns numbers that are
            not finite or draws from anything but its generator, or something that
            `sdewm.check_model` finds (derivatives are not used here).
    """
    if (perturbation is None) == (reference_encoder is None):
        both = "neither" if perturbation is None else "both"
        raise ValueError(
            f"{both} of perturbation and reference_encoder given: expected exactly one of them."
        )
    check_choice("mode", mode, MODES)
    check_count("draws", draws, minimum=2)
    model = as_latent_model(world_model)
    check_episodes(episodes)
    require_model(model, episode_inputs(episodes))
    if reference_encoder is not None:
        paths = clean_paths(model, episodes, seed)
        clean_mean, clean_std = posterior_moments(model, paths)
        mean, std = _apart(reference_encoder, paths.predicted, paths.embeds)
        return _statistics(clean_mean[:, None] - mean[:, None], clean_std[:, None], std)
    assert perturbation is not None
    require_perturbation(perturbation, episodes.observations[0], draws)
    paths = clean_paths(model, episodes, seed)
    return perturbation_error(
        model, episodes, perturbation, paths, mode=mode, draws=draws, seed=seed
    )


def perturbation_error(
    model: LatentModel,
    episodes: Episodes,
    perturbation: Perturb,
    paths: CleanPaths,
    *,
    mode: str = "single_frame",
    draws: int,
    seed: int,
) -> ErrorStatistics:
    """`measure_representation_error` under a perturbation, of a model that has been checked.

    `paths` are its `clean_paths` along the episodes, with the same seed.
    """
    clean_mean, clean_std = posterior_moments(model, paths)
    shifts, stds = [], []
    generator = torch.Generator().manual_seed(seed + 1)
    progress = Progress("representation error", len(episodes.observations), 0)
    try:
        for e in range(len(episodes.observations)):
            copies = perturbed_copies(perturbation, episodes.observations[e], draws, generator)
            embeds = embed_by_time(model, copies).transpose(0, 1)
            predicted = paths.predicted[e].expand(draws, -1, -1)
            if mode == "accumulated":
                actions = episodes.previous_actions[e].double().expand(draws, -1, -1)
                noise = paths.noise[e].expand(draws, *paths.noise[e].shape)
                _, predicted = filter_states(model, actions, embeds, noise)
            mean, std = _apart(model.moments, predicted, embeds)
            shifts.append(mean - clean_mean[e])
            stds.append(std)
            progress.update(e + 1)
    finally:
        progress.close()
    return _statistics(torch.stack(shifts), torch.stack(stds), clean_std)


def measure_transition_error(
    world_model: WorldModel | LatentModel, episodes: Episodes, *, seed: int = 0
) -> ErrorStatistics:
    """Transition error: the prior compared with the posterior at the same deterministic state.

    There is one draw: the drift is the constant part, and the rest counts as fluctuation.

    Raises:
        ValueError: fewer than two episodes, or something that `sdewm.check_model` finds
            (derivatives are not used here).
    """
    model = as_latent_model(world_model)
    check_episodes(episodes)
    require_model(model, episode_inputs(episodes), prior=True)
    paths = clean_paths(model, episodes, seed)
    mean, std = posterior_moments(model, paths)
    first = model.initial(len(paths.states)).to(paths.states)
    before = torch.cat([first[:, None], paths.states[:, :-1]], 1)
    parts = []
    actions = episodes.previous_actions.double()
    with torch.no_grad():
        for state, action in _chunks(before, actions):
            law, factor = factored_law(model, state, action, None)
            parts.append((law[:, model.latent], factor.deviation()[:, model.latent]))
    prior_mean, prior_std = (
        torch.cat(part).unflatten(0, mean.shape[:2]) for part in zip(*parts, strict=True)
    )
    return _statistics((prior_mean - mean)[:, None], prior_std[:, None], std)


def check_episodes(episodes: Episodes) -> None:
    """Refuse anything but at least two recorded episodes."""
    check_rows(episodes, 1)
    check_count("episodes", len(episodes.observations), minimum=2)


def require_perturbation(perturbation: Perturb, observations: Tensor, copies: int) -> None:
    """Refuse what is no perturbation, and one that is no function of copies and generator.

    It is called on copies of an episode (T, *shape) three times, with generators of equal seed. The
    global generators of torch stay as they are.

    Raises:
        ValueError: as described; the message names `perturbation`, what was given and what is
            allowed.
    """
    if not callable(perturbation):
        raise ValueError(f"perturbation={perturbation!r}: expected {A_PERTURBATION}.")
    try:
        signature = inspect.signature(perturbation)
    except ValueError:  # of functions written in C
        signature = None
    try:
        if signature is not None:
            signature.bind(observations, None)
    except TypeError as problem:
        raise ValueError(
            f"perturbation takes the arguments {signature}: expected {A_PERTURBATION}."
        ) from problem

    def drawn(given: Tensor) -> Tensor:
        return perturbed(perturbation, given, torch.Generator().manual_seed(0))

    shown = observations.expand(copies, *observations.shape)
    devices = [shown.device] if shown.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        alike = repeats(drawn, (drawn(shown),), (shown,))
    if not alike:
        raise ValueError(
            "perturbation gives other copies for a generator of the same seed: expected a function "
            "of its two arguments; draw all random numbers from the generator that it is given, "
            "such as torch.randn(clean.shape, generator=generator), and keep nothing between calls."
        )


def perturbed_copies(
    perturbation: Perturb, observations: Tensor, draws: int, generator: torch.Generator
) -> Tensor:
    """Perturbed copies (K, T, *shape) of an episode (T, *shape)."""
    return perturbed(perturbation, observations.expand(draws, *observations.shape), generator)


def perturbed(perturbation: Perturb, copies: Tensor, generator: torch.Generator) -> Tensor:
    """The perturbation of observations (N, T, *shape), which stay as they are."""
    made = perturbation(copies.clone(memory_format=torch.contiguous_format), generator)
    if not isinstance(made, Tensor):
        raise ValueError(
            f"perturbation returned {type(made).__name__}; expected the perturbed observations, a "
            f"tensor {tuple(copies.shape)} of {copies.dtype}."
        )
    if made.shape != copies.shape or made.dtype != copies.dtype:
        raise ValueError(
            f"perturbation returned {tuple(made.shape)} of {made.dtype} for {tuple(copies.shape)} "
            f"of {copies.dtype}: expected the same shape and dtype."
        )
    if not bool(torch.isfinite(made).all()):
        raise ValueError(
            f"perturbation returned {int((~torch.isfinite(made)).sum())} of {made.numel()} numbers "
            "that are nan or infinite: expected finite observations."
        )
    return made


def posterior_moments(model: LatentModel, paths: CleanPaths) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (E, T, Z) of the posterior along clean paths."""
    return _apart(model.moments, paths.predicted, paths.embeds)


@torch.no_grad()
def _apart(encoder: ReferenceEncoder, predicted: Tensor, embeds: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (N, T, Z), computed for some rows at a time."""
    parts = [encoder(*rows) for rows in _chunks(predicted, embeds)]
    lead = embeds.shape[:2]
    mean, std = (torch.cat(part).unflatten(0, lead) for part in zip(*parts, strict=True))
    return mean, std


def _chunks(*tables: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Rows of tables (N, T, …), some at a time."""
    flat = [table.flatten(0, 1).split(ROWS_AT_ONCE) for table in tables]
    yield from zip(*flat, strict=True)


def _statistics(shift: Tensor, std: Tensor, reference: Tensor) -> ErrorStatistics:
    return ErrorStatistics(*(part.cpu().numpy() for part in (shift, std, reference)))
