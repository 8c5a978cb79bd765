"""Pairs of rollouts for the checks of sections 5 to 8, and the networks that drive them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.certificates.network_system import NetworkSystem
from sdewm.sde import examples


@dataclass(frozen=True)
class Rollout:
    """Two rollouts of a system from x0 and x0 + e.

    Attributes:
        system: the system of the paths.
        x0: initial state (D,).
        error: e, a vector (D,) or samples (B, D).
        t1: end time.
        steps: number of steps of the scheme.
        share: fraction of the paths of the settings that is used.
        understate: factor by which a control lowers the rates.
        bounded: the system whose rates enter the bound; None: `system`.
        same_noise: whether both rollouts share one Brownian path.
    """

    system: Any
    x0: torch.Tensor
    error: torch.Tensor
    t1: float
    steps: int
    share: float = 0.05
    understate: float = 0.8
    bounded: Any = None
    same_noise: bool = True

    @property
    def grid(self) -> dict[str, Any]:
        """Arguments common to all functions on rollouts."""
        return {"t1": self.t1, "steps": self.steps}


@lru_cache
def rollout_case(name: str, **changes: Any) -> Rollout:
    """A ready pair of rollouts; `changes` are attributes of Rollout."""
    if name == "tanh":
        rollout = Rollout(
            tanh_network(), torch.tensor([0.5, -0.3, 0.8, 0.1]).double(), unit(4, 0.01), 15.0, 150
        )
    elif name == "recurrent":
        system = RecurrentSystem.like_trained(hidden=12, latent=4)
        error = torch.cat((torch.zeros(12), unit(4, 0.002))).double()
        rollout = Rollout(system, system.x0, error, 50.0, 50)
    else:
        kind, options, size, t1, steps = _READY[name]
        case = getattr(examples, kind)(**options)
        rollout = Rollout(case, case.x0, unit(len(case.x0), size), t1, steps)
    return replace(rollout, **changes)


# name -> class, its options, |e|, end time, steps
_READY: dict[str, tuple[str, dict[str, Any], float, float, int]] = {
    "linear": ("LinearWorldModel", {}, 0.1, 5.0, 50),
    "linear_flow": ("LinearFlow", {}, 0.1, 1.5, 50),
    "geometric": ("GeometricBrownianMotion", {"growth": 0.2, "volatility": 0.4}, 1.0, 1.0, 50),
    "expanding": ("GeometricBrownianMotion", {"growth": 3.0, "volatility": 0.3}, 1.0, 1.0, 50),
    "cubic": ("CubicFlow", {}, -0.1, 0.7, 70),
    "circle": ("CircleDiffusion", {}, 0.05, 3.0, 60),
    "multiplicative": ("TanhWorldModel", {}, 0.01, 3.0, 60),
    "ornstein": ("OrnsteinUhlenbeck", {}, 0.1, 1.5, 15),
}


def unit(size: int, length: float) -> torch.Tensor:
    """The vector (1, …, 1) scaled to a length, with its sign."""
    return torch.full((size,), length / size**0.5, dtype=torch.float64)


@lru_cache
def tanh_network(state_size: int = 4, width: int = 64, seed: int = 0) -> NetworkSystem:
    """dx = (V tanh(W x + b) − x) dt + 0.3 dB with normal weights of unit gain, certified."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    network = nn.Sequential(
        nn.Linear(state_size, width), nn.Tanh(), nn.Linear(width, state_size)
    ).double()
    values = (
        normal(width, state_size) / state_size**0.5,
        normal(width),
        normal(state_size, width) / width**0.5,
        torch.zeros(state_size, dtype=torch.float64),
    )
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), values, strict=True):
            parameter.copy_(value)
    return NetworkSystem(network.requires_grad_(False), 0.3, torch.zeros(state_size).double())
