"""Measured losses of a linear walk, whose mean and variance are recursions written out."""

import pytest
import torch

import sdewm
from sdewm.sde.examples import LinearFlow, OrnsteinUhlenbeck
from sdewm.theory.expansion.backward_equation import value_function_terms

STEPS, T1, SIGMA, SIGMA_BAR, NOISE, RATE, START = 4, 1.5, 0.4, 0.6, 0.5, -0.8, 1.2


class Walk:
    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return RATE * y

    def g(self, t, y):
        return torch.full_like(y, NOISE)


def expansion(driver):
    error = sdewm.Perturbation(
        drift=lambda t, y: torch.full_like(y, SIGMA),
        diffusion=lambda t, y: torch.full_like(y, SIGMA_BAR),
        driver=driver,
    )
    x0 = torch.tensor([START], dtype=torch.float64)
    grid = {"t1": T1, "steps": STEPS, "increments": "enumerate"}
    return sdewm.expand(Walk(), error, lambda y: y[:, 0] ** 2, x0, **grid)


def second_moment(drift_size, diffusion_size, driver):
    dt, mean, variance = T1 / STEPS, START, 0.0
    own = diffusion_size * SIGMA_BAR
    noise = (NOISE + own) ** 2 if driver == "same" else NOISE**2 + own**2
    for _ in range(STEPS):
        mean = (1 + dt * RATE) * mean + dt * drift_size * SIGMA
        variance = (1 + dt * RATE) ** 2 * variance + dt * noise
    return mean**2 + variance


@pytest.mark.parametrize("driver", ["same", "independent"])
def test_drift_and_diffusion_take_their_own_sizes(driver):
    sizes = [(0.3, 0.7), (0.0, 0.7), (0.3, 0.0)]
    before = second_moment(0.0, 0.0, driver)
    for size, row in zip(sizes, expansion(driver).measure(sizes), strict=True):
        value = second_moment(*size, driver)
        assert row.epsilon == size
        # The loss and the step are quadratic in the sizes: the prediction is exact.
        assert row.measured.value == pytest.approx(value, rel=1e-12)
        assert row.predicted.value == pytest.approx(value, rel=1e-12)
        assert abs(row.remainder.value) < 1e-12
        assert row.change.value == pytest.approx(value - before, rel=1e-11)
        assert row.predicted_change.value == pytest.approx(value - before, rel=1e-11)


def test_a_remainder_is_what_is_measured_less_what_is_predicted():
    case = OrnsteinUhlenbeck()
    error = sdewm.Perturbation(drift=case.error_drift)
    grid = {"t1": case.t1, "steps": 4, "increments": "enumerate"}
    result = sdewm.expand(case, error, lambda y: y[:, 0] ** 3, case.x0, **grid)
    (row,) = result.measure([0.5])
    assert row.remainder.value > 1e-3
    assert row.remainder.value == pytest.approx(row.measured.value - row.predicted.value)


def test_the_claimed_order_is_four_where_the_loss_is_even_in_the_error():
    case = OrnsteinUhlenbeck()
    for driver, order in (("same", 3), ("independent", 4)):
        error = sdewm.Perturbation(diffusion=case.error_diffusion, driver=driver)
        grid = {"t1": case.t1, "steps": 2, "increments": "enumerate"}
        assert sdewm.expand(case, error, case.loss, case.x0, **grid).order().expected == order


def test_an_error_that_acts_on_itself_has_a_second_derivative():
    """dx = ε x dt in two steps: E x = (1 + εΔ)² x0, of which ε² Δ² x0 is Q_drift."""

    class Rest(Walk):
        def f(self, t, y):
            return 0 * y

    x0 = torch.tensor([START], dtype=torch.float64)
    error = sdewm.Perturbation(drift=lambda t, y: y)
    grid = {"t1": 1.0, "steps": 2, "increments": "enumerate"}
    terms = sdewm.expand(Rest(), error, lambda y: y[:, 0], x0, **grid).terms
    assert terms["c1"].value == pytest.approx(2 * 0.5 * START)
    assert terms["Q_drift"].value == pytest.approx(0.25 * START)
    assert terms["c2"].value == pytest.approx(0.25 * START)


def test_the_value_function_sees_every_driver():
    matrices = (((0.3, 0.1), (-0.2, 0.25)), ((0.0, 0.4), (0.1, -0.3)))
    case = LinearFlow(noise=matrices)
    error = sdewm.Perturbation(diffusion=case.error_diffusion)
    found = value_function_terms(case, error, case.loss, case.x0, t1=1.5, steps=3, paths=12_000)
    exact = case.exact_terms(steps=3)["P"]
    assert found["P"].standard_error < 0.1 * exact
    assert found["P"].deviation_from(exact) < 5


class Changing(Walk):
    rate = 1.0

    def __init__(self):
        self.weight = torch.ones((), dtype=torch.float64)

    def f(self, t, y):
        return -self.rate * self.weight * y**3


@pytest.mark.parametrize("steps", [4, 60])  # evaluated and recorded
@pytest.mark.parametrize("what", ["rate", "weight", "error"])
def test_a_system_that_changed_since_is_not_measured_with_the_old_terms(what, steps):
    system, height = Changing(), [0.4]
    error = sdewm.Perturbation(drift=lambda t, y: torch.full_like(y, height[0]))
    x0 = torch.tensor([START], dtype=torch.float64)
    options = {"t1": T1, "steps": steps, "paths": 64}
    result = sdewm.expand(system, error, lambda y: y[:, 0] ** 2, x0, **options)
    assert abs(result.measure([0.1])[0].remainder.value) < 1e-2
    if what == "rate":
        system.rate = 2.0
    elif what == "weight":
        system.weight.fill_(2.0)
    else:
        height[0] = 0.5
    with pytest.raises(ValueError, match="call expand again"):
        result.measure([0.1])
