"""Errors of the encoder as perturbations of a latent system: they enter the rows of z alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from sdewm.latent_sde.system import LatentSystem, by_time, embed_by_time
from sdewm.theory.expansion.perturbation import Perturbation


def encoder_error(system: LatentSystem, observations: Tensor) -> Perturbation:
    """The error that the model makes on other observations than those of the system.

    With m, s of the posterior on the system's own observations o and m', s' on the others o', both
    at the state in hand,

        σ = (m' − m)/τ,    σ̄ = (s' − s)/√τ on the model's drivers,

    so that the system with the error at size 1 is the model fed with o', exactly.

    Args:
        system: with observations.
        observations: o', of the same shape.

    Raises:
        ValueError: a system without observations, or another shape.
    """
    if system.embeds is None:
        raise ValueError("system has no observations (as_system(..., observations=...)).")
    others = embed_by_time(system.model, observations)
    if others.shape != system.embeds.shape:
        raise ValueError(
            f"observations give embeds {tuple(others.shape)}, those of the system are "
            f"{tuple(system.embeds.shape)}: expected the same episodes and steps."
        )

    def drift(t: Tensor, y: Tensor) -> Tensor:
        return (system.law(t, y, others)[0] - system.law(t, y)[0]) / system.relaxation_time

    def diffusion(t: Tensor, y: Tensor) -> Tensor:
        change = system.law(t, y, others)[1] - system.law(t, y)[1]
        return system.on_drivers(change * system.diffusion_scale)

    return Perturbation(drift=drift, diffusion=diffusion, driver="same")


def tabled_error(
    system: LatentSystem,
    *,
    drift: Tensor | None = None,
    same: Tensor | None = None,
    independent: Tensor | None = None,
) -> Perturbation:
    """A measured error: what is added to mean and noise of z at each step of each episode.

    z' = m + drift + (s + same) ξ + independent · ξ', the law of a step of the model (τ = 1), ξ' on
    the system's error drivers. The values do not depend on the state, so Dσ = Dσ̄ = 0.

    Args:
        system: with `error_drivers` = M' if `independent` is given.
        drift: (E, T, Z), or (T, Z) for one episode.
        same: (E, T, Z), signed; of models whose noise is diagonal.
        independent: factor (E, T, Z, M') of the covariance of what is independent of ξ.

    Raises:
        ValueError: shapes that do not fit the system, or nothing given.
    """
    latent = system.model.latent
    size, tau = latent.stop - latent.start, system.relaxation_time
    tables = {"drift": drift, "same": same, "independent": independent}
    found: dict[str, Tensor] = {}
    for name, table in tables.items():
        if table is None:
            continue
        found[name] = by_time(name, table.double(), 2 if name == "independent" else 1)
        tail = (size, system.error_drivers) if name == "independent" else (size,)
        expected = (system.steps, system.episodes, *tail)
        if tuple(found[name].shape) != expected:
            raise ValueError(
                f"{name} has (T, E, …) = {tuple(found[name].shape)}: expected {expected}."
            )
    around = (latent.start, system.state_size - latent.stop)

    def drift_part(t: Tensor, y: Tensor) -> Tensor:
        return pad(system.row(found["drift"], t, y), around) / tau

    def diffusion_part(t: Tensor, y: Tensor) -> Tensor:
        own = y.new_zeros(len(y), size, system.model.noise_size)
        if "same" in found:
            own = torch.diag_embed(system.row(found["same"], t, y))
        extra = y.new_zeros(len(y), size, system.error_drivers)
        if "independent" in found:
            extra = system.row(found["independent"], t, y)
        return pad(torch.cat([own, extra], 2), (0, 0, *around)) * system.diffusion_scale

    noisy = "same" in found or "independent" in found
    return Perturbation(
        drift=drift_part if "drift" in found else None,
        diffusion=diffusion_part if noisy else None,
        driver="same",
    )
