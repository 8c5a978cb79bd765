"""Encoder errors as perturbations of a latent system; they enter the components of z only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from sdewm.latent_sde.inputs import by_time, embed_by_time
from sdewm.latent_sde.system import LatentSystem
from sdewm.theory.expansion.perturbation import Perturbation


def encoder_error(system: LatentSystem, observations: Tensor) -> Perturbation:
    """The perturbation caused by replacing the system's observations o by others, o'.

    With m, s the mean and standard deviation of the posterior given o, and m', s' those given o',
    both at the present state,

        σ = (m' − m)/τ,    σ̄ = (s' − s)/√τ on the model's drivers.

    At ε = 1 the perturbed system is exactly the model fed with o'.

    Args:
        system: a system with observations.
        observations: o', of the same shape.

    Raises:
        ValueError: a system without observations, or another shape.
    """
    if system.embeds is None:
        raise ValueError("system has no observations: use as_system(..., observations=...).")
    others = embed_by_time(system.model, observations)
    if others.shape != system.embeds.shape:
        raise ValueError(
            f"observations give embeds {tuple(others.shape)}, those of the system are "
            f"{tuple(system.embeds.shape)}: expected the same episodes and steps."
        )

    law = system.factored_law

    def drift(t: Tensor, y: Tensor) -> Tensor:
        return (law(t, y, others)[0] - law(t, y)[0]) / system.relaxation_time

    def diffusion(t: Tensor, y: Tensor) -> Tensor:
        return system.on_drivers(law(t, y, others)[1].matrix() - law(t, y)[1].matrix(), y)

    def diffusion_product(t: Tensor, y: Tensor, v: Tensor) -> Tensor:
        after, before = (law(t, y, embeds)[1] for embeds in (others, None))
        return system.noise_increment(after, y, v) - system.noise_increment(before, y, v)

    return Perturbation(drift, diffusion, driver="same", diffusion_product=diffusion_product)


def tabled_error(
    system: LatentSystem,
    *,
    drift: Tensor | None = None,
    same: Tensor | None = None,
    independent: Tensor | None = None,
) -> Perturbation:
    """A perturbation by a tabulated error of z at each step of each episode.

    One step of the perturbed model (τ = 1) is

        z' = m + drift + (s + same) ξ + independent · ξ',

    with ξ' on the system's error drivers. The values do not depend on the state: Dσ = Dσ̄ = 0.

    Args:
        system: a system with `error_drivers` = M' if `independent` is given.
        drift: (E, T, Z), or (T, Z) for one episode.
        same: (E, T, Z), signed; only for models whose noise is diagonal.
        independent: (E, T, Z, M'), factor of the covariance of the part independent of ξ.

    Raises:
        ValueError: shapes that do not fit the system, `same` of a deterministic model or of a
            surrogate, or no error given.
    """
    latent = system.model.latent
    size, tau = latent.stop - latent.start, system.relaxation_time
    if same is not None and system.model.noise_size == 0:
        raise ValueError("same: the model has no noise (noise_size=0): pass independent=.")
    if same is not None and system.model.surrogate:
        raise ValueError(
            f"same: the noise of a {system.model.surrogate} is correlated between the components "
            "of z, so that no change of their deviations is one of its factor: pass independent=."
        )
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

    def diffusion_product(t: Tensor, y: Tensor, v: Tensor) -> Tensor:
        own, extra = v.tensor_split([system.model.noise_size], 1)
        change = y.new_zeros(len(y), size)
        if "same" in found:
            change = change + system.row(found["same"], t, y) * own
        if "independent" in found:
            factor = system.row(found["independent"], t, y)
            change = change + torch.einsum("bzm,bm->bz", factor, extra)
        return pad(change, around) * system.diffusion_scale

    noisy = "same" in found or "independent" in found
    return Perturbation(
        drift=drift_part if "drift" in found else None,
        diffusion=diffusion_part if noisy else None,
        driver="same",
        diffusion_product=diffusion_product if noisy else None,
    )
