"""Negative controls of the expansion: each makes one deliberate mistake, which a check must detect.

A claim names its control in claims.toml. A control takes what the check is about to measure,
usually a `Problem`, and returns it with the mistake in it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.func import jvp

import sdewm
from paper_checks.cases.expansions import Change, Problem
from sdewm.theory.expansion.perturbation import ito_correction


def identity(subject: Any) -> Any:
    """No mistake: the subject is returned unchanged."""
    return subject


def drop_ito_correction(problem: Problem) -> Problem:
    """Variation of constants without Itô correction: y gains the drift forcing Σ A_k σ̄_k (S3)."""
    correction = ito_correction(problem.system, problem.error)
    forcing = replace(problem, error=sdewm.Perturbation(drift=correction))
    return problem.changed(
        Change("P", 1.0, "P_drift", forcing), Change("c1", 1.0, "P_drift", forcing)
    )


def independent_for_same(problem: Problem) -> Problem:
    """The error is given independent drivers in place of the system's drivers (S5)."""
    return replace(problem, error=replace(problem.error, driver="independent"))


def same_for_independent(problem: Problem) -> Problem:
    """The error is given the system's drivers in place of its independent ones (S5)."""
    case = problem.system
    error = replace(problem.error, driver="same", diffusion=case.error_diffusion)
    return replace(problem, error=error)


def add_drift_error(problem: Problem) -> Problem:
    """The drift error is switched on although the claim is about zero drift."""
    return replace(problem, error=replace(problem.error, drift=problem.system.error_drift))


def drop_drift_hessian(problem: Problem) -> Problem:
    """The corollary as recalled: c2 without ½ S_drift (S4)."""
    return problem.changed(Change("c2", -0.5, "S_drift"))


def halve_hessian_term(problem: Problem) -> Problem:
    """S is multiplied by ½, although its definition has no factor (S4)."""
    return problem.changed(Change("S", -0.5, "S"), Change("c2", -0.25, "S"))


def double_curvature_term(problem: Problem) -> Problem:
    """Q without its factor ½ (S4)."""
    return problem.changed(Change("Q", 1.0, "Q"), Change("c2", 1.0, "Q"))


def drop_drift_curvature(problem: Problem) -> Problem:
    """Q without H⁰: the second derivative of the drift is set to zero (S4)."""
    return _without_curvature(problem, _shadow(problem, _flat_drift))


def drop_diffusion_curvature(problem: Problem) -> Problem:
    """Q without the curvature of the diffusion in H^k (S4)."""
    return _without_curvature(problem, _shadow(problem, _flat_diffusion))


def cut_loop(problem: Problem) -> Problem:
    """The variation of the task state ignores z and h, although its path depends on them (S7)."""
    return _shadow(problem, _cut_loop)


def _without_curvature(problem: Problem, flat: Problem) -> Problem:
    """Q and Q_drift of `flat` in place of those of the problem, whose paths stay as they are."""
    return problem.changed(
        *(
            Change(target, weight, term, source)
            for term in ("Q", "Q_drift")
            for target in (term, "c2")
            for weight, source in ((-1.0, None), (1.0, flat))
        )
    )


def swap_sizes(problem: Problem) -> Problem:
    """The sizes of drift and diffusion error are exchanged in the prediction (S4)."""
    return replace(problem, swapped=True)


def smooth_loss(problem: Problem) -> Problem:
    """The loss |x|^3, which satisfies A2, replaces |x|^(5/2) (S2)."""
    return replace(problem, loss=lambda y: y[:, 0].abs() ** 3)


def noise_reads_latent(problem: Problem) -> Problem:
    """The encoder's diffusion depends on z, which violates the condition of S6."""
    return replace(problem, system=_NoiseReadsLatent(problem.system))


def sequence_noise_curved(problem: Problem) -> Problem:
    """The sequence model's diffusion is curved and depends on h: S6 does not allow this."""
    return replace(problem, system=_SequenceNoise(problem.system))


def sequence_reads_latent(problem: Problem) -> Problem:
    """The sequence model reads z, so that the error propagates (S8)."""
    return replace(problem, system=_SequenceReadsLatent(problem.system))


