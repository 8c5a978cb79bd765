"""Bounds of the expansion's terms (S13)."""

import math

import numpy as np
import pytest
import torch

import sdewm
from sdewm.sde import examples
from sdewm.theory.bounds.jacobian_rates import exact_rates
from sdewm.theory.bounds.term_bounds import term_bounds

NAMES = ("P", "P_drift", "S", "S_cross", "S_drift")
CASES = (
    "OrnsteinUhlenbeck",
    "LinearWorldModel",
    "GeometricBrownianMotion",
    "CircleDiffusion",
    "TanhWorldModel",
    "QuadraticCascade",
    "EnumerationWorldModel",
)


def problem(name, driver="same"):
    case = getattr(examples, name)()
    diffusion = case.error_diffusion
    if driver == "independent":
        diffusion = getattr(case, "independent_error_diffusion", diffusion)
    return case, sdewm.Perturbation(drift=case.error_drift, diffusion=diffusion, driver=driver)


@pytest.mark.parametrize("driver", ["same", "independent"])
@pytest.mark.parametrize("name", CASES)
def test_bounds_are_above_the_measured_terms(name, driver):
    case, error = problem(name, driver)
    grid = {"t1": case.t1, "steps": 12}
    bounds = term_bounds(case, error, case.loss, case.x0, paths=500, **grid)
    terms = sdewm.expand(case, error, case.loss, case.x0, paths=4096, **grid).terms
    for term in NAMES:
        measured = terms[term]
        assert abs(measured.value) <= bounds[term] + 5 * measured.standard_error, term


def test_both_variations_are_equalities_for_the_ornstein_uhlenbeck_process():
    case, error = problem("OrnsteinUhlenbeck")
    bounds = term_bounds(case, error, case.loss, case.x0, t1=case.t1, steps=20, paths=4)
    exact = case.exact_terms(steps=20)
    assert bounds["S"] == pytest.approx(exact["S"], rel=1e-9)
    assert bounds["S_drift"] == pytest.approx(exact["S_drift"], rel=1e-9)


def test_a_diffusion_error_along_the_noise_adds_its_mixed_term():
    """y is correlated with A_k σ̄: without 2Δ‖Σ A_kᵀσ̄_k‖√r the bound of S would be exceeded."""
    case = examples.ScaledGeometricBrownianMotion()
    error = sdewm.Perturbation(diffusion=case.error_diffusion)
    alone = sdewm.Perturbation(diffusion=case.error_diffusion, driver="independent")
    grid = {"t1": case.t1, "steps": 16, "paths": 20_000}
    exact = case.exact_terms(steps=16)["S"]
    bounds = [term_bounds(case, one, case.loss, case.x0, **grid)["S"] for one in (error, alone)]
    assert bounds[1] < 0.95 * exact < exact < bounds[0]


class DiagonalNoise(examples.LinearFlow):
    """Noise k acts on component k alone, in proportion to r_k · x: A_k = e_k r_kᵀ."""

    noise_type = "diagonal"
    rows = torch.tensor([[0.3, 0.1], [-0.2, 0.25]], dtype=torch.float64)

    def g(self, t, y):
        return y @ self.rows.T

    def jacobians(self):
        return self.matrix, torch.diag_embed(torch.eye(2, dtype=torch.float64)) @ self.rows


@pytest.mark.parametrize("noise_type", ["general", "diagonal"])
def test_with_constant_coefficients_the_bounds_are_their_recursion_written_out(noise_type):
    columns = (((0.3, 0.1), (-0.2, 0.25)), ((0.0, 0.4), (0.1, -0.3)))
    general = noise_type == "general"
    case = examples.LinearFlow(noise=columns) if general else DiagonalNoise()
    sigma = torch.tensor([0.3, -0.1], dtype=torch.float64)
    sigma_bar = [[0.2, 0.5], [-0.4, 0.1]] if general else [0.2, 0.5]
    own = torch.tensor(sigma_bar, dtype=torch.float64)
    error = sdewm.Perturbation(
        drift=lambda t, y: sigma.expand_as(y), diffusion=lambda t, y: own.expand(len(y), *own.shape)
    )

    def loss(y):  # ∇²L = diag(1, −3)
        return 0.5 * y[:, 0] ** 2 - 1.5 * y[:, 1] ** 2

    found = term_bounds(case, error, loss, case.x0, t1=1.5, steps=6, paths=4)
    drift, noise = (part.numpy() for part in case.jacobians())
    bars = own.numpy() if general else np.diag(sigma_bar)  # (D, M)
    step = np.eye(2) + 0.25 * drift
    square = np.linalg.eigvalsh(step.T @ step + 0.25 * sum(one.T @ one for one in noise))[-1]
    mixed = np.linalg.norm(sum(one.T @ bars[:, k] for k, one in enumerate(noise)))
    xi, eta = 0.0, 0.0
    for _ in range(6):
        xi = math.sqrt(square) * xi + 0.25 * np.linalg.norm(sigma)
        energy = 0.25 * np.linalg.norm(bars) ** 2
        eta = math.sqrt(square * eta**2 + 2 * 0.25 * mixed * eta + energy)
    terms = {"eta": eta, "xi": xi, "S": 3 * eta**2, "S_cross": 3 * xi * eta, "S_drift": 3 * xi**2}
    for name, value in terms.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name
    assert found["P"] / eta == pytest.approx(found["P_drift"] / xi)


def test_a_lowered_rate_is_noticed():
    class Understated(examples.OrnsteinUhlenbeck):
        jacobians = None  # which would be compared with f

        def certified_rates(self, low, high, step_size, blocks):
            return exact_rates(examples.OrnsteinUhlenbeck(), step_size, blocks).lowered(0.7)

    case, error = problem("OrnsteinUhlenbeck")
    wrong = term_bounds(Understated(), error, case.loss, case.x0, t1=case.t1, steps=20, paths=4)
    exact = case.exact_terms(steps=20)
    assert wrong["S"] < exact["S"] and wrong["S_drift"] < exact["S_drift"]


def test_smaller_jacobians_shrink_the_drift_terms_and_the_benign_one():
    error = problem("LinearWorldModel")[1]
    found = []
    for scale in (1.0, 0.5):
        matrix = [[scale * 0.8, 0.3 * scale], [0.2 * scale, 0.7 * scale]]
        case = examples.LinearFlow(matrix=matrix)
        error = sdewm.Perturbation(drift=case.error_drift, diffusion=case.error_diffusion)
        found.append(term_bounds(case, error, case.loss, case.x0, t1=1.5, steps=20, paths=200))
    assert all(found[1][name] < found[0][name] for name in NAMES)


def test_bad_arguments_are_refused_by_name():
    case, error = problem("OrnsteinUhlenbeck")
    with pytest.raises(ValueError, match="t1=0"):
        term_bounds(case, error, case.loss, case.x0, t1=0.0, steps=2)
    with pytest.raises(ValueError, match="steps=0"):
        term_bounds(case, error, case.loss, case.x0, t1=1.0, steps=0)
    with pytest.raises(ValueError, match="x0"):
        term_bounds(case, error, case.loss, torch.zeros(2, 3, 4), t1=1.0, steps=2)
