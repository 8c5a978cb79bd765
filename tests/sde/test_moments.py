"""Exact terms against quadrature, derivatives in epsilon and convergence in the step."""

import itertools
import math

import numpy as np
import pytest
import torch

from sdewm.sde.examples import (
    CircleDiffusion,
    ClosedLoop,
    CurvatureCounterexample,
    GeometricBrownianMotion,
    LinearWorldModel,
    OrnsteinUhlenbeck,
    PearsonDiffusion,
    QuadraticCascade,
    ScaledGeometricBrownianMotion,
)
from sdewm.sde.examples.moments import MomentSystem, closure, exact_terms, exponential_action
from sdewm.sde.examples.polynomials import add, scale

POLYNOMIAL_CASES = [
    OrnsteinUhlenbeck,
    LinearWorldModel,
    GeometricBrownianMotion,
    ScaledGeometricBrownianMotion,
    QuadraticCascade,
    ClosedLoop,
    CurvatureCounterexample,
]
EXPANDED_CASES = [*POLYNOMIAL_CASES, CircleDiffusion, PearsonDiffusion]
SHARED_AND_OWN = ["same", "independent"]


def scheme_loss(case, sizes, steps, driver, nodes):
    """E L of the Euler-Maruyama scheme at sizes (drift, diffusion), by quadrature."""
    t = torch.zeros(())
    step = case.t1 / steps
    g = matrix_of(case.g(t, case.x0[None]))
    error = matrix_of(case.error_diffusion(t, case.x0[None]))
    drivers = g.shape[2] + (error.shape[2] if driver == "independent" else 0)
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(itertools.product(points * math.sqrt(step), repeat=drivers)))
    mass = torch.tensor(list(itertools.product(weights / weights.sum(), repeat=drivers))).prod(
        dim=1
    )
    x, probability = case.x0[None], torch.ones(1, dtype=torch.float64)
    for n in range(steps):
        t = torch.tensor(n * step)
        x = x.repeat_interleave(len(grid), dim=0)
        increments = grid.repeat(len(probability), 1)
        probability = (probability[:, None] * mass).reshape(-1)
        bar = sizes[1] * matrix_of(case.error_diffusion(t, x))
        g = matrix_of(case.g(t, x))
        noise = g + bar if driver == "same" else torch.cat([g, bar], dim=2)
        drift = case.f(t, x)
        if case.error_drift is not None:
            drift = drift + sizes[0] * case.error_drift(t, x)
        x = x + step * drift + torch.einsum("bdm,bm->bd", noise, increments)
    return (probability * case.loss(x)).sum()


def matrix_of(diffusion):
    return torch.diag_embed(diffusion) if diffusion.dim() == 2 else diffusion


@pytest.mark.parametrize("driver", SHARED_AND_OWN)
@pytest.mark.parametrize("make", EXPANDED_CASES)
def test_scheme_terms_are_the_derivatives_of_the_scheme_expectation(make, driver):
    case = make()
    drivers = matrix_of(case.g(torch.zeros(()), case.x0[None])).shape[2]
    # Exact up to degree 2 nodes - 1 in each increment; the circle is smooth.
    nodes = 14 if make is CircleDiffusion else 3
    own = matrix_of(case.error_diffusion(torch.zeros(()), case.x0[None])).shape[2]
    steps = 2 if drivers + own * (driver == "independent") <= 4 else 1
    terms = case.exact_terms(driver, steps)

    def loss(sizes):
        return scheme_loss(case, sizes, steps, driver, nodes)

    origin = torch.zeros(2, dtype=torch.float64)
    value, gradient = loss(origin), torch.func.jacrev(loss)(origin)
    hessian = torch.func.jacrev(torch.func.jacrev(loss))(origin)
    wanted = {"c0": value, "P": gradient[1], "c1": gradient.sum(), "c2": hessian.sum() / 2}
    if "Q" in terms:
        terms["zero drift"] = terms["Q"] + terms["S"] / 2
        wanted |= {"P_drift": gradient[0], "zero drift": hessian[1, 1] / 2}
    for name, number in wanted.items():
        assert terms[name] == pytest.approx(float(number), rel=1e-9, abs=1e-11), name


def perturbed(system, epsilon):
    """The moment system at a finite error size, driver "same"."""

    def moved(values, errors):
        return [add(v, scale(e, epsilon)) for v, e in zip(values, errors, strict=True)]

    return MomentSystem(
        drift=moved(system.drift, system.error_drift),
        diffusion=[
            moved(*pair) for pair in zip(system.diffusion, system.error_diffusion, strict=True)
        ],
        error_drift=[{}] * len(system.drift),
        error_diffusion=[[{}] * len(system.drift)] * len(system.diffusion),
        loss=system.loss,
        modes=system.modes,
    )