def last_value_only(extrapolate: Any) -> Any:
    """No extrapolation: the value of the finest scheme is taken as that of continuous time."""
    return lambda values: values[-1]


class _Derived:
    """A system that differs from another one in one coefficient."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self.noise_type, self.sde_type = system.noise_type, system.sde_type

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.system.f(t, y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.system.g(t, y)


class _NoiseReadsLatent(_Derived):
    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        part = self.system.blocks["z"]
        diffusion = self.system.g(t, y)
        factor = torch.ones_like(y)
        factor[:, part] = 1.0 + 0.3 * torch.sin(y[:, part])
        return diffusion * factor.unsqueeze(-1)


class _SequenceNoise(_Derived):
    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        part, drivers = self.system.blocks["h"], self.system.drivers["h"]
        diffusion = self.system.g(t, y).clone()
        curved = 0.2 * torch.cos(y[:, part])
        diffusion[:, part, drivers] = diffusion[:, part, drivers] + curved.unsqueeze(-1)
        return diffusion


class _SequenceReadsLatent(_Derived):
    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z, h = self.system.blocks["z"], self.system.blocks["h"]
        drift = self.system.f(t, y).clone()
        drift[:, h] = drift[:, h] + torch.tanh(y[:, z])
        return drift


Coefficients = tuple[torch.Tensor, torch.Tensor]


class _Shadowed:
    """The states (x, x̂): x follows the system without error, x̂ wrong coefficients of x and x̂.

    Where these are right for x̂ = x, the unperturbed paths are those of the system, and only the
    derivatives in x̂, that is the variations, are wrong.
    """

    noise_type, sde_type = "general", "ito"

    def __init__(self, system: Any, wrong: Any) -> None:
        self.system, self.wrong = system, wrong

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x, shadow = y.chunk(2, dim=1)
        return torch.cat((self.system.f(t, x), self.wrong(self.system, t, x, shadow)[0]), dim=1)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x, shadow = y.chunk(2, dim=1)
        wrong = self.wrong(self.system, t, x, shadow)[1]
        return torch.cat((_matrix(self.system.g(t, x)), _matrix(wrong)), dim=1)


def _shadow(problem: Problem, wrong: Any) -> Problem:
    """The problem with the error and the loss on x̂, whose coefficients are those of `wrong`."""
    error, loss = problem.error, problem.loss

    def half(coefficient: Any) -> Any:
        def on_shadow(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            value = coefficient(t, y.chunk(2, dim=1)[1])
            if coefficient is error.diffusion:
                value = _matrix(value)
            return torch.cat((torch.zeros_like(value), value), dim=1)

        return None if coefficient is None else on_shadow

    return replace(
        problem,
        system=_Shadowed(problem.system, wrong),
        error=replace(error, drift=half(error.drift), diffusion=half(error.diffusion)),
        loss=lambda y: loss(y.chunk(2, dim=1)[1]),
        x0=problem.x0.repeat(2),
        share=problem.share / 4,  # the mistakes are large
    )


def _matrix(diffusion: torch.Tensor) -> torch.Tensor:
    return torch.diag_embed(diffusion) if diffusion.dim() == 2 else diffusion


def _flat_drift(system: Any, t: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Coefficients:
    """The drift replaced by its tangent at x."""
    value, slope = jvp(lambda state: system.f(t, state), (x,), (y - x,))
    return value + slope, system.g(t, y)


def _flat_diffusion(system: Any, t: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Coefficients:
    """The diffusion replaced by its tangent at x."""
    value, slope = jvp(lambda state: system.g(t, state), (x,), (y - x,))
    return system.f(t, y), value + slope


def _cut_loop(system: Any, t: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Coefficients:
    """The closed loop of O6, state (z, h, s): the row of s reads z and h from x."""
    frozen = system.f(t, torch.cat((x[:, :2], y[:, 2:]), dim=1))
    return torch.cat((system.f(t, y)[:, :2], frozen[:, 2:]), dim=1), system.g(t, y)
