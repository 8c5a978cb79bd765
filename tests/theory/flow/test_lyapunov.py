"""Lyapunov exponents: known spectra, products of Jacobians, singular steps, intervals, refusals."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import special

import sdewm
from sdewm.jacobian.products import row_jacobians
from sdewm.sde.examples import GeometricBrownianMotion, OrnsteinUhlenbeck, TanhWorldModel
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import step_of
from sdewm.theory.flow import lyapunov
from sdewm.theory.flow.lyapunov import LyapunovSpectrum
from tests.recurrent_step import RecurrentStep
from tests.theory.flow.lyapunov_cases import Multiplicative, NoisyMap, linear, scheme_rate, starts

WORLD, GRU = TanhWorldModel(state_size=3, width=6, seed=3), RecurrentStep(hidden=5, latent=3)
LONG = 40  # steps after which the tangents below point where products of Jacobians send them


def slow_jacobians(system, x, steps, dt, seed=0):
    """The Jacobians `(N, B, D, D)` of the Euler–Maruyama steps from x, one full matrix at a time.

    Noise is indexed by hand.
    """
    noise = GaussianNoise(drivers=2, steps=steps, t1=steps * dt, seed=seed)
    found = []
    for n, increment in enumerate(noise.increments(0, len(x))):

        def step(x, n=n, increment=increment):
            drift, diffusion = step_of(system)(x.new_tensor(n * dt), x, increment)
            return x + dt * drift + diffusion

        found.append(row_jacobians(step, x).detach())
        x = step(x).detach()
    return torch.stack(found).numpy()


# Known spectra


def test_exponents_of_a_linear_map_are_the_logarithms_of_the_moduli_of_its_eigenvalues():
    block = np.diag([1.5, 0.0, 0.0, 0.3]) + np.diag([5.0, 0.0, 0.0], 1)  # not normal
    block[1:3, 1:3] = [[0.9, -0.4], [0.4, 0.9]]
    change = starts(4, 4).numpy() + 2 * np.eye(4)
    matrix = change @ block @ np.linalg.inv(change)
    spectrum = sdewm.lyapunov_exponents(
        linear(matrix), starts(3, 4), steps=140, exponents=4, dt=0.25, discard=100
    )
    found, pair = spectrum.exponents, math.log(0.97) / 0.25  # of |0.9 ± 0.4i|²
    np.testing.assert_allclose(found[:, 0], math.log(1.5) / 0.25, rtol=1e-9)
    np.testing.assert_allclose(found[:, 1:3].sum(1), pair, rtol=1e-8)
    np.testing.assert_allclose(found[:, 3], math.log(0.3) / 0.25, rtol=1e-9)
    # Volumes are exact at every step, wherever the tangents point.
    det = math.log(abs(np.linalg.det(matrix))) / 0.25
    whole = sdewm.lyapunov_exponents(linear(matrix), starts(3, 4), steps=2, exponents=4, dt=0.25)
    np.testing.assert_allclose(whole.running.sum(2), det, rtol=1e-11)
    assert whole.total.value == pytest.approx(det, rel=1e-11)


def test_henon_map():
    def henon(x, n):
        return torch.stack((1 - 1.4 * x[:, 0] ** 2 + x[:, 1], 0.3 * x[:, 0]), dim=1)

    x0 = 0.1 * starts(200, 2).abs().clamp(max=1.0)
    spectrum = sdewm.lyapunov_exponents(henon, x0, steps=200, exponents=2, discard=50)
    first, second = spectrum.estimates
    assert first.deviation_from(0.41922) < 4
    assert first.standard_error < 0.004
    assert second.deviation_from(math.log(0.3) - 0.41922) < 4
    np.testing.assert_allclose(spectrum.exponents.sum(1), math.log(0.3), rtol=1e-12)
    dimension = spectrum.kaplan_yorke
    assert dimension.deviation_from(1 + 0.41922 / (0.41922 - math.log(0.3))) < 4
    assert dimension.standard_error < 0.002


def test_lorenz_flow():
    sigma, rho, beta, dt = 10.0, 28.0, 8 / 3, 0.02
    matrix = torch.tensor([[-sigma, sigma, 0], [rho, -1, 0], [0, 0, -beta]], dtype=torch.float64)
    turn = torch.tensor([[0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)

    def flow(x):
        return x @ matrix.T + x[:, :1] * (x @ turn)  # + x·(0, −z, y)

    def runge_kutta(x, n):
        a = flow(x)
        b = flow(x + dt / 2 * a)
        c = flow(x + dt / 2 * b)
        return x + dt / 6 * (a + 2 * b + 2 * c + flow(x + dt * c))

    x = starts(800, 3) + torch.tensor([0.0, 0.0, 25.0])
    for n in range(1000):
        x = runge_kutta(x, n)
    spectrum = sdewm.lyapunov_exponents(runge_kutta, x, steps=250, exponents=3, dt=dt, discard=150)
    first, second, third = spectrum.estimates
    assert first.deviation_from(0.9056) < 4
    assert first.standard_error < 0.04
    assert second.deviation_from(0.0) < 4
    assert third.deviation_from(-14.5723) < 4
    # −(σ + 1 + β) for the flow; the scheme's error is of order dt⁴.
    np.testing.assert_allclose(spectrum.exponents.sum(1), -(sigma + 1 + beta), atol=5e-3)
    assert spectrum.kaplan_yorke.deviation_from(2.0621) < 4
    assert spectrum.kaplan_yorke.standard_error < 0.002


def test_multiplicative_noise_lowers_the_exponent():
    a, b = 0.3, 0.8
    coarse = {"steps": 40, "exponents": 1, "dt": 0.25, "seed": 2}
    estimate = sdewm.lyapunov_exponents(Multiplicative(a, b), starts(4000, 1), **coarse).estimates[
        0
    ]
    exact = scheme_rate(a, b, 0.25)
    assert estimate.deviation_from(exact) < 4
    assert estimate.deviation_from(a - b * b / 2) > 8  # of the equation: another number
    assert estimate.deviation_from(a) > 50  # of the mean, which noise does not lower
    limit = scheme_rate(a, b, 1e-4)
    assert limit == pytest.approx(a - b * b / 2, abs=1e-4)


def test_additive_noise_does_not_reach_the_tangents():
    case = OrnsteinUhlenbeck()
    drift = float(case.f(torch.zeros(()), torch.ones(1, 1).double()))
    spectrum = sdewm.lyapunov_exponents(case, starts(5, 1), steps=20, exponents=1, dt=0.1)
    np.testing.assert_allclose(spectrum.exponents, math.log(1 + 0.1 * drift) / 0.1, rtol=1e-12)


# The same by products of Jacobians


def test_state_and_tangents_share_the_noise_of_their_path():
    case, x0 = GeometricBrownianMotion(), 1 + starts(6, 1).abs()
    noise = GaussianNoise(drivers=1, steps=30, t1=1.5, seed=7)
    with torch.no_grad():
        end = solve_path(case, x0, noise)[:, 0]
    spectrum = sdewm.lyapunov_exponents(case, x0, steps=30, exponents=1, dt=0.05, seed=7)
    expected = (end / x0).abs().log() / 1.5  # linear: the tangent moves as the state does
    np.testing.assert_allclose(spectrum.exponents, expected.numpy(), rtol=1e-10)
    other = sdewm.lyapunov_exponents(case, x0, steps=30, exponents=1, dt=0.05, seed=8)
    assert np.abs(other.exponents - expected.numpy()).min() > 1e-3


def test_sums_of_all_exponents_are_determinants_of_products_of_jacobians():
    steps, dt, x0 = 12, 0.2, starts(5, 3)
    spectrum = sdewm.lyapunov_exponents(WORLD, x0, steps=steps, exponents=3, dt=dt, seed=3)
    product, volumes = np.eye(3), []
    for jacobian in slow_jacobians(WORLD, x0, steps, dt, seed=3):
        product = jacobian @ product
        volumes.append(np.log(np.linalg.svd(product, compute_uv=False)).sum(1))
    assert np.ptp(volumes[-1]) > 0.1
    expected = np.array(volumes) / (dt * np.arange(1, steps + 1))[:, None]
    np.testing.assert_allclose(spectrum.running.sum(2), expected, rtol=1e-9)
    # No choice of tangents exceeds the singular values, or leaves the shortfall of S26.
    leading = np.log(np.linalg.svd(product, compute_uv=False))[:, 0] / (steps * dt)
    alone = sdewm.lyapunov_exponents(WORLD, x0, steps=steps, exponents=1, dt=dt, seed=3)
    assert (alone.exponents[:, 0] <= leading + 1e-12).all()
    assert (alone.exponents[:, 0] > leading - 4 / (steps * dt)).all()


def test_leading_exponents_are_those_of_an_explicit_gram_schmidt():
    steps, x0 = LONG + 30, starts(3, 4)
    step = NoisyMap(steps, 3)
    spectrum = sdewm.lyapunov_exponents(step, x0, steps=steps, exponents=2, discard=LONG)
    x, growth = x0, np.zeros((steps, 3, 2))
    u, v = np.tile(np.ones(4), (3, 1)), np.tile(np.arange(4.0), (3, 1))  # not those of the code
    for n in range(steps):
        jacobians = row_jacobians(partial(step, n=n), x).numpy()
        for b in range(3):
            u[b], v[b] = jacobians[b] @ u[b], jacobians[b] @ v[b]
            growth[n, b, 0] = math.log(np.linalg.norm(u[b]))
            u[b] /= np.linalg.norm(u[b])
            v[b] -= (u[b] @ v[b]) * u[b]
            growth[n, b, 1] = math.log(np.linalg.norm(v[b]))
            v[b] /= np.linalg.norm(v[b])
        x = step(x, n)
    np.testing.assert_allclose(spectrum.exponents, growth[LONG:].mean(0), rtol=1e-8)
    assert np.ptp(spectrum.exponents, axis=0).min() > 1e-3


def test_two_nearby_paths_part_at_the_leading_exponent():
    steps, apart, x0 = LONG + 30, 1e-7, starts(3, 4)
    step = NoisyMap(steps, 3)
    spectrum = sdewm.lyapunov_exponents(step, x0, steps=steps, exponents=1, discard=LONG)
    x, near, growth = x0, x0 + apart / 2, torch.zeros(3).double()
    for n in range(steps):
        before = (near - x).norm(dim=1)
        x, near = step(x, n), step(near, n)
        distance = (near - x).norm(dim=1)
        growth += (distance / before).log() * (n >= LONG)
        near = x + apart * (near - x) / distance[:, None]
    np.testing.assert_allclose(spectrum.exponents[:, 0], growth.numpy() / 30, atol=1e-5)


def test_a_network_with_normalised_layers_is_differentiated_as_it_is():
    torch.manual_seed(0)
    layers = (torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.SiLU(), torch.nn.Linear(8, 4))
    network, x0 = torch.nn.Sequential(*layers).double(), starts(3, 4)
    spectrum = sdewm.lyapunov_exponents(lambda x, n: network(x), x0, steps=3, exponents=4)
    with torch.no_grad():
        moved = lyapunov._push(network, x0, x0[:, :, None])
    assert not any(part.requires_grad for part in moved)  # no graph grows from step to step
    x, volume = x0, 0.0
    for _ in range(3):
        volume = volume + row_jacobians(network, x).det().abs().log().detach()
        x = network(x).detach()
    np.testing.assert_allclose(spectrum.exponents.sum(1), volume.numpy() / 3, rtol=1e-9)


def test_first_tangents_are_uniform():
    """Steps of rank i keep the first i coordinates: the shortfall of S26 is attained."""
    size = 6
    for i in (1, 2):
        keep = torch.zeros(size, size, dtype=torch.float64)
        keep[range(i), range(i)] = 1.0
        spectrum = sdewm.lyapunov_exponents(linear(keep), starts(4000, size), steps=1, exponents=i)
        ranks = np.arange(i)
        shortfall = special.psi((size - ranks) / 2) - special.psi((i - ranks) / 2)
        assert spectrum.total.deviation_from(-0.5 * shortfall.sum()) < 4
    assert 0.5 * (special.psi(100) - special.psi(0.5)) == pytest.approx(3.28, abs=5e-3)


# Singular steps


def test_directions_that_a_step_forgets_have_minus_infinity():
    x0 = GRU.x0 + starts(3, 8, 0.1)
    spectrum = sdewm.lyapunov_exponents(GRU, x0, steps=20, exponents=8)
    assert np.isfinite(spectrum.exponents[:, :5]).all()  # h is remembered
    assert (spectrum.exponents[:, 5:] == -math.inf).all()  # z is drawn anew
    assert not np.isnan(spectrum.running).any()
    assert [math.isnan(estimate.standard_error) for estimate in spectrum.estimates] == (
        [False] * 5 + [True] * 3
    )
    assert spectrum.total.value == -math.inf
    fewer = sdewm.lyapunov_exponents(GRU, x0, steps=20, exponents=5)
    assert np.isfinite(fewer.exponents).all()


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        pytest.param([[0.0, 0.0], [0.0, 0.0]], [-math.inf, -math.inf], id="zero"),
        pytest.param([[1.0, 1.0], [1.0, 1.0]], [math.log(2), -math.inf], id="rank one"),
        pytest.param([[0.1, 0.3], [0.7, 2.1]], [math.log(2.2), -math.inf], id="but for rounding"),
        pytest.param([[1.0, 0.0], [0.0, 1e-10]], [0.0, math.log(1e-10)], id="small, not zero"),
        pytest.param([[1e-15, 0], [0, 1e-18]], [math.log(1e-15), math.log(1e-18)], id="tiny"),
        pytest.param([[1e5, 3e5], [7e5, 21e5]], [math.log(22e5), -math.inf], id="large"),
    ],
)
def test_rank_is_told_from_rounding(matrix, expected):
    spectrum = sdewm.lyapunov_exponents(
        linear(matrix), starts(4, 2), steps=8, exponents=2, discard=4
    )
    np.testing.assert_allclose(spectrum.exponents, [expected] * 4, rtol=1e-6, atol=1e-9)


def test_minus_infinity_on_one_trajectory_is_the_mean():
    growth = np.zeros((1, 3, 1))
    growth[0, 1] = -math.inf
    estimate = LyapunovSpectrum(growth, 1.0, 1).estimates[0]
    assert estimate.value == -math.inf
    assert math.isnan(estimate.standard_error)


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_that_forgets_its_state_has_minus_infinity(count):
    def reset(x, n):
        return torch.full_like(x, 0.3) if n == 7 else 0.5 * x + 0.1

    x0 = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    spectrum = sdewm.lyapunov_exponents(reset, x0, steps=20, exponents=count)
    assert bool((spectrum.exponents == -math.inf).all())


def test_one_start_may_be_given_to_all_trajectories_by_expand():
    case, x0 = GeometricBrownianMotion(), torch.ones(1, 1, dtype=torch.float64)
    grid = {"steps": 20, "exponents": 1, "dt": 0.1}
    expanded, copied = (
        sdewm.lyapunov_exponents(case, start, **grid)
        for start in (x0.expand(3, 1), x0.repeat(3, 1))
    )
    assert np.array_equal(expanded.growth, copied.growth)
