"""Growth of small differences in a trained model's dynamics: Jacobians and exponents (S10, S26)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.base.elementary import load_forward_rules
from sdewm.base.progress import counted
from sdewm.data.recorded_episodes import Episodes, check_rows
from sdewm.jacobian.diagnostics import jacobian_metrics
from sdewm.jacobian.products import Tensors
from sdewm.latent_sde.inputs import LatentPolicy, episode_inputs
from sdewm.latent_sde.model_contract import require_model
from sdewm.latent_sde.models import LatentModel, as_latent_model
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.latent_sde.system import as_system
from sdewm.model.world_model import WorldModel
from sdewm.theory.flow.lyapunov import LyapunovSpectrum, lyapunov_exponents

STATES_AT_ONCE = 512  # whose Jacobians are held


def jacobian_sizes(
    world_model: WorldModel | LatentModel, episodes: Episodes, *, every: int = 1, seed: int = 0
) -> dict[str, Tensor]:
    """Sizes of the Jacobian of one step of the prior, at posterior states along the episodes.

    For the Jacobian J = ∂(h', m', s')/∂(h, z), which the penalty penalises, with the action fixed
    (for a `StepModel`, s' are the entries of the noise factor):

        "frobenius"           ‖J‖_F
        "top_singular_value"  σ_max(J)

    For the square Jacobian A + I = ∂(h', m')/∂(h, z) of the mean of the next state:

        "log_norm"            λ_max(sym A)
        "spectral_radius"     largest |eigenvalue| of A + I

    Args:
        world_model: a `WorldModel` or any `LatentModel`.
        episodes: recorded, of T rows.
        every: interval between the rows used, from the first row on.
        seed: seed of the posterior's noise.

    Returns:
        Arrays (E, ⌈(T − 1)/every⌉) by name; the last row has no recorded action after it.

    Raises:
        ValueError: fewer than two rows, or something that `sdewm.check_model` finds (derivatives
            are not looked at).
    """
    model = as_latent_model(world_model)
    check_rows(episodes, 2)
    every = check_count("every", every)
    require_model(model, episode_inputs(episodes), prior=True)
    states = clean_paths(model, episodes, seed).states[:, :-1:every]
    actions = episodes.previous_actions[:, 1::every].double()
    generator = torch.Generator().manual_seed(seed)
    flat = [table.flatten(0, 1).split(STATES_AT_ONCE) for table in (states, actions)]
    rows = zip(*flat, strict=True)
    parts: list[dict[str, Tensor]] = []
    for state, action in counted("Jacobians", rows, len(flat[0])):

        def whole(x: Tensor, action: Tensor = action) -> Tensors:
            return step_moments(model, x, action)

        def mean(x: Tensor, action: Tensor = action) -> Tensors:
            return step_moments(model, x, action)[:1]

        penalised = jacobian_metrics(whole, (state,), generator)
        square = jacobian_metrics(mean, (state,), generator)
        assert square.log_norm is not None and square.spectral_radius is not None
        parts.append(
            {
                "frobenius": penalised.frobenius,
                "top_singular_value": penalised.top_singular_value,
                "log_norm": square.log_norm,
                "spectral_radius": square.spectral_radius,
            }
        )
    lead = states.shape[:2]
    return {name: torch.cat([part[name] for part in parts]).unflatten(0, lead) for name in parts[0]}


def step_moments(model: LatentModel, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, D) of the next state under the prior, and the sizes (B, N) of its noise.

    They are the model's own `step_moments`; without it, the mean and the entries of the factor.
    """
    own = getattr(model, "step_moments", None)
    if own is not None:
        return own(state, action)
    mean, factor = model.law(state, action, None)
    return mean, factor.flatten(1)


def step_eigenvalues(
    model: LatentModel, episodes: Episodes, *, every: int = 1, seed: int = 0
) -> Tensor:
    """|λ| of the Jacobian ∂(h', m')/∂(h, z) of one step, largest first, along the episodes.

    Args:
        model: a world model in float64.
        episodes: recorded, of T rows.
        every: interval between the rows used, from the first row on.
        seed: seed of the posterior's noise.

    Returns:
        Moduli (E, ⌈(T − 1)/every⌉, D).
    """
    parts = [
        torch.linalg.eigvals(jacobian).abs().sort(descending=True).values
        for jacobian in _mean_jacobians(model, episodes, every, seed)
    ]
    return torch.cat(parts).unflatten(0, (len(episodes.rewards), -1))


def step_norms(model: LatentModel, episodes: Episodes, *, every: int = 1, seed: int = 0) -> Tensor:
    """‖J‖_F of the Jacobian of `step_eigenvalues` (E, ⌈(T − 1)/every⌉), with the same arguments."""
    parts = [
        jacobian.square().sum((1, 2)).sqrt()
        for jacobian in _mean_jacobians(model, episodes, every, seed)
    ]
    return torch.cat(parts).unflatten(0, (len(episodes.rewards), -1))


def _mean_jacobians(
    model: LatentModel, episodes: Episodes, every: int, seed: int
) -> Iterator[Tensor]:
    """∂(h', m')/∂(h, z) at posterior states along the episodes, (rows, D, D) at a time."""
    states = clean_paths(model, episodes, seed).states[:, :-1:every]
    actions = episodes.previous_actions[:, 1::every].double()

    def mean(state: Tensor, action: Tensor) -> Tensor:
        return step_moments(model, state[None], action[None])[0][0]

    load_forward_rules()
    jacobian = torch.func.vmap(torch.func.jacfwd(mean))
    rows = (states.flatten(0, 1), actions.flatten(0, 1))
    for state, action in zip(*(table.split(STATES_AT_ONCE) for table in rows), strict=True):
        yield jacobian(state, action).detach()  # weights may require gradients


def model_lyapunov(
    world_model: WorldModel | LatentModel,
    episodes: Episodes,
    *,
    start: int,
    steps: int,
    discard: int,
    exponents: int = 3,
    policy: LatentPolicy | None = None,
    seed: int = 0,
) -> LyapunovSpectrum:
    """Leading Lyapunov exponents of the model's imagination, from one trajectory per episode.

    The trajectory of an episode starts at its posterior state at row `start` and follows the prior,
    with noise independent of the other episodes. Perturbed and unperturbed trajectories share that
    noise. Actions are the recorded ones, or those of a policy in closed loop.

    Args:
        world_model: a world model; one-hot latents are replaced by the surrogate of `as_system`.
        episodes: recorded, with more than `start` rows; start + steps + 1 for recorded actions.
        start: row of the first state.
        steps: total number of steps.
        discard: number of first steps not counted, in which tangents align with the fastest
            directions.
        exponents: number of exponents.
        policy: states (B, D) -> actions (B, A), in float64; None: the recorded actions.
        seed: seed of all noise and of the initial tangents.

    Returns:
        A `LyapunovSpectrum` in units of 1/policy_step; episodes are the units of its errors.

    Raises:
        ValueError: too few rows, or a number out of range.
    """
    start = check_count("start", start, minimum=0)
    steps = check_count("steps", steps)
    check_rows(episodes, start + 1 + (steps if policy is None else 0))
    model = as_latent_model(world_model)
    observed = episodes.first_rows(start + 1)
    first = clean_paths(model, observed, seed).states[:, start]
    if policy is None:
        system = as_system(
            model, actions=episodes.previous_actions[:, start + 1 : start + 1 + steps]
        )
        states = system.start(first)
    else:
        system, states = as_system(model, policy=policy), first.double()
    return lyapunov_exponents(
        system, states, steps=steps, exponents=exponents, discard=discard, seed=seed
    )
