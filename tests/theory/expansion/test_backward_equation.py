"""The value-function form of the terms against the recursions: two independent routes."""

import pytest
import torch

import sdewm
from sdewm.sde.examples import (
    CircleDiffusion,
    EnumerationWorldModel,
    GeometricBrownianMotion,
    OrnsteinUhlenbeck,
    QuadraticCascade,
)
from sdewm.theory.expansion.backward_equation import value_function_terms


@pytest.mark.parametrize(
    "case", [OrnsteinUhlenbeck(), GeometricBrownianMotion(), QuadraticCascade(), CircleDiffusion()]
)
def test_p_and_p_drift_agree_with_their_exact_values(case):
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    arguments = (case, error, case.loss, case.x0)
    found = value_function_terms(*arguments, t1=case.t1, steps=10, paths=20_000)
    exact = case.exact_terms("same", steps=10)
    for name, estimate in found.items():
        assert estimate.deviation_from(exact[name]) < 5, name
        assert estimate.standard_error < 0.1 * abs(exact[name])


@pytest.mark.parametrize("case", [OrnsteinUhlenbeck(), QuadraticCascade(), CircleDiffusion()])
def test_c2_of_a_zero_drift_independent_error(case):
    error = sdewm.Perturbation(None, case.error_diffusion, "independent")
    arguments = (case, error, case.loss, case.x0)
    found = value_function_terms(*arguments, t1=case.t1, steps=10, paths=20_000)
    exact = case.exact_terms("independent", steps=10)
    assert found["P"] == sdewm.Estimate(0.0, 0.0)
    assert found["c2"].deviation_from(exact["Q"] + exact["S"] / 2) < 5
    assert found["c2"].standard_error < 0.1 * abs(exact["Q"] + exact["S"] / 2)


def test_several_drivers_on_a_world_model():
    case = EnumerationWorldModel()
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    arguments = (case, error, case.loss, case.x0)
    found = value_function_terms(*arguments, t1=case.t1, steps=4, paths=8192)
    recursion = sdewm.expand(*arguments, t1=case.t1, steps=4, paths=8192, seed=1).terms
    for name, estimate in found.items():
        both = (estimate.standard_error**2 + recursion[name].standard_error ** 2) ** 0.5
        assert abs(estimate.value - recursion[name].value) < 5 * both
        assert both < 0.2 * abs(recursion[name].value)


def test_the_ito_correction_cannot_be_dropped():
    """Negative control: the value without the correction is far outside the error bars."""
    case = GeometricBrownianMotion()
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    arguments = (case, error, case.loss, case.x0)
    found = value_function_terms(*arguments, t1=case.t1, steps=10, paths=20_000)
    assert found["P"].deviation_from(2 * case.exact_terms("same", steps=10)["P"]) > 10


def test_an_operation_with_a_wrong_second_derivative_is_refused():
    class Determinant(OrnsteinUhlenbeck):
        def f(self, t, y):
            matrix = torch.eye(2, dtype=y.dtype) * (1 + y[:, :, None]) + 0.3 * y[:, :, None] ** 2
            return torch.linalg.det(matrix)[:, None]

    case = Determinant()
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    with pytest.raises(ValueError, match="second derivative of system.f at t = 0"):
        value_function_terms(case, error, case.loss, case.x0, t1=1.0, steps=2, paths=8)


def test_a_product_that_is_not_that_of_the_error_diffusion_is_refused():
    case = GeometricBrownianMotion()
    error = sdewm.Perturbation(
        diffusion=case.error_diffusion,
        diffusion_product=lambda t, y, v: 1.01 * case.error_diffusion(t, y)[:, :, 0] * v,
    )
    with pytest.raises(ValueError, match=r"error\.diffusion_product at t = 0 differs"):
        value_function_terms(case, error, case.loss, case.x0, t1=1.0, steps=2, paths=8)


def test_a_state_per_path_is_refused():
    case = OrnsteinUhlenbeck()
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    with pytest.raises(ValueError, match=r"x0 has shape \(1, 1\)"):
        value_function_terms(case, error, case.loss, case.x0[None], t1=1.0, steps=2, paths=8)
