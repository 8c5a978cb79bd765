"""Systems, their rates and their enumerated rollouts, which tests of bounds share."""

import torch

from sdewm.sde.examples import (
    GeometricBrownianMotion,
    LinearFlow,
)
from sdewm.sde.noise import EnumeratedNoise
from sdewm.sde.rates import Rates
from sdewm.sde.solve import solve_path
from sdewm.theory.bounds.jacobian_rates import exact_rates, jacobian_rates
from sdewm.theory.curve import NORMS
from sdewm.theory.flow.flow_variation import FlowVariation
from sdewm.theory.flow.initial_error import CoupledSystem

F64 = {"dtype": torch.float64}
FLOW, O10 = LinearFlow(), GeometricBrownianMotion(growth=0.2, volatility=0.4)
ROTATION = LinearFlow(matrix=((0.0, -1.0), (1.0, 0.0)), noise=())
ROUNDING = 1 + 1e-11


def tensor(*values):
    return torch.tensor(values, **F64)


def constant(case, t1, steps):
    """The rates of a system with constant Jacobians, and the step."""
    whole = [slice(0, case.state_size)]
    return exact_rates(case, t1 / steps, whole).repeated(steps), t1 / steps


def enumerated(system, error, t1, steps, x0=None):
    """|D|, and |D − y|, `(2^(NM), N + 1)`: every pattern of two-point increments once."""
    x = system.x0 if x0 is None else x0
    drivers = system.g(torch.zeros(()), x[None]).shape[-1]
    noise = EnumeratedNoise(drivers=drivers, steps=steps, t1=t1)
    paths, times = noise.paths_limit, noise.grid(torch.float64).tolist()
    start, e = x.expand(paths, -1), error.expand(paths, -1)
    flow = FlowVariation(system, order=1, fused=False)
    with torch.no_grad():
        pair = solve_path(
            CoupledSystem(system), torch.cat((start, start + e), 1), noise, times=times
        )
        both = solve_path(flow, flow.initial(start, e), noise, times=times)
    here, there = pair.chunk(2, dim=2)
    return (there - here).norm(dim=2), (there - here - both.chunk(2, dim=2)[1]).norm(dim=2)


def norms_of(distances):
    largest = distances.cummax(dim=1).values
    kinds = (distances, distances**2, largest, largest**2)
    return {name: kind.mean(0) for name, kind in zip(NORMS, kinds, strict=True)}


def assert_bounded(distances, factors, length):
    for name, measured in norms_of(distances).items():
        scale = length**2 if name.endswith("square") else length
        assert (measured <= factors[name] * scale * ROUNDING).all(), name


def scalar_rates(drift, noise, step_size, curvature=0.0, noise_curvature=0.0):
    """The largest rates over scalar Jacobians `(G,)`, N = 1."""
    found = jacobian_rates(drift[:, None, None], noise[:, None, None], step_size, [slice(0, 1)])
    top = {
        name: value.amax(-1, keepdim=True)
        if name == "log_norm"
        else value.amin(0, keepdim=True)
        if name == "least_log_norm"
        else value.amax(0, keepdim=True)
        for name, value in found.items()
    }
    top |= {"curvature": tensor(curvature), "noise_curvature": tensor(noise_curvature)}
    return Rates(**top)
