"""A residual network as a drift: its native step, and rates that no state exceeds."""

import math
from dataclasses import fields

import pytest
import torch

from sdewm.certificates.network_system import NetworkSystem, relaxed_rates
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import CertifiedSystem, Rates
from sdewm.sde.solve import solve_path
from sdewm.theory.bounds.jacobian_rates import jacobian_rates

F64 = {"dtype": torch.float64}
ZERO = torch.zeros(())


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, **F64, generator=generator)


def network(size=3, width=8, seed=0, gain=1.0):
    module = torch.nn.Sequential(
        torch.nn.Linear(size, width, **F64), torch.nn.Tanh(), torch.nn.Linear(width, size, **F64)
    )
    for k, weight in enumerate(module.parameters()):
        weight.data = gain * draw(*weight.shape, seed=10 * seed + k) / weight.shape[-1] ** 0.5
    return module.requires_grad_(False)


def linear(matrix):
    module = torch.nn.Linear(*matrix.shape, bias=False, **F64)
    module.weight.data = matrix
    return module.requires_grad_(False)


def jacobians(system, points):
    return torch.func.vmap(torch.func.jacrev(lambda x: system.f(ZERO, x[None])[0]))(points)


def test_one_step_of_the_relaxation_time_is_the_network():
    module, noise = network(), draw(3, 2, seed=4)
    system = NetworkSystem(module, noise, draw(3), relaxation_time=0.7)
    start = draw(5, 3, seed=1)
    drivers = GaussianNoise(drivers=2, steps=1, t1=0.7)
    with torch.no_grad():
        after = solve_path(system, start, drivers)[:, 0]
    expected = module(start) + drivers.increments(0, 5)[0] @ noise.T
    torch.testing.assert_close(after, expected, rtol=1e-13, atol=1e-14)
    half = solve_path(system, start, GaussianNoise(drivers=2, steps=2, t1=0.7))[:, 0]
    assert not torch.allclose(half, expected, rtol=1e-2)


