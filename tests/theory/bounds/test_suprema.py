"""Factors from a mean to a supremum, and the entropy of a step."""

import math

import numpy as np
import pytest
import torch

from sdewm.sde.noise import EnumeratedNoise
from sdewm.sde.rates import Rates
from sdewm.theory.bounds import formulas
from sdewm.theory.bounds.formulas import doob_factor, supremum_factor
from sdewm.theory.bounds.jacobian_rates import jacobian_rates
from tests.theory.bounds.rate_cases import F64, scalar_rates, tensor


def test_factors_of_no_noise_are_one_and_grow():
    zero = torch.zeros(3, **F64)
    assert torch.equal(doob_factor(zero), torch.ones(3, **F64))
    assert torch.equal(supremum_factor(zero), torch.ones(3, **F64))
    k = torch.logspace(-20, 4, 500, **F64)
    doob, factor = doob_factor(k), supremum_factor(k)
    assert (factor <= doob).all()
    assert (factor.diff() >= 0).all() and (doob.diff() >= 0).all()
    # They are 1 + 2√K against 1 + √(2K) at 0, eK against K at infinity.
    assert ((doob - 1) / (factor - 1))[200:220].max().item() == pytest.approx(2**0.5, rel=1e-3)
    assert (doob / factor)[-1].item() == pytest.approx(math.e, rel=2e-3)


def test_the_supremum_factor_is_the_root_and_the_doob_factor_the_minimum():
    k = torch.logspace(-12, 3, 200, **F64)
    x = supremum_factor(k)
    torch.testing.assert_close(x - 1 - x.log(), k, rtol=1e-6, atol=1e-16)
    large = k > 1e-6
    torch.testing.assert_close((x - 1 - x.log())[large], k[large], rtol=1e-9, atol=0)
    r = 1 + torch.logspace(-4, 7, 20_001, **F64)
    for one in k[::20]:
        least = (r / (r - 1) * ((r - 1) * one).exp()).min()
        found = doob_factor(one)
        assert 0.9999 * least < found <= least * (1 + 1e-14)


def test_the_supremum_factor_bounds_the_mean_maximum_of_an_enumerated_martingale():
    generator = torch.Generator().manual_seed(2)
    closest = 0.0
    for _ in range(60):
        steps = 10
        scale = torch.rand(steps, **F64, generator=generator) ** 0.5
        sign = EnumeratedNoise(drivers=1, steps=steps, t1=float(steps)).increments(0, 1024)[..., 0]
        path = torch.cat((torch.ones(1, 1024, **F64), 1 + scale[:, None] * sign)).cumprod(0)
        assert path[-1].mean().item() == pytest.approx(1.0)
        entropy = (path[-1] * path[-1].clamp_min(1e-300).log()).mean()
        maximum = path.amax(0).mean()
        assert maximum <= supremum_factor(entropy)
        closest = max(closest, float((maximum - 1) / (supremum_factor(entropy) - 1)))
    # An entropy of a quarter would not do: the inequality is not vacuous.
    assert closest > 0.5
    assert supremum_factor(0.25 * entropy) < maximum


def entropy_of_a_step(drift, noise, v, dt, kind):
    """E φ log φ of φ = |Fv|²/E|Fv|² with two drivers, by enumeration or quadrature."""
    if kind == "two-point":
        points, weights = np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    else:
        points, weights = np.polynomial.hermite_e.hermegauss(40)
        weights = weights / weights.sum()
    grid = np.stack(np.meshgrid(points, points)).reshape(2, -1) * math.sqrt(dt)
    moved = (v + dt * drift @ v)[:, None] + np.einsum("kij,j,kq->iq", noise, v, grid)
    square, weight = (moved**2).sum(0), np.outer(weights, weights).ravel()
    factor = square / (weight @ square)
    return weight @ (factor * np.log(np.maximum(factor, 1e-300)))


@pytest.mark.parametrize("kind", ["two-point", "gaussian"])
def test_the_entropy_of_a_step_is_below_its_rate(kind):
    rng = np.random.default_rng(4)
    closest, broken = 0.0, 0
    for trial in range(300):
        dt = 10 ** rng.uniform(-3, 0.3)
        drift = rng.normal(size=(2, 3, 3)) - rng.uniform(0, 2) * np.eye(3)
        noise = rng.normal(size=(2, 2, 3, 3)) * 10 ** rng.uniform(-1, 0.5)
        if trial % 3 == 0:
            noise = np.eye(3) * rng.normal(size=(2, 2, 1, 1))
        if trial % 3 == 1:
            drift, noise = 0 * drift, np.repeat(noise[:1, :1] * [[[[1.0]], [[0.0]]]], 2, axis=0)
        ends = jacobian_rates(torch.tensor(drift), torch.tensor(noise), dt, [slice(0, 3)])
        top = {
            name: value.amax(-1, keepdim=True)
            if name == "log_norm"
            else (value.amin if name == "least_log_norm" else value.amax)(0, keepdim=True)
            for name, value in ends.items()
        }
        rate = formulas.entropy_rate(Rates(**top), dt).item()
        # The rates of two points bound the average of their Jacobians.
        share = rng.random()
        a, b = (share * part[0] + (1 - share) * part[1] for part in (drift, noise))
        for v in rng.normal(size=(4, 3)):
            found = entropy_of_a_step(a, b, v / np.linalg.norm(v), dt, kind)
            assert found <= rate + 1e-9
            closest, broken = max(closest, found / rate), broken + (found > 0.5 * rate)
    assert closest > 0.6  # a rate of half the size would be refused
    assert broken > 0


def test_the_entropy_rate_at_degenerate_steps_is_finite():
    noisy = scalar_rates(tensor(-1.0), tensor(1.0), 1.0)  # I + ΔA = 0: |Fv|² is all noise
    assert formulas.entropy_rate(noisy, 1.0).item() == pytest.approx(math.log(3))
    still = scalar_rates(tensor(-1.0), tensor(0.0), 1.0)
    assert formulas.entropy_rate(still, 1.0).item() == 0.0
