"""Bounds as formulas in rates: tabulated values, equalities, monotonicity."""

import math
from dataclasses import fields, replace

import pytest
import torch

from sdewm.sde.examples import (
    GeometricBrownianMotion,
    LinearFlow,
    LinearWorldModel,
    OrnsteinUhlenbeck,
)
from sdewm.sde.rates import Rates
from sdewm.theory.bounds import formulas
from sdewm.theory.bounds.formulas import Reference, doob_factor, supremum_factor
from sdewm.theory.bounds.jacobian_rates import exact_rates
from sdewm.theory.curve import NORMS
from tests.theory.bounds.rate_cases import (
    F64,
    FLOW,
    O10,
    ROTATION,
    ROUNDING,
    assert_bounded,
    constant,
    enumerated,
    scalar_rates,
    tensor,
)


def test_constants_and_bounds_of_the_linear_flow_are_the_tabulated_ones():
    rates, dt = constant(FLOW, 1.5, 1)
    assert rates.log_norm[1].item() == pytest.approx(0.0973714135, abs=6e-11)
    assert rates.log_norm[0].item() == pytest.approx(0.0733693808, abs=6e-11)
    factors = formulas.log_norm(rates, dt, "sde")
    square = 2 * factors["mean_square"][-1].item()
    assert square == pytest.approx(2.678512, abs=6e-7)
    spread = 2 * 1.5 * rates.radial**2
    assert square * doob_factor(spread).item() == pytest.approx(7.263021, abs=6e-7)
    assert square * supremum_factor(spread).item() == pytest.approx(5.471713, abs=6e-7)
    assert 2 * factors["sup_square"][-1].item() <= 5.471714
    crude = 2 * formulas.gronwall(rates, dt, "sde")["sup_square"][-1].item()
    assert crude == pytest.approx(710973.01, abs=6e-3)


def test_bounds_of_the_linear_flow_at_thirty_steps_are_the_tabulated_ones():
    rates, dt = constant(FLOW, 1.5, 30)
    factors = formulas.log_norm(rates, dt, "step")
    square = 2 * factors["mean_square"][-1].item()
    assert square == pytest.approx(2.698803, abs=6e-7)
    spread = formulas.entropy_rate(rates, dt).sum()
    assert square * supremum_factor(spread).item() == pytest.approx(6.136663, abs=6e-7)
    crude = 2 * formulas.gronwall(rates, dt, "step")["sup_square"][-1].item()
    assert crude == pytest.approx(115655.714, abs=6e-4)


def test_suprema_of_geometric_brownian_motion_are_the_tabulated_ones():
    rates, dt = constant(O10, 1.0, 7)
    factors, crude = formulas.log_norm(rates, dt, "sde"), formulas.gronwall(rates, dt, "sde")
    exact = {"sup": 1.525467907, "sup_square": 2.541583996}
    entropy = {"sup": 1.777164, "sup_square": 3.547082}
    gronwall = {"sup": 4.803314, "sup_square": 23.071828}
    doob = {"sup": 2.070035, "sup_square": 4.693975}
    for p, name in ((1, "sup"), (2, "sup_square")):
        assert factors[name][-1].item() == pytest.approx(entropy[name], abs=6e-7)
        assert crude[name][-1].item() == pytest.approx(gronwall[name], abs=6e-7)
        top = math.exp(p * rates.log_norm[p - 1, 0].item())
        spread = tensor(0.5 * p**2 * 0.4**2)
        assert top * doob_factor(spread).item() == pytest.approx(doob[name], abs=6e-7)
        assert exact[name] < entropy[name] < doob[name] < gronwall[name]
        # Negative control: with rates cut to 0.6 the bound falls below the supremum.
        assert formulas.log_norm(rates.lowered(0.6), dt, "sde")[name][-1].item() < exact[name]


def test_long_horizons_are_bounded_by_the_weak_inequality():
    rates, dt = constant(GeometricBrownianMotion(growth=-0.5, volatility=0.2), 200.0, 1000)
    for form in formulas.FORMS:
        factors = formulas.log_norm(rates, dt, form)
        assert factors["sup"][-1] <= 4 / 3 * ROUNDING
        assert factors["sup_square"][-1] <= 2 * ROUNDING
        assert factors["sup"][1] < 1.2 and factors["sup_square"][1] < 1.5
        spread = 0.5 * 200 * 0.2**2  # the entropy alone would not do
        assert supremum_factor(tensor(spread)).item() > 5


def test_the_cubic_flow_is_bounded_by_its_error_where_gronwall_grows():
    x = torch.linspace(-1.1, 1.1, 101, **F64)
    rates = scalar_rates(-3 * x**2, 0 * x, 0.07).repeated(10)
    factors = formulas.log_norm(rates, 0.07, "sde")
    assert all(torch.equal(factors[name], torch.ones(11, **F64)) for name in NORMS)
    slope = 0.2261536560  # φ′, to which D/e tends
    assert formulas.gronwall(rates, 0.07, "sde")["sup"][-1] > 25 > 1 > slope