def test_a_number_is_that_multiple_of_the_identity():
    system = NetworkSystem(network(), 0.3, torch.zeros(3, **F64))
    torch.testing.assert_close(
        system.g(ZERO, draw(4, 3)), 0.3 * torch.eye(3, **F64).expand(4, 3, 3)
    )
    assert system.noise_type == "additive" and system.blocks == {"x": slice(0, 3)}
    assert isinstance(system, CertifiedSystem)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("step_size", [0.05, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("blocks", [[slice(0, 3)], [slice(0, 1), slice(1, 3)]])
def test_no_state_has_rates_above_the_proven_ones(tau, step_size, blocks):
    closest = dict.fromkeys(("drift", "step", "log_norm", "blocks", "step_blocks"), 0.0)
    for seed in range(3):
        system = NetworkSystem(network(seed=seed), 0.1, torch.zeros(3, **F64), relaxation_time=tau)
        proven = system.certified_rates(system.x0, system.x0, step_size, blocks)
        points = 3 * draw(400, 3, seed=50 + seed)
        found = jacobian_rates(jacobians(system, points), None, step_size, blocks)
        for name, value in found.items():
            bound = getattr(proven, name)
            bound = bound[:, 0] if name == "log_norm" else bound[0]
            top = value.amax(-1) if name == "log_norm" else value.amax(0)
            if name == "least_log_norm":
                top, bound = -value.amin(0), -bound
            assert (top <= bound * (1 + 1e-12) + 1e-12).all(), name
            if name in closest:
                gap = (bound - top).max() / proven.drift
                closest[name] = max(closest[name], 1 - float(gap))
    assert min(closest.values()) > 0.2  # gaps in units of α: none is vacuous


def test_the_curvature_bounds_second_differences():
    system = NetworkSystem(network(), 0.1, torch.zeros(3, **F64), relaxation_time=0.5)
    proven = system.certified_rates(system.x0, system.x0, 0.1, [slice(0, 3)]).curvature
    points, v = draw(4000, 3, seed=3), draw(4000, 3, seed=4)
    v, h = v / v.norm(dim=1, keepdim=True), 1e-3
    values = [system.f(ZERO, points + s * h * v) for s in (1, 0, -1)]
    found = ((values[0] - 2 * values[1] + values[2]) / h**2).norm(dim=1).max()
    assert 0.1 * proven < found <= proven
    assert proven.item() == pytest.approx(2 * system.certificate.curvature_2)


@pytest.mark.parametrize("step_size", [0.25, 1.0, 1.5])
@pytest.mark.parametrize("tau", [1.0, 0.6])
def test_rates_of_symmetric_linear_networks_are_exact(step_size, tau):
    matrix = draw(3, 3, seed=7)
    matrix = 0.4 * (matrix + matrix.T)
    system = NetworkSystem(linear(matrix), 0.1, torch.zeros(3, **F64), relaxation_time=tau)
    rates = system.certified_rates(system.x0, system.x0, step_size, [slice(0, 3)])
    values = torch.linalg.eigvalsh(matrix)
    assert rates.log_norm[1].item() == pytest.approx(float(values[-1] - 1) / tau, rel=1e-9)
    share, norm = step_size / tau, float(values.abs().max())
    mu, length = rates.log_norm[1].item(), (norm + 1) / tau
    euler = math.sqrt(1 + 2 * step_size * mu + (step_size * length) ** 2)
    assert rates.step.item() == pytest.approx(min(abs(1 - share) + share * norm, euler), rel=1e-9)
    exact = float((1 + share * (values - 1)).abs().max())
    assert rates.step.item() >= exact
    if share == 1.0:
        assert rates.step.item() == pytest.approx(exact, rel=1e-9)


def test_a_contraction_that_cancellation_would_hide_is_not_understated():
    for tau in torch.linspace(0.05, 3.0, 60, **F64).tolist():
        for weight in (0.0, 1e-9, -1e-9, 1e-16):
            system = NetworkSystem(
                linear(weight * torch.eye(2, **F64)),
                0.1,
                torch.zeros(2, **F64),
                relaxation_time=tau,
            )
            for step_size in (tau, math.nextafter(tau, 9.0), tau * (1 - 1e-9)):
                share = step_size / tau
                rates = system.certified_rates(system.x0, system.x0, step_size, [slice(0, 2)])
                exact = abs(1 - share + share * weight)
                assert exact * (1 - 1e-6) <= rates.step.item() < exact + 1e-6  # nan fails, too
                assert exact * (1 - 1e-6) <= rates.step_blocks.item() < exact + 1e-6


def test_blocks_of_a_comparison_give_the_logarithmic_norm_of_the_whole():
    norms = torch.tensor([[0.5, 0.2], [0.3, 0.4]], **F64)
    log_norms = torch.tensor([[-0.1, 0.2], [0.3, 0.2]], **F64)
    rates = relaxed_rates(norms, log_norms, torch.tensor([5.0], **F64), 0.7, 0.1, 0.5)
    comparison = 2 * torch.tensor([[-1.1, 0.2], [0.3, -0.8]], **F64)
    torch.testing.assert_close(rates.blocks[0], comparison)
    top = torch.linalg.eigvalsh(0.5 * (comparison + comparison.T))[-1]
    assert rates.log_norm[1].item() == pytest.approx(float(top), rel=1e-12)
    assert rates.log_norm[1] >= top
    assert rates.curvature.item() == pytest.approx(1.4)
    torch.testing.assert_close(rates.step_blocks[0, 0, 1].item(), 0.2 * 0.2)
    # Where the norm of the whole says more, it is taken.
    small = relaxed_rates(norms, log_norms, torch.tensor([0.1], **F64), 0.7, 0.1, 0.5)
    assert small.log_norm[1].item() == pytest.approx(-1.8)


def test_rates_have_one_step_and_are_additive():
    system = NetworkSystem(network(), 0.1, torch.zeros(3, **F64))
    rates = system.certified_rates(system.x0, system.x0, 0.1, [slice(0, 3)])
    assert rates.additive
    repeated = rates.repeated(4)
    for field in fields(Rates):
        assert torch.isfinite(getattr(repeated, field.name)).all()
    assert repeated.log_norm.shape == (3, 4) and repeated.blocks.shape == (4, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"relaxation_time": 0.0}, "relaxation_time=0.0: expected a positive number"),
        ({"relaxation_time": math.inf}, "relaxation_time=inf: expected a finite number"),
        ({"noise": torch.zeros(2, 2)}, r"noise has shape \(2, 2\); expected \(D, M\), D = 3"),
        ({"noise": "0.1"}, "noise='0.1'"),
        (
            {"network": torch.nn.Linear(3, 2, **F64)},
            r"network returned shape \(1, 2\) for \(1, 3\)",
        ),
    ],
)
def test_bad_input_is_refused_by_name(arguments, message):
    given = {"network": network(), "noise": 0.1, "start": torch.zeros(3, **F64), **arguments}
    with pytest.raises(ValueError, match=message):
        NetworkSystem(given.pop("network"), given.pop("noise"), given.pop("start"), **given)


def test_a_network_that_cannot_be_certified_is_refused_with_its_name():
    module = torch.nn.Sequential(torch.nn.Linear(3, 3, **F64), torch.nn.Softmax(dim=1))
    system = NetworkSystem(module, 0.1, torch.zeros(3, **F64))
    with pytest.raises(ValueError, match="Softmax"):
        system.certified_rates(system.x0, system.x0, 0.1, [slice(0, 3)])
