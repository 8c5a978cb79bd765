"""The bias of Q under a wrong initial state: exact values, orders, and what must not pass."""

import numpy as np
import pytest
import torch

import sdewm
from sdewm.base.stats import Estimate
from sdewm.sde.examples import CubicFlow, EnumerationWorldModel, LinearWorldModel, TanhWorldModel
from sdewm.theory.flow import path_values
from sdewm.theory.remainder_order import remainder_order
from tests.recurrent_step import RecurrentStep

CUBIC = CubicFlow()
SYMMETRIC = torch.tensor([[0.1], [-0.1]], dtype=torch.float64)
SMALL = TanhWorldModel(seed=3, state_size=3, width=6, drivers=2)
VECTOR = torch.tensor([0.4, -0.3, 0.5], dtype=torch.float64)


def normal_error(size, scale=0.3):
    return lambda count, generator: (
        scale * torch.randn(count, size, dtype=torch.float64, generator=generator)
    )


def squares(y):
    return (y**2).sum(dim=1) + torch.sin(y[:, 0])


def exactly(system, q_function, error, steps=4, t1=1.0, x0=None):
    """All patterns of increments: no sampling error."""
    start = system.x0 if x0 is None else x0
    return sdewm.value_expansion(
        system, q_function, start, error, t1=t1, steps=steps, increments="enumerate"
    )


def cubic(steps, error=SYMMETRIC):
    return sdewm.value_expansion(
        CUBIC, CUBIC.loss, CUBIC.x0, error, t1=CUBIC.t1, steps=steps, paths=2
    ).terms


@pytest.mark.parametrize("steps", [1, 7, 30])
def test_cubic_terms_are_the_exact_recursion_of_the_scheme(steps):
    delta, x, y, w = CUBIC.t1 / steps, 1.1, 1.0, 0.0
    ends = [1.2, 1.0]
    for _ in range(steps):
        x, y, w = (
            x - delta * x**3,
            (1 - 3 * delta * x**2) * y,
            (1 - 3 * delta * x**2) * w - 6 * delta * x * y**2,
        )
        ends = [end - delta * end**3 for end in ends]
    terms = cubic(steps)
    exact = {
        "value": x**2,
        "first": 0.0,
        "second_flow": 0.01 * x * w,
        "second_curvature": 0.01 * y**2,
        "measured": (ends[0] ** 2 + ends[1] ** 2) / 2 - x**2,
    }
    for name, value in exact.items():
        assert terms[name].value == pytest.approx(value, rel=1e-11, abs=1e-16), name
    assert terms["bias"].value == terms["second"].value


def test_cubic_bias_converges_to_the_tabulated_values():
    runs = [cubic(steps) for steps in (100, 200, 400, 800)]
    for name, exact in {"measured": -0.0020861271, "bias": -0.0020877583}.items():
        first = [run[name].value for run in runs]
        assert 1.9 < (first[0] - exact) / (first[1] - exact) < 2.1  # O(Δ)
        for power in (2, 4, 8):  # Richardson's extrapolation in the step
            first = [(power * b - a) / (power - 1) for a, b in zip(first, first[1:], strict=False)]
        assert first == [pytest.approx(exact, abs=6e-11)]


def test_a_linear_system_and_a_quadratic_q_have_no_remainder():
    case = LinearWorldModel()
    e = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=torch.float64)
    result = exactly(case, case.loss, e, steps=4, t1=2.0)
    terms = result.terms
    weights = torch.autograd.functional.hessian(lambda x: case.loss(x[None])[0], case.x0)
    still = torch.zeros(4, dtype=torch.float64)
    matrix, shift = (
        torch.autograd.functional.jacobian(lambda x: case.f(torch.tensor(0.0), x[None])[0], still),
        case.f(torch.tensor(0.0), still[None])[0],
    )
    mean, y = case.x0, e
    for _ in range(4):
        mean, y = mean + 0.5 * (matrix @ mean + shift), y + 0.5 * matrix @ y
    assert terms["first"].value == pytest.approx(float(y @ weights @ mean), rel=1e-12)
    assert terms["second_curvature"].value == pytest.approx(0.5 * float(y @ weights @ y), rel=1e-12)
    assert terms["second_flow"].value == 0.0
    assert terms["measured"].value == pytest.approx(terms["bias"].value, rel=1e-12)
    order = result.order()
    assert order.verdict.outcome == "holds"
    assert "zero to rounding" in order.verdict.reason


ORDER_CASES = [
    pytest.param(TanhWorldModel(seed=0), 1.0, id="tanh 0"),
    pytest.param(TanhWorldModel(seed=3, state_size=6, width=20, drivers=3), 1.0, id="tanh 3"),
    pytest.param(RecurrentStep(), 4.0, id="GRU 1"),
    pytest.param(RecurrentStep(hidden=7, latent=2, seed=5), 4.0, id="GRU 5"),
]