@pytest.mark.parametrize("make", [*POLYNOMIAL_CASES, CircleDiffusion])
def test_continuous_terms_are_the_derivatives_of_the_expected_loss(make):
    """No variation equation enters here: c0 of the perturbed system, interpolated in epsilon."""
    case = make()
    nodes = 0.3 * np.cos(np.pi * (np.arange(9) + 0.5) / 9)
    losses = [
        exact_terms(perturbed(case.moment_system(), e), case.x0, case.t1)["c0"] for e in nodes
    ]
    fit = np.polynomial.Chebyshev.fit(nodes, losses, 8, domain=(-0.3, 0.3)).convert(
        kind=np.polynomial.Polynomial
    )
    terms = case.exact_terms()
    for order, name in enumerate(("c0", "c1", "c2")):
        assert terms[name] == pytest.approx(fit.coef[order], rel=2e-8, abs=2e-9), name


@pytest.mark.parametrize("driver", SHARED_AND_OWN)
@pytest.mark.parametrize("make", EXPANDED_CASES)
def test_scheme_converges_to_continuous_time_with_order_one(make, driver):
    case = make()
    exact = case.exact_terms(driver)
    grids = (40, 80, 160)
    values = [case.exact_terms(driver, steps) for steps in grids]
    for name, limit in exact.items():
        errors = [abs(value[name] - limit) for value in values]
        if errors[0] < 1e-12:
            continue
        if name not in (
            "c1",
            "c2",
        ):  # first-order errors of a sum may nearly cancel (O4, independent)
            assert 1.9 < errors[1] / errors[2] < 2.1, (name, errors)
        # Two Richardson extrapolations leave the third order of the step.
        first = [2 * fine[name] - coarse[name] for coarse, fine in itertools.pairwise(values)]
        assert (4 * first[1] - first[0]) / 3 == pytest.approx(limit, rel=3e-5, abs=1e-8), name


def value_of(polynomial, x):
    return sum(
        v * math.prod(a**e for a, e in zip(x, es, strict=True)) for es, v in polynomial.items()
    )


def trigonometric_value(polynomial, x):
    return sum(v * np.exp(1j * es[0] * x[0]) for es, v in polynomial.items()).real


@pytest.mark.parametrize("make", [*POLYNOMIAL_CASES, CircleDiffusion])
def test_polynomials_are_the_coefficients(make):
    case, t = make(), torch.zeros(())
    system = case.moment_system()
    y = torch.randn(
        4, case.state_size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    evaluate = trigonometric_value if system.modes else value_of
    drift, noise, loss = case.f(t, y), matrix_of(case.g(t, y)), case.loss(y)
    sigma = torch.zeros_like(y) if case.error_drift is None else case.error_drift(t, y)
    sigma_bar = matrix_of(case.error_diffusion(t, y))
    for b, x in enumerate(y.tolist()):
        assert evaluate(system.loss, x) == pytest.approx(float(loss[b]), rel=1e-12, abs=1e-14)
        for i in range(case.state_size):
            assert evaluate(system.drift[i], x) == pytest.approx(
                float(drift[b, i]), rel=1e-12, abs=1e-14
            )
            assert evaluate(system.error_drift[i], x) == pytest.approx(
                float(sigma[b, i]), rel=1e-12, abs=1e-14
            )
            for k in range(noise.shape[2]):
                assert evaluate(system.diffusion[k][i], x) == pytest.approx(
                    float(noise[b, i, k]), abs=1e-14
                )
                assert evaluate(system.error_diffusion[k][i], x) == pytest.approx(
                    float(sigma_bar[b, i, k]), abs=1e-14
                )


def test_taylor_action_is_the_matrix_exponential():
    from scipy.linalg import expm
    from scipy.sparse import csr_array

    generator = np.random.default_rng(0)
    matrix, vector = 3 * generator.normal(size=(6, 6)), generator.normal(size=6)
    found = exponential_action(csr_array(matrix), vector)
    np.testing.assert_allclose(found, expm(matrix) @ vector, rtol=1e-11)


def test_closure_drops_modes_beyond_the_limit():
    basis, _ = closure(lambda e: {(e[0] + 1,): 1.0, (e[0] - 1,): 1.0}, {(0,): 1.0}, modes=3)
    assert sorted(basis) == [(k,) for k in range(-3, 4)]
