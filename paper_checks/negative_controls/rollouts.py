"""Negative controls of sections 5 to 8: mistakes in rates, noise, laws and weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from paper_checks.cases.rollouts import Rollout
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import CertifiedSystem, ConstantJacobians, Rates
from sdewm.sde.system import check_protocol
from sdewm.theory.bounds.jacobian_rates import exact_rates
from sdewm.theory.bounds.weighted_norms import reference_rates

_PATHS, _STEPS = 64, 16  # of sampled rates


def understate_rates(rollout: Rollout) -> Rollout:
    """The bound is computed from deliberately lowered rates."""
    bounded = rollout.bounded or rollout.system
    return replace(rollout, bounded=Understated(bounded, rollout.understate))


def separate_noise(rollout: Rollout) -> Rollout:
    """The two rollouts use independent Brownian paths."""
    return replace(rollout, same_noise=False)


def without_noise(rollout: Rollout) -> Rollout:
    """The diffusion of the system is left out of the rates and of the exact value (S19)."""
    return replace(rollout, bounded=_Quiet(rollout.bounded or rollout.system))


def with_relaxation(rollout: Rollout) -> Rollout:
    """The predictor relaxes, dz̃ = (p(h) − z̃) dt, instead of integrating (S17)."""
    return replace(rollout, system=_Relaxing(rollout.system))


def far_error(rollout: Rollout) -> Rollout:
    """The error is 20 times as large, outside the range of the prediction (S18)."""
    return replace(rollout, error=20.0 * rollout.error)


def no_supremum_factor(factor: Any) -> Any:
    """The bound on the mean is used as a bound on the supremum (S11)."""
    return torch.ones_like


def rare_law(law: str) -> str:
    """The error is rare, not small, so that E|e| does not determine the order (S14)."""
    return "rare"


def scaled_law(law: str) -> str:
    """The law of the error keeps its shape while its size shrinks (S14)."""
    return "scaled"


def drop_flow_curvature(second_order: Any) -> Any:
    """The second derivative of the flow is left out of the second-order term (S20)."""
    return lambda terms: terms["second_curvature"].value


def shifted_error(error: torch.Tensor) -> torch.Tensor:
    """The mean of the error is not zero (S20)."""
    return error + 0.05


def halve_first_layer(module: torch.nn.Module) -> torch.nn.Module:
    """The norm of the first weight matrix is understated by a factor of 2 (S18)."""
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
    """A system whose certified, or else sampled, rates are lower than the true ones."""

    def __init__(self, system: Any, factor: float) -> None:
        super().__init__(system)
        self.factor = factor

    def certified_rates(
        self, low: torch.Tensor, high: torch.Tensor, step_size: float, blocks: Sequence[slice]
    ) -> Rates:
        if isinstance(self.system, ConstantJacobians):
            rates = exact_rates(self.system, step_size, blocks)
        elif isinstance(self.system, CertifiedSystem):
            rates = self.system.certified_rates(low, high, step_size, blocks)
        else:
            rates = self._sampled(low, high, step_size)
        return rates.lowered(self.factor)

    def _sampled(self, low: torch.Tensor, high: torch.Tensor, step_size: float) -> Rates:
        """The largest rates over some paths from the middle of the box, for all steps."""
        start = 0.5 * (low + high).expand(_PATHS, -1)
        drivers = check_protocol(self.system, torch.zeros(()).double(), start)
        noise = GaussianNoise(drivers=drivers, steps=_STEPS, t1=_STEPS * step_size, seed=0)
        rates = reference_rates(self.system, start, noise)[0][-1][1]
        return Rates(**{f.name: _largest(f.name, getattr(rates, f.name)) for f in fields(rates)})


def _largest(name: str, values: torch.Tensor) -> torch.Tensor:
    """The largest value over the steps (for least_log_norm the least), as a single step."""
    if name == "log_norm":
        return values.amax(dim=1, keepdim=True)
    return (values.amin if name == "least_log_norm" else values.amax)(dim=0, keepdim=True)


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
