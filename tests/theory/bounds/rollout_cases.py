"""Systems whose rollouts are bounded, and how."""

import numpy as np
import torch

from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.certificates.network_system import NetworkSystem
from sdewm.sde.examples import (
    CircleDiffusion,
    CubicFlow,
    GeometricBrownianMotion,
    LinearFlow,
    LinearWorldModel,
    TanhWorldModel,
)
from sdewm.theory.bounds.rollout_bounds import rollout_bounds

F64 = {"dtype": torch.float64}


class Expanding:
    """dx = x³ dt + 0.01 dB: the larger the state, the faster errors grow."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return y**3

    def g(self, t, y):
        return torch.full_like(y, 0.01)


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, **F64, generator=generator)


def network_system(size=3, width=8):
    module = torch.nn.Sequential(
        torch.nn.Linear(size, width, **F64), torch.nn.Tanh(), torch.nn.Linear(width, size, **F64)
    )
    for k, weight in enumerate(module.parameters()):
        weight.data = draw(*weight.shape, seed=k) / weight.shape[-1] ** 0.5
    return NetworkSystem(module.requires_grad_(False), 0.3, draw(size, seed=9))


def recurrent_system():
    model = RecurrentSystem.like_trained(hidden=6, latent=2)
    model.x0[:6] *= 0.8  # so that errors of 0.1 stay in |h| ≤ 1
    return model


SYSTEMS = {
    "linear": LinearWorldModel(),
    "Brownian": GeometricBrownianMotion(),
    "flow": LinearFlow(),
    "circle": CircleDiffusion(),
    "tanh": TanhWorldModel(state_size=3, width=6, seed=3),
    "network": network_system(),
    "recurrent": recurrent_system(),
    "cubic": CubicFlow(start=0.9),
}
PROVEN = ("linear", "Brownian", "flow", "network", "recurrent", "cubic")
ADDITIVE = ("linear", "network", "recurrent", "cubic")
TANH, CIRCLE = SYSTEMS["tanh"], SYSTEMS["circle"]


def bound(system, error=None, **options):
    arguments = {"t1": 1.0, "steps": 5, "paths": 60, **options}
    error = torch.full((system.state_size,), 0.1, **F64) if error is None else error
    return rollout_bounds(system, arguments.pop("x0", system.x0), error, **arguments)


def assert_holds(one, measured):
    for name, curve in one.curves.items():
        slack = 5 * np.hypot(curve.standard_errors, measured[name].standard_errors)
        excess = measured[name].values - curve.values - slack
        assert (excess <= 1e-12 * measured[name].values).all(), (one.grade, name)
