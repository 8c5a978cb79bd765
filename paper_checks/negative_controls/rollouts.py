"""Negative controls of sections 5 to 8: mistakes in rates, noise, laws and weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from paper_checks.cases.rollouts import Rollout
from sdewm.sde.rates import ConstantJacobians, Rates
from sdewm.theory.bounds.jacobian_rates import exact_rates


def understate_rates(rollout: Rollout) -> Rollout:
    """The bound is computed from rates lowered on purpose."""
    bounded = rollout.bounded or rollout.system
    return replace(rollout, bounded=Understated(bounded, rollout.understate))


def separate_noise(rollout: Rollout) -> Rollout:
    """The two rollouts see Brownian paths of their own."""
    return replace(rollout, same_noise=False)


def without_noise(rollout: Rollout) -> Rollout:
    """The diffusion of the system is left out of the rates and of the exact value (S19)."""
    return replace(rollout, bounded=_Quiet(rollout.bounded or rollout.system))


def with_relaxation(rollout: Rollout) -> Rollout:
    """The predictor relaxes, dz̃ = (p(h) − z̃) dt, in place of integrating (S17)."""
    return replace(rollout, system=_Relaxing(rollout.system))


def far_error(rollout: Rollout) -> Rollout:
    """An error 20 times as large, outside the range in which the prediction is claimed (S18)."""
    return replace(rollout, error=20.0 * rollout.error)


def no_supremum_factor(factor: Any) -> Any:
    """The bound of the mean is taken for one of the supremum (S11)."""
    return torch.ones_like


def rare_law(law: str) -> str:
    """An error that is rare, not small: E|e| decides no order (S14)."""
    return "rare"


def scaled_law(law: str) -> str:
    """An error that keeps the shape of its law and shrinks (S14)."""
    return "scaled"


def drop_flow_curvature(second_order: Any) -> Any:
    """The second derivative of the flow is left out of the second order (S20)."""
    return lambda terms: terms["second_curvature"].value


def shifted_error(error: torch.Tensor) -> torch.Tensor:
    """An error with a mean (S20)."""
    return error + 0.05


def halve_first_layer(module: torch.nn.Module) -> torch.nn.Module:
    """The norm of the first weight matrix is understated by half (S18)."""
    wrong = copy.deepcopy(module)
    with torch.no_grad():
        next(p for p in wrong.parameters() if p.dim() == 2).mul_(0.5)
    return wrong


class _Derived:
    def __init__(self, system: Any) -> None:
        self.system = system
        self.noise_type, self.sde_type = system.noise_type, system.sde_type
        self.blocks = getattr(system, "blocks", None)

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.system.f(t, y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.system.g(t, y)


class Understated(_Derived):
    """A system that claims to prove rates below its own."""

    def __init__(self, system: Any, factor: float) -> None:
        super().__init__(system)
        self.factor = factor

    def certified_rates(
        self, low: torch.Tensor, high: torch.Tensor, step_size: float, blocks: Sequence[slice]
    ) -> Rates:
        if isinstance(self.system, ConstantJacobians):
            rates = exact_rates(self.system, step_size, blocks)
        else:
            rates = self.system.certified_rates(low, high, step_size, blocks)
        return rates.lowered(self.factor)


class _Quiet(_Derived):
    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(self.system.g(t, y))

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        drift, noise = self.system.jacobians()
        return drift, torch.zeros_like(noise)


class _Relaxing(_Derived):
    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        drift, part = self.system.f(t, y).clone(), self.system.blocks["z_tilde"]
        drift[:, part] = drift[:, part] - y[:, part]
        return drift
