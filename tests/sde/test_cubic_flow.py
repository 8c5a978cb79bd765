"""The cubic flow: its derivatives in closed form against differences and against the scheme."""

import pytest
import torch

from sdewm.sde.examples import CubicFlow
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import check_protocol

CASE = CubicFlow()


def test_the_flow_has_the_tabulated_values():
    found = [float(value) for value in CASE.flow(CASE.x0, CASE.t1)]
    assert found == pytest.approx([0.6701837442, 0.2261536560, -0.3878358911], abs=5e-11)
    assert found != pytest.approx([0.6701837442, 0.2261536560, -0.3878358911 / 2], abs=5e-11)


def test_the_second_order_of_the_squared_state_is_the_tabulated_one():
    sizes = torch.tensor([0.1, -0.1], dtype=torch.float64)
    value, slope, curvature = CASE.flow(CASE.x0, CASE.t1)
    exact = (CASE.flow(CASE.x0 + sizes, CASE.t1)[0] ** 2).mean() - value**2
    second = 0.1**2 * (slope**2 + value * curvature)
    assert float(exact) == pytest.approx(-0.0020861271, abs=5e-11)
    assert float(second) == pytest.approx(-0.0020877583, abs=5e-11)


def test_the_flow_is_differentiated_correctly_on_both_sides_of_zero():
    x = torch.tensor([-1.5, -0.2, 0.0, 0.9], dtype=torch.float64, requires_grad=True)
    value, slope, curvature = CASE.flow(x, 0.4)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(slope, first)
    torch.testing.assert_close(curvature, second)


def test_the_scheme_converges_to_the_flow_with_order_one():
    def end(steps):
        noise = GaussianNoise(drivers=1, steps=steps, t1=CASE.t1)
        return float(solve_path(CASE, CASE.x0[None], noise)[0, 0, 0])

    exact = float(CASE.flow(CASE.x0, CASE.t1)[0])
    gaps = [end(steps) - exact for steps in (50, 100, 200)]
    assert all(1.95 < a / b < 2.05 for a, b in zip(gaps, gaps[1:], strict=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coefficients_keep_the_contract_of_a_system(dtype):
    t, y = torch.tensor(0.1, dtype=dtype), torch.randn(3, 1, dtype=dtype)
    assert check_protocol(CASE, t, y) == 1
    assert CASE.error_diffusion(t, y).shape == (3, 1)
    assert CASE.loss(y).shape == (3,)
    assert CASE.loss(y).dtype == CASE.error_diffusion(t, y).dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"t1": 0.0}, "t1=0.0"), ({"start": "1"}, "start='1'"), ({"sigma_bar": None}, "sigma_bar")],
)
def test_bad_parameters_are_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        CubicFlow(**arguments)