def sampled(system, t1, **options):
    arguments = {"t1": t1, "steps": 4, "paths": 4000, "seed": 1} | options
    error = arguments.pop("error", normal_error(len(system.x0)))
    return sdewm.value_expansion(system, squares, system.x0, error, **arguments)


@pytest.mark.parametrize(("system", "t1"), ORDER_CASES)
def test_the_remainder_of_a_path_is_of_third_order(system, t1):
    order = sampled(system, t1).order()
    assert order.verdict.outcome == "holds", order.verdict
    assert 2.8 < order.interval[0] <= order.interval[1] < 3.2


@pytest.mark.parametrize("dropped", ["second_flow", "second_curvature", "half"])
@pytest.mark.parametrize(("system", "t1"), ORDER_CASES)
def test_dropping_a_second_order_term_leaves_order_two(system, t1, dropped, monkeypatch):
    right = path_values.second_order

    def mutated(*arguments):
        value, slopes, curvature = right(*arguments)
        if dropped == "second_flow":
            slopes[1] = (torch.zeros_like(slopes[1][0]),)
        elif dropped == "second_curvature":
            curvature = {(0, 0): (torch.zeros_like(curvature[0, 0][0]),)}
        else:
            slopes[1] = (2 * slopes[1][0],)
        return value, slopes, curvature

    monkeypatch.setattr(path_values, "second_order", mutated)
    order = sampled(system, t1).order((0.1, 0.05, 0.025))
    assert order.verdict.outcome == "fails", order.verdict
    assert 1.8 < order.slope < 2.2


@pytest.mark.parametrize(("large", "outcome"), [(0.0, "holds"), (1e6, "undecided")])
def test_remainders_that_are_rounding_decide_nothing(large, outcome):
    """The bins of a critic are up to 4.9e8 and cancel: rounding of 1e-9, whatever the value is."""

    def cancelling(y):
        return (squares(y) + large) - large

    found = exactly(SMALL, cancelling, 0.01 * VECTOR.expand(3), x0=VECTOR[None])
    order = found.order((0.5, 0.25, 0.125))
    assert order.verdict.outcome == outcome, order
    if large:
        assert "rounding errors" in order.verdict.reason


def test_dropping_a_term_shows_in_the_mean_without_sampling_error_too():
    result, scales = exactly(SMALL, squares, VECTOR), (0.4, 0.2, 0.1)
    for dropped, outcome in ((None, "holds"), ("second_flow", "fails"), ("first", "fails")):
        lost = 0.0 if dropped is None else result.terms[dropped].value
        power = 1 if dropped == "first" else 2
        remainders = [
            Estimate(row.remainder.value + lost * row.scale**power, 0.0)
            for row in result.measure(scales)
        ]
        order = remainder_order(
            scales,
            remainders,
            None,
            expected=3,
            scale=1.0,
            change=1.0,
            rounding=torch.finfo(torch.float64).eps,
        )
        assert order.verdict.outcome == outcome, (dropped, order)


def test_s14_an_expansion_in_the_mean_size_fails_for_rare_errors():
    """e in {0, 1} with P(e = 1) = q: E|e| = q, and the second order is q times a number, not q²."""
    result = exactly(SMALL, squares, VECTOR)
    assert result.order((0.1, 0.05, 0.025)).verdict.outcome == "holds"
    rare = result.order((0.1, 0.05, 0.025), law="rare")
    assert rare.verdict.outcome == "fails"
    assert rare.slope == pytest.approx(1.0, abs=0.2)
    assert result.order((1e-2, 5e-3, 2.5e-3), law="rare").slope == pytest.approx(1.0, abs=0.02)


def test_rare_errors_are_those_of_a_law_that_mixes_e_with_zero():
    zero = torch.zeros(3, 3, dtype=torch.float64)
    mixed = exactly(SMALL, squares, torch.cat((VECTOR[None], zero)))  # probability 1/4
    whole = exactly(SMALL, squares, VECTOR)
    (row,) = whole.measure([0.25], law="rare")
    assert mixed.terms["measured"].value == pytest.approx(row.measured.value, rel=1e-12)
    for name in ("first", "second", "bias", "remainder", "absolute_remainder"):
        expected = 0.25 * whole.terms[name].value
        assert mixed.terms[name].value == pytest.approx(expected, rel=1e-12), name
    moments = [0.25 * moment.value for moment in whole.error_moments]
    assert [moment.value for moment in mixed.error_moments] == pytest.approx(moments, rel=1e-12)
    length = float(VECTOR.norm())
    assert moments == pytest.approx([0.25 * length**p for p in (1, 2, 3)], rel=1e-12)


def test_a_centred_error_has_no_mean_first_order():
    first = sampled(SMALL, 1.0, paths=20_000).terms["first"]
    assert first.deviation_from(0.0) < 5
    shifted = sampled(SMALL, 1.0, paths=20_000, error=lambda n, g: 0.1 + normal_error(3)(n, g))
    assert shifted.terms["first"].deviation_from(0.0) > 20