@pytest.mark.parametrize("form", formulas.FORMS)
def test_scalar_linear_equations_meet_the_logarithmic_norm(form):
    rates, dt = constant(O10, 1.0, 5)
    exact = (1 + dt * 0.2) ** 2 + dt * 0.4**2 if form == "step" else math.exp(dt * 0.56)
    found = formulas.log_norm(rates, dt, form)["mean_square"]
    torch.testing.assert_close(found, exact ** torch.arange(6.0, **F64), rtol=1e-12, atol=0)
    if form == "sde":
        mean = formulas.log_norm(rates, dt, form)["mean"][-1].item()
        assert mean == pytest.approx(math.exp(0.2), rel=1e-12)
    cut = formulas.log_norm(rates.lowered(0.99), dt, form)["mean_square"][-1].item()
    assert cut < 0.999 * exact**5


@pytest.mark.parametrize(
    ("matrix", "steps"),
    [
        (((0.0, -1.0), (1.0, 0.0)), 5),
        (((-0.3, 0.4), (0.4, 0.1)), 3),
        (((-0.5, -2.0), (2.0, -0.5)), 2),
    ],
    ids=["rotation", "symmetric", "spiral"],
)
def test_normal_matrices_meet_the_logarithmic_norm(matrix, steps):
    case = LinearFlow(matrix=matrix, noise=())
    rates, dt = constant(case, 2.0, steps)
    values, vectors = torch.linalg.eigh(0.5 * (case.matrix + case.matrix.T))
    e = vectors[:, -1]
    for form in formulas.FORMS:
        step = torch.eye(2, **F64) + dt * case.matrix
        step = step if form == "step" else torch.linalg.matrix_exp(dt * case.matrix)
        exact = [torch.linalg.matrix_power(step, n) @ e for n in range(steps + 1)]
        found = formulas.log_norm(rates, dt, form)["mean"]
        torch.testing.assert_close(found, torch.stack(exact).norm(dim=1), rtol=1e-11, atol=0)
        cut = formulas.log_norm(rates.lowered(0.8), dt, form)["mean"]
        assert cut[-1] < 0.999 * found[-1]


def test_the_form_of_the_equation_does_not_bound_a_coarse_step_of_a_rotation():
    rates, dt = constant(ROTATION, 4.0, 4)
    distances, _ = enumerated(ROTATION, tensor(0.1, 0.0), 4.0, 4)
    assert_bounded(distances, formulas.log_norm(rates, dt, "step"), 0.1)
    assert distances[0, -1].item() == pytest.approx(0.1 * math.sqrt(2) ** 4)
    wrong = formulas.log_norm(rates, dt, "sde")["mean"][-1].item()
    assert 0.1 * wrong < 0.3 * distances[0, -1]


def test_additive_noise_is_bounded_with_equality_in_one_dimension():
    case = OrnsteinUhlenbeck()
    rates, dt = constant(case, 1.5, 6)
    distances, _ = enumerated(case, tensor(0.1), 1.5, 6)
    found = formulas.log_norm(rates, dt, "step")
    torch.testing.assert_close(
        distances, (0.1 * found["mean"]).expand(64, -1), rtol=1e-11, atol=1e-15
    )
    torch.testing.assert_close(found["sup"], torch.ones(7, **F64))


def test_blocks_are_exact_for_positive_steps_and_errors_and_break_when_cut():
    case, dt = LinearWorldModel(), 0.5
    parts = [slice(i, i + 1) for i in range(4)]
    rates, e = exact_rates(case, dt, parts).repeated(4), tensor(0.1, 0.2, 0.1, 0.3)
    distances, _ = enumerated(case, e, 2.0, 4)
    found, peaks = formulas.block(rates, dt, e[None], "step")
    assert torch.equal(found, peaks)  # the scheme has no states between
    torch.testing.assert_close(distances[:1], found, rtol=1e-11, atol=0)
    assert (distances <= found * ROUNDING).all()
    assert (
        formulas.block(rates.lowered(0.99), dt, e[None], "step")[0][0, -1] < 0.98 * distances[0, -1]
    )
    flow = [torch.linalg.matrix_exp(dt * n * case.matrix) @ e for n in range(5)]
    exact = torch.stack(flow).norm(dim=1)
    torch.testing.assert_close(formulas.block(rates, dt, e[None], "sde")[0][0], exact)
    cut = formulas.block(rates.lowered(0.99), dt, e[None], "sde")[0][0, -1]
    assert cut < 0.995 * exact[-1]


