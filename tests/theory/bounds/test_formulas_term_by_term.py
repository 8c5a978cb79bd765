"""Cases in which a single term of a formula decides, with the value written out."""

import math
from dataclasses import replace

import pytest
import torch

from sdewm.sde.examples import LinearFlow, OrnsteinUhlenbeck
from sdewm.theory.bounds import formulas
from sdewm.theory.bounds.formulas import Reference
from sdewm.theory.bounds.jacobian_rates import exact_rates
from tests.theory.bounds.rate_cases import F64, constant, scalar_rates, tensor
from tests.theory.bounds.test_suprema import entropy_of_a_step


def test_gronwall_at_a_time_takes_the_steps_before_it_and_that_time_as_its_horizon():
    dt, drift, noise = 0.5, (0.2, 0.7, 0.4), (0.3, 0.1, 0.6)
    one = scalar_rates(tensor(0.0), tensor(0.0), dt)
    rates = replace(one.repeated(3), drift=tensor(*drift), noise=tensor(*noise))
    step = formulas.gronwall(rates, dt, "step")["sup_square"]
    sde = formulas.gronwall(rates, dt, "sde")["sup_square"]
    for n in range(4):
        growth = [3 * dt * (n * dt * drift[k] ** 2 + 4 * noise[k] ** 2) for k in range(n)]
        assert step[n].item() == pytest.approx(3 * math.prod(1 + each for each in growth))
        assert sde[n].item() == pytest.approx(3 * math.exp(sum(growth)))


@pytest.mark.parametrize("form", ["step", "sde"])
def test_the_supremum_of_a_contracting_difference_is_its_start(form):
    rates, dt = constant(OrnsteinUhlenbeck(), 3.0, 12)
    factors = formulas.log_norm(rates, dt, form)
    assert factors["mean"][-1] < 0.1
    for name in ("sup", "sup_square"):
        assert torch.allclose(factors[name], torch.ones(13, **F64), rtol=0, atol=1e-11), name


@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_the_entropy_of_a_step_that_only_turns_is_below_its_rate(turn):
    """A and A_1 are multiples of one rotation: κ = 0, and the length grows by the turns alone."""
    rotation = ((0.0, -1.0), (1.0, 0.0))
    around, shake = torch.tensor(rotation, **F64), 0.05
    case = LinearFlow(
        matrix=tuple(tuple(turn * x for x in row) for row in rotation),
        noise=(tuple(tuple(shake * x for x in row) for row in rotation),),
    )
    rates = exact_rates(case, 1.0, [slice(0, 2)])
    assert rates.radial.item() < 1e-5
    drift, noise = (turn * around).numpy(), torch.stack((shake * around, 0 * around)).numpy()
    found = entropy_of_a_step(drift, noise, tensor(1.0, 0.0).numpy(), 1.0, "gaussian")
    assert 0.2 < found / formulas.entropy_rate(rates, 1.0).item() < 1.0


def one_reference(step, lipschitz, curvature):
    """One step of length 1 from |e| = 1: a on the reference path, L and H for all paths."""
    reference = Reference(tensor(step)[None], tensor(0.0)[None], tensor(1.0, step)[None], tensor(1))
    rates = replace(scalar_rates(tensor(0.0), tensor(0.0), 1.0, curvature), step=tensor(lipschitz))
    return formulas.linearised(reference, rates, 1.0, "step")


def test_without_a_useful_curvature_the_remainder_is_the_sum_of_both_maps():
    # F(x) = |x| from 0⁺ to −1: D turns from −1 to 1, y stays at −1, and |D − y| = 2 = L + a.
    _, rest = one_reference(step=1.0, lipschitz=1.0, curvature=1e3)
    assert rest[0, 1].item() == pytest.approx(2.0)


def test_the_rate_of_all_paths_bounds_the_difference_where_the_curvature_does_not():
    found, _ = one_reference(step=0.5, lipschitz=0.5, curvature=1e3)
    assert found[0, 1].item() == pytest.approx(0.5)


def along_the_equation(mu, e, h, dt, steps):
    """Both bounds of form "sde" where μ is constant and the rate of all paths does not count."""
    reference = Reference(
        step=torch.ones(1, steps, **F64),
        log_norm=torch.full((1, steps), mu, **F64),
        variation=torch.full((1, steps + 1), 1e3, **F64),
        error=tensor(e),
    )
    rates = scalar_rates(tensor(10.0), tensor(0.0), dt, h).repeated(steps)
    return formulas.linearised(reference, rates, dt, "sde")


def test_the_remainder_of_the_equation_is_the_bound_less_the_linear_part():
    h, e, mu, dt, steps = 0.6, 0.3, -0.4, 1e-3, 1000
    found, rest = along_the_equation(mu, e, h, dt, steps)
    # d′ = μd + ½hd² from e, a Bernoulli equation, and its linear part e·e^{μt}.
    linear = e * math.exp(mu * dt * steps)
    whole = linear / (1 - 0.5 * h * (linear - e) / mu)
    assert found[0, -1].item() == pytest.approx(whole, rel=1e-3)
    assert rest[0, -1].item() == pytest.approx(whole - linear, rel=1e-2)


def test_the_remainder_of_the_equation_takes_the_larger_moment_of_a_step():
    # R′ = λR + ½Hm², m = δe^{λ_4 t}: the solution from 0 is ½Hδ²(e^{2λ_4 t} − e^{λt})/(2λ_4 − λ).
    dt, steps, delta, bend, slow, fast = 0.2, 5, 0.3, 0.7, 0.5, 1.5
    rates = replace(
        scalar_rates(tensor(0.0), tensor(0.0), dt, bend).repeated(steps),
        log_norm=tensor(slow, slow, fast)[:, None].expand(3, steps),
    )
    found, _ = formulas.linearised_mean_square(rates, dt, delta, "sde")
    for n in range(1, steps + 1):
        t = n * dt
        grown = math.exp(2 * fast * t) - math.exp(slow * t)
        exact = 0.5 * bend * delta**2 * grown / (2 * fast - slow)
        assert exact < found[n].item() < 1.7 * exact


@pytest.mark.parametrize("mu", [1.0, -1.0])
def test_coarse_steps_do_not_lower_the_linearised_bound_of_the_equation(mu):
    h, e, dt, steps = 0.6, 0.1, 0.5, 4
    found, rest = along_the_equation(mu, e, h, dt, steps)
    linear = e * torch.exp(mu * dt * torch.arange(steps + 1, **F64))
    exact = linear / (1 - 0.5 * h * (linear - e) / mu)  # d′ = μd + ½hd²
    assert (found[0, 1:] >= exact[1:]).all()
    assert (rest[0, 1:] >= (exact - linear)[1:]).all()


@pytest.mark.parametrize("rate", [0.5, 0.0, -0.5])
@pytest.mark.parametrize(("bend", "bend_noise"), [(0.7, 0.0), (0.0, 0.4), (0.7, 0.4)])
def test_coarse_steps_do_not_lower_the_remainder_of_the_equation(rate, bend, bend_noise):
    # Noise that turns only: λ_2 = λ_4, and m is δe^{λ_4 t}. Fine steps give the limit.
    def bounds(dt, steps):
        rates = scalar_rates(tensor(1.0), tensor(0.8), dt, bend, bend_noise).repeated(steps)
        rates = replace(rates, log_norm=torch.full((3, steps), rate, **F64))
        return formulas.linearised_mean_square(rates, dt, 0.3, "sde")

    for coarse, fine in zip(bounds(0.25, 4), bounds(0.001, 1000), strict=True):
        assert (coarse[1:] >= fine[250::250] * (1 - 1e-12)).all()