def test_a_symmetric_error_leaves_the_second_order_and_an_even_remainder():
    both = torch.stack((VECTOR, -VECTOR))
    scales = (0.4, 0.2, 0.1)
    for error, slope in ((both, 4), (VECTOR, 3)):
        result = exactly(SMALL, squares, error)
        remainders = np.array([row.remainder.value for row in result.measure(scales)])
        slopes = np.diff(np.log(abs(remainders))) / np.diff(np.log(scales))
        assert slopes == pytest.approx([slope, slope], abs=0.3)
    terms = exactly(SMALL, squares, both).terms
    assert abs(terms["first"].value) < 1e-14
    assert terms["measured"].value == pytest.approx(terms["second"].value, rel=0.1)


def test_the_second_order_of_a_centred_error_is_that_of_its_covariance():
    """S20 (iii): ½ tr(Σ_e H) with H from the second orders along e_i and e_i + e_j."""
    directions = torch.eye(3, dtype=torch.float64)

    def second(e):
        return exactly(SMALL, squares, e, steps=3).terms["second"].value

    form = torch.tensor(
        [[second(a + b) - second(a) - second(b) for b in directions] for a in directions],
        dtype=torch.float64,
    )
    samples = normal_error(3)(7, torch.Generator().manual_seed(2))
    samples = samples - samples.mean(dim=0)
    covariance = samples.T @ samples / 7
    terms = exactly(SMALL, squares, samples, steps=3).terms
    assert terms["second"].value == pytest.approx(0.5 * float((covariance * form).sum()), rel=1e-10)
    assert abs(terms["first"].value) < 1e-14


def test_sampling_agrees_with_enumeration_and_its_error_bars():
    case = EnumerationWorldModel()
    error = 0.2 * torch.eye(5, dtype=torch.float64)[:3]
    exact = exactly(case, case.loss, error, steps=3, t1=case.t1).terms
    found = sdewm.value_expansion(
        case, case.loss, case.x0, error, t1=case.t1, steps=3, paths=30_000, increments="two_point"
    ).terms
    for name, estimate in found.items():
        assert estimate.deviation_from(exact[name].value) < 5, name
        assert exact[name].standard_error == 0.0
    assert found["bias"].standard_error < 0.05 * abs(exact["bias"].value)


def test_groups_of_paths_are_the_units_of_the_errors():
    """Starts of their own: paths of a group agree, groups differ."""
    starts = torch.linspace(0.5, 2.0, 5, dtype=torch.float64)
    x0 = starts.repeat_interleave(40)[:, None]
    case = CubicFlow()
    found = sdewm.value_expansion(
        case,
        lambda y: y[:, 0],
        x0,
        0.1 * torch.ones(1).double(),
        t1=0.5,
        steps=5,
        paths=200,
        groups=5,
    )
    moved = []
    for x in (x0, x0 + 0.1 * torch.ones(1).double()):
        for _ in range(5):
            x = x + 0.1 * case.f(torch.zeros(()), x)
        moved.append(x[:, 0])
    of_group = (moved[1] - moved[0]).view(5, 40).mean(1)
    estimate = found.terms["measured"]
    assert estimate.value == pytest.approx(float(of_group.mean()))
    assert estimate.standard_error == pytest.approx(float(of_group.std()) / 5**0.5)
    with pytest.raises(ValueError, match="groups=3, paths=200: expected sampled paths"):
        sdewm.value_expansion(
            case,
            lambda y: y[:, 0],
            x0,
            0.1 * torch.ones(1).double(),
            t1=0.5,
            steps=5,
            paths=200,
            groups=3,
        )


def test_groups_that_differ_in_size_each_show_their_order():
    sizes, constants = np.array([0.4, 0.2, 0.1]), 10.0 ** np.arange(-3.0, 3.0)
    for power, outcome in ((3, "holds"), (2, "fails")):
        replicates = constants[:, None] * sizes**power
        error = replicates.std(0, ddof=1) / 6**0.5
        means = [Estimate(*pair) for pair in zip(replicates.mean(0), error, strict=True)]
        settings = {"expected": 3, "scale": 1.0, "change": 1.0, "rounding": 1e-16}
        together = remainder_order(sizes, means, replicates, **settings)
        apart = remainder_order(sizes, means, replicates, by_group=True, **settings)
        assert together.verdict.outcome == "undecided" and apart.verdict.outcome == outcome
        assert apart.slope == pytest.approx(power)
    mixed = constants[:, None] * sizes ** np.linspace(1.5, 4.0, 6)[:, None]
    found = remainder_order(sizes, means, mixed, by_group=True, **settings)
    assert found.verdict.outcome == "undecided" and found.interval[0] < 2.75 < found.interval[1]
    tiny = remainder_order(sizes, means, 1e-13 * mixed, by_group=True, **settings)
    assert tiny.verdict.outcome == "undecided" and "below" in tiny.verdict.reason