def test_the_recalled_form_is_what_its_definition_says():
    rates = scalar_rates(tensor(0.5), tensor(0.2), 0.5, 0.3, 0.1).repeated(2)
    found = formulas.double_exponential(rates, 0.5, 0.1)
    growth = math.exp(0.5) + math.exp(0.2)
    expected = 0.1 * growth + 0.01 * (math.exp(0.3 * growth) + math.exp(0.1 * growth))
    assert found[-1].item() == pytest.approx(expected)
    assert found[0].item() == pytest.approx(0.2 + 0.01 * (math.exp(0.6) + math.exp(0.2)))


class Hump:
    """dx = A x dt + 0.1 dB, where |x| rises before it falls."""

    state_size, matrix = 2, tensor([-1.0, 50.0], [0.0, -1.0])

    def jacobians(self):
        return self.matrix, torch.zeros(1, 2, 2, **F64)


@pytest.mark.parametrize(("steps", "excess"), [(2, 2.2), (100, 1.02), (2000, 1.001)])
def test_the_supremum_of_blocks_covers_the_inside_of_a_step(steps, excess):
    case, dt, e = Hump(), 4.0 / steps, tensor(0.0, 0.1)
    rates = exact_rates(case, dt, [slice(0, 1), slice(1, 2)]).repeated(steps)
    times = torch.linspace(0, 4, 4001, **F64)
    truth = torch.stack([torch.linalg.matrix_exp(t * case.matrix) @ e for t in times])
    largest = float(truth.norm(dim=1).max())
    grid, peaks = (float(part.max()) for part in formulas.block(rates, dt, e[None], "sde"))
    assert largest <= peaks * ROUNDING <= excess * largest
    if steps == 2:
        assert grid < 0.8 * largest  # negative control: the ends of the steps are too low


def test_blocks_with_an_infinite_rate_have_an_infinite_supremum():
    rates = exact_rates(Hump(), 1.0, [slice(0, 1), slice(1, 2)]).repeated(1)
    none = replace(rates, blocks=torch.full_like(rates.blocks, math.inf))
    _, peaks = formulas.block(none, 1.0, tensor(0.0, 0.1)[None], "sde")
    assert not torch.isfinite(peaks[0, 1])


def all_bounds(rates, dt, form):
    found = {f"gronwall {k}": v for k, v in formulas.gronwall(rates, dt, form).items()}
    found |= {f"log_norm {k}": v for k, v in formulas.log_norm(rates, dt, form).items()}
    pair = formulas.linearised_mean_square(rates, dt, 0.3, form)
    found |= {"remainder": pair[0], "remainder of the supremum": pair[1]}
    reference = Reference(
        step=torch.full((1, len(rates.drift)), 0.97, **F64),
        log_norm=torch.full((1, len(rates.drift)), -0.1, **F64),
        variation=torch.full((1, len(rates.drift) + 1), 0.3, **F64),
        error=tensor(0.3),
    )
    found["linearised"], found["rest"] = formulas.linearised(reference, rates, dt, form)
    found["block"], found["peaks"] = formulas.block(rates, dt, tensor(0.2, 0.1)[None], form)
    found["recalled"] = formulas.double_exponential(rates, dt, 0.3)
    return found


@pytest.mark.parametrize("form", formulas.FORMS)
def test_no_bound_falls_when_a_rate_is_worse_and_every_rate_counts(form):
    dt, steps = 0.05, 6
    parts = [slice(0, 1), slice(1, 2)]
    base = exact_rates(LinearFlow(noise=(((0.05, 0.4), (-0.4, 0.05)),)), dt, parts)
    base = replace(base, curvature=tensor(0.6), noise_curvature=tensor(0.3)).repeated(steps)
    torch.manual_seed(0)
    plain, counts = all_bounds(base, dt, form), set()
    for field in fields(Rates):
        value = getattr(base, field.name)
        for more in (1e-4, 0.02, 0.5):
            move = -more if field.name == "least_log_norm" else more
            for worse in (value + move, value + move * torch.rand_like(value)):
                moved = all_bounds(replace(base, **{field.name: worse}), dt, form)
                for name, bound in moved.items():
                    assert (bound >= plain[name] * (1 - 1e-13)).all(), (field.name, name)
                    if bool((bound > plain[name] * (1 + 1e-9)).any()):
                        counts.add(field.name)
    unused = {"step": {"blocks", "log_norm"}, "sde": {"step", "fourth", "step_blocks"}}[form]
    assert counts == {f.name for f in fields(Rates)} - unused - (
        {"least_log_norm"} if form == "sde" else set()
    )


def test_no_bound_rises_when_rates_are_lowered():
    for noise in (FLOW.noise.tolist(), ()):
        case = LinearFlow(noise=noise)
        rates = exact_rates(case, 0.2, [slice(0, 1), slice(1, 2)])
        rates = replace(rates, curvature=tensor(0.6)).repeated(6)
        for form in formulas.FORMS:
            plain, cut = (all_bounds(r, 0.2, form) for r in (rates, rates.lowered(0.8)))
            for name, bound in cut.items():
                assert (bound <= plain[name]).all(), name
