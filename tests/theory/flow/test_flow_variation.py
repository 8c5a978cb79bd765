"""Derivatives of the flow in its initial state: exact for the scheme, whatever the system."""

import pytest
import torch

from sdewm.sde.examples import CircleDiffusion, LinearWorldModel, TanhWorldModel
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from sdewm.theory.flow.flow_variation import FlowVariation
from tests.recurrent_step import RecurrentStep

WORLD, GRU = TanhWorldModel(seed=3, state_size=3, width=6), RecurrentStep()
CASES = [
    pytest.param(WORLD, 3, 2, 1.0, id="tanh world model, multiplicative noise"),
    pytest.param(GRU, 8, 3, 4.0, id="GRU cell, given by its step"),
    pytest.param(CircleDiffusion(), 1, 1, 1.0, id="circle"),
]


def start(size, paths=6):
    generator = torch.Generator().manual_seed(4)
    return (
        0.5 * torch.randn(paths, size, dtype=torch.float64, generator=generator),
        torch.randn(paths, size, dtype=torch.float64, generator=generator),
    )


def differences(system, x0, e, noise, h):
    with torch.no_grad():
        ahead, middle, behind = (solve_path(system, x0 + s * e, noise)[:, 0] for s in (h, 0.0, -h))
    return (ahead - behind) / (2 * h), (ahead + behind - 2 * middle) / (h * h)


@pytest.mark.parametrize(("system", "size", "drivers", "t1"), CASES)
def test_variations_are_the_central_differences_of_the_scheme(system, size, drivers, t1):
    x0, e = start(size)
    noise = GaussianNoise(drivers=drivers, steps=4, t1=t1, seed=2)
    flow = FlowVariation(system, fused=False)
    x, y, w = flow.split(solve_path(flow, flow.initial(x0, e), noise)[:, 0])
    coarse, fine = (differences(system, x0, e, noise, h) for h in (2e-2, 1e-2))
    first, second = ((4 * b - a) / 3 for a, b in zip(coarse, fine, strict=True))
    assert w.abs().max() > 0.05
    with torch.no_grad():
        torch.testing.assert_close(x, solve_path(system, x0, noise)[:, 0], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(y, first, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(w, second, rtol=1e-4, atol=1e-5)
    # Negative control: these tolerances tell w from its half, the other convention.
    assert ((w / 2 - second).abs() > 1e-4 * second.abs() + 1e-5).any()


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("system", "size", "drivers", "t1"), CASES)
def test_the_recorded_step_is_the_nested_jvp(system, size, drivers, t1, order):
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(6, size * (1 + order), dtype=torch.float64, generator=generator)
    v = torch.randn(6, drivers, dtype=torch.float64, generator=generator)
    t = torch.tensor(0.3, dtype=torch.float64)
    fast, slow = (FlowVariation(system, order, fused=fused) for fused in (True, False))
    for a, b in zip(fast.f_and_g_prod(t, state, v), slow.f_and_g_prod(t, state, v), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


def test_order_1_is_the_first_part_of_order_2():
    x0, e = start(3)
    noise = GaussianNoise(drivers=2, steps=5, t1=1.0)
    both = [FlowVariation(WORLD, order, fused=False) for order in (1, 2)]
    ends = [flow.split(solve_path(flow, flow.initial(x0, e), noise)[:, 0]) for flow in both]
    assert [len(end) for end in ends] == [2, 3]
    for a, b in zip(*ends, strict=False):
        assert torch.equal(a, b)


def test_the_flow_of_a_linear_system_has_no_second_derivative():
    case = LinearWorldModel()
    x0, e = start(4)
    noise = GaussianNoise(drivers=3, steps=7, t1=2.0)
    flow = FlowVariation(case, fused=False)
    x, y, w = flow.split(solve_path(flow, flow.initial(x0, e), noise)[:, 0])
    moved = solve_path(case, x0 + e, noise)[:, 0]
    torch.testing.assert_close(moved - x, y, rtol=1e-12, atol=1e-13)
    assert torch.equal(w, torch.zeros_like(w))


def test_starts_and_directions_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"x0 has shape \(2, 3\), e \(1, 3\)"):
        FlowVariation(WORLD).initial(torch.zeros(2, 3), torch.zeros(1, 3))


@pytest.mark.parametrize("order", [0, 3, "2"])
def test_other_orders_are_refused(order):
    with pytest.raises(ValueError, match=f"order={order!r}"):
        FlowVariation(WORLD, order)


def test_a_wrong_second_derivative_is_refused():
    class Determinant(CircleDiffusion):
        def f(self, t, y):
            matrix = torch.eye(2, dtype=y.dtype) * (1 + y[:, :, None]) + 0.3 * y[:, :, None] ** 2
            return torch.linalg.det(matrix)[:, None]

    flow, one = FlowVariation(Determinant()), torch.ones(2, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="second derivative of the coefficients"):
        flow.f_and_g_prod(torch.tensor(0.0).double(), flow.initial(one, one), one)
