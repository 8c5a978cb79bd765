"""Block structure of the world model (S6, S8) and value-function form (S5, S5a)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.func import jvp

import sdewm
from paper_checks.cases.expansions import Measured, Problem, case_problem, ready_case
from paper_checks.findings import Finding, Mutate, Settings, compare, conclude
from sdewm.base.stats import Estimate
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import diffusion_product
from sdewm.sde.world_model_sde import LatentWorldModel
from sdewm.theory.expansion.backward_equation import value_function_terms
from sdewm.theory.expansion.perturbation import PerturbedSystem, ito_correction

STATES = 256  # random states at which pointwise identities are evaluated


@lru_cache
def latent_problem(reads_latent: bool = True) -> Problem:
    """A curved world model with blocks z, h (2 components each), z̃ and s̃, and a latent error.

    Every block has independent noise. As S6 requires, the encoder's diffusion depends on h only and
    the sequence model's is affine in (z, h). Without `reads_latent` the sequence model does not
    read z (S8).
    """

    def sequence(h: torch.Tensor, z: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        latent = torch.sin(z) + a if reads_latent else torch.zeros_like(z)
        return torch.tanh(0.9 * latent + 0.4 * h) - 0.6 * h

    def sequence_noise(h: torch.Tensor, z: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return 0.1 + 0.2 * h + (0.1 * z if reads_latent else 0.0)

    model = LatentWorldModel(
        z_size=2,
        h_size=2,
        z_tilde_size=1,
        s_tilde_size=1,
        encoder=lambda h, s: torch.tanh(1.1 * h),
        sequence=sequence,
        predictor=lambda h: 0.8 * torch.sin(h[:, :1] + h[:, 1:]),
        decoder=lambda h, z_tilde: torch.tanh(z_tilde + 0.5 * h[:, :1] * h[:, 1:]),
        policy=(lambda h, z: 0.5 * torch.tanh(z - h)) if reads_latent else None,
        encoder_diffusion=lambda h, s: 0.3 + 0.1 * torch.cos(h),
        sequence_diffusion=sequence_noise,
        predictor_diffusion=lambda h: 0.25 + 0.1 * torch.sin(h[:, :1]),
        decoder_diffusion=lambda h, z_tilde: 0.1 + 0.1 * torch.sin(z_tilde * h[:, :1]),
        encoder_relaxation_time=1.0,
    )
    diffusion = model.latent_error_diffusion(lambda h, s: 0.5 + 0.2 * torch.tanh(h))
    drift = model.latent_error_drift(lambda h, s: 0.4 * torch.sin(h + 0.3))
    tilde = [model.blocks["z_tilde"].start, model.blocks["s_tilde"].start]

    def loss(y: torch.Tensor) -> torch.Tensor:
        return (y[:, tilde[1]] - 0.5) ** 2 + 0.5 * y[:, tilde[0]] ** 2

    x0 = torch.tensor([0.3, -0.1, -0.2, 0.4, 0.1, 0.0], dtype=torch.float64)
    error = sdewm.Perturbation(drift=drift, diffusion=diffusion)
    return Problem(model, error, loss, x0, 1.0, share=0.02, steps=8)


def formulation(settings: Settings, mutate: Mutate) -> Finding:
    """Paths of the assembled system equal those of the four equations, written out (section 1)."""
    problem = mutate(latent_problem())
    noise = GaussianNoise(drivers=6, steps=problem.steps, t1=problem.t1, seed=settings.seed)
    start = problem.x0.expand(STATES, -1)
    findings = []
    for size in (0.0, 0.3):
        system = PerturbedSystem(problem.system, problem.error, noise.drivers, size, size)
        ends = solve_path(system, start, noise)[:, -1]
        gap = float((ends - _written_out(problem.x0, noise, size)).abs().max())
        findings.append(compare(f"largest difference at ε = {size}", Estimate(gap, 0.0), 0.0))
    return conclude(findings)


def _written_out(x0: torch.Tensor, noise: GaussianNoise, size: float) -> torch.Tensor:
    """End states (STATES, 6) of Euler–Maruyama for the equations of section 1, block by block."""
    z, h, z_tilde, s_tilde = x0.expand(STATES, -1).split([2, 2, 1, 1], 1)
    dt = noise.step_size
    for increment in noise.increments(0, STATES):
        d_enc, d_seq, d_pred, d_dec = increment.split([2, 2, 1, 1], 1)
        a = 0.5 * torch.tanh(z - h)
        encoded = torch.tanh(1.1 * h) - z + size * 0.4 * torch.sin(h + 0.3)
        encoder_noise = 0.3 + 0.1 * torch.cos(h) + size * (0.5 + 0.2 * torch.tanh(h))
        moved = torch.tanh(0.9 * (torch.sin(z) + a) + 0.4 * h) - 0.6 * h
        moved_noise = 0.1 + 0.2 * h + 0.1 * z
        predicted = 0.8 * torch.sin(h[:, :1] + h[:, 1:])
        predictor_noise = 0.25 + 0.1 * torch.sin(h[:, :1])
        decoded = torch.tanh(z_tilde + 0.5 * h[:, :1] * h[:, 1:])
        decoder_noise = 0.1 + 0.1 * torch.sin(z_tilde * h[:, :1])
        z = z + encoded * dt + encoder_noise * d_enc
        h = h + moved * dt + moved_noise * d_seq
        z_tilde = z_tilde + predicted * dt + predictor_noise * d_pred
        s_tilde = s_tilde + decoded * dt + decoder_noise * d_dec
    return torch.cat([z, h, z_tilde, s_tilde], 1)


def first_correction(settings: Settings, mutate: Mutate) -> Finding:
    """max |Σ_k A_k σ̄_k| over random states is 0 (S6, first order)."""
    problem = mutate(latent_problem())
    t, y, _ = _random_states(settings, problem)
    largest = ito_correction(problem.system, problem.error)(t, y).abs().max()
    return compare("max |Σ A_k σ̄_k|", Estimate(float(largest), 0.0), 0.0)


def second_correction(settings: Settings, mutate: Mutate) -> Finding:
    """max |A_k F_k| over drivers, random states and directions is 0 (S6, second order).

    F_k = D²g_k[y, y] + 2 Dσ̄_k y for a direction y that any variation may take: all blocks.
    """
    problem = mutate(latent_problem())
    t, x, y = _random_states(settings, problem)
    system, diffusion = problem.system, problem.error.diffusion
    assert diffusion is not None
    largest = 0.0
    for k in range(diffusion(t, x).shape[2]):

        def column(state: torch.Tensor, k: int = k) -> torch.Tensor:
            return _column(system.g(t, state), k)

        def slope(state: torch.Tensor, column: Any = column) -> torch.Tensor:
            return jvp(column, (state,), (y,))[1]

        def error_column(state: torch.Tensor, k: int = k) -> torch.Tensor:
            return _column(diffusion(t, state), k)

        forcing = jvp(slope, (x,), (y,))[1] + 2.0 * jvp(error_column, (x,), (y,))[1]  # F_k
        largest = max(largest, float(jvp(column, (x,), (forcing,))[1].abs().max()))
    return compare("max |A_k F_k|", Estimate(largest, 0.0), 0.0)


def _column(diffusion: torch.Tensor, k: int) -> torch.Tensor:
    unit = torch.zeros(diffusion.shape[0], diffusion.shape[2], dtype=diffusion.dtype)
    unit[:, k] = 1.0
    return diffusion_product(diffusion, unit)


def _random_states(
    settings: Settings, problem: Problem
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (2, STATES, len(problem.x0))
    x, y = torch.randn(shape, dtype=torch.float64, generator=generator)
    return torch.zeros((), dtype=torch.float64), x, y


def unseen_error(settings: Settings, mutate: Mutate) -> Finding:
    """All terms are 0 if the sequence model does not read z and L is a function of (z̃, s̃) (S8)."""
    measured = Measured(mutate(latent_problem(reads_latent=False)), settings)
    names = ("P", "Q", "S", "P_drift", "Q_drift", "S_cross", "S_drift")
    return conclude([compare(name, measured.term(name), 0.0) for name in names])


def value_function(
    settings: Settings, mutate: Mutate, *, system: str, driver: str, drift: bool
) -> Finding:
    """The terms from derivatives of the value function equal those of the recursions (S5, S5a).

    The two are computed from different paths. Compared are P and P_drift for the driver "same", and
    c2 for zero drift and an independent driver.
    """
    problem = case_problem(ready_case(system), driver, drift=drift, share=0.4)
    form = value_function_terms(
        problem.system,
        problem.error,
        problem.loss,
        problem.x0,
        t1=problem.t1,
        steps=problem.steps,
        paths=max(2, settings.paths // 2),
        seed=settings.seed + 1,
    )
    recursion = Measured(mutate(problem), settings)
    findings = []
    for name in ("c2",) if driver == "independent" else ("P", "P_drift"):
        other = recursion.term(name)
        spread = (form[name].standard_error ** 2 + other.standard_error**2) ** 0.5
        findings.append(compare(name, Estimate(form[name].value, spread), other.value))
    return conclude(findings)
