"""The expansion at the level of the scheme: exact by enumeration, within error bars by sampling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sdewm
from sdewm.sde.examples import (
    CircleDiffusion,
    ClosedLoop,
    CurvatureCounterexample,
    EnumerationWorldModel,
    GeometricBrownianMotion,
    LinearWorldModel,
    OrnsteinUhlenbeck,
    PearsonDiffusion,
    QuadraticCascade,
    ScaledGeometricBrownianMotion,
    TanhWorldModel,
)
from sdewm.sde.noise import EnumeratedNoise
from sdewm.theory.variation import VariationSystem
from tests.reference import difference_coefficients

# Published to ten digits: the exact terms of O8 by enumeration (MATHEMATICS.md).
O8 = {
    "same": (4, "0.3741174005 0.115886893 0.000547290846 0.141440733 0.0287855953 0.00258019529 "
                "0.00212842241 0.00816042154 0.144672488 0.080056486"),
    "independent": (3, "0.3769343455 0 -2.12788e-05 0.15143983 0.0292507986 0.000360400319 0 "
                       "0.00827013647 0.0292507986 0.0801941046"),
}  # fmt: skip


def o8(driver, drift=True):
    case = EnumerationWorldModel()
    diffusion = case.error_diffusion if driver == "same" else case.independent_error_diffusion
    error = sdewm.Perturbation(case.error_drift if drift else None, diffusion, driver)
    steps = O8[driver][0]
    arguments = (case, error, case.loss, case.x0)
    return sdewm.expand(*arguments, t1=case.t1, steps=steps, increments="enumerate")


@pytest.mark.parametrize("driver", O8)
def test_enumerated_terms_of_o8(driver):
    result = o8(driver)
    for (name, estimate), published in zip(
        result.terms.items(), O8[driver][1].split(), strict=True
    ):
        digits = len(published.split("e")[0].partition(".")[2])
        half_a_unit = 0.5 * 10.0**-digits * 10.0 ** float(published.partition("e")[2] or 0)
        assert abs(estimate.value - float(published)) <= half_a_unit + 1e-14, name
        assert estimate.standard_error == 0.0


@pytest.mark.parametrize("driver", O8)
def test_enumerated_coefficients_of_o8_by_reverse_mode_through_the_plain_loop(driver):
    """An independent route to 1e-12: differentiate the average over all patterns in the sizes."""
    case, steps = EnumerationWorldModel(), O8[driver][0]
    own = case.independent_error_diffusion if driver == "independent" else case.error_diffusion
    noise = EnumeratedNoise(drivers=3 + (driver == "independent"), steps=steps, t1=case.t1)
    sizes = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    x = case.x0.expand(noise.paths_limit, -1)
    for t, dB in zip(noise.grid(torch.float64), noise.stream(0, noise.paths_limit), strict=False):
        mine = dB[:, 3:] if driver == "independent" else dB
        drift = case.f(t, x) + sizes[0] * case.error_drift(t, x)
        spread = torch.einsum("bij,bj->bi", case.g(t, x), dB[:, :3])
        spread = spread + sizes[1] * torch.einsum("bij,bj->bi", own(t, x), mine)
        x = x + noise.step_size * drift + spread
    (first,) = torch.autograd.grad(case.loss(x).mean(), sizes, create_graph=True)
    second = torch.stack([torch.autograd.grad(d, sizes, retain_graph=True)[0] for d in first])
    term = {name: estimate.value for name, estimate in o8(driver).terms.items()}
    first, second = first.detach(), second.detach()
    assert float(first[0]) == pytest.approx(term["P_drift"], abs=1e-12)
    assert float(first[1]) == pytest.approx(term["P"], abs=1e-12)
    assert float(second[1, 1]) / 2 == pytest.approx(term["Q"] + term["S"] / 2, abs=1e-12)
    drift_part = term["Q_drift"] + term["S_cross"] + term["S_drift"] / 2
    assert float(second[0, 0] / 2 + second[0, 1]) == pytest.approx(drift_part, abs=1e-12)


@pytest.mark.parametrize(
    ("driver", "drift", "low", "high"),
    [("same", True, 2.7, 3.3), ("independent", True, 2.7, 3.3), ("independent", False, 3.7, 4.3)],
)
def test_enumerated_remainder_orders_of_o8(driver, drift, low, high):
    order = o8(driver, drift).order((0.2, 0.1, 0.05, 0.025))
    assert order.verdict.outcome == "holds"
    assert low < order.interval[0] <= order.slope <= order.interval[1] < high


def test_zero_drift_with_an_independent_driver_is_even():
    rows = o8("independent", drift=False).measure([0.3, -0.3])
    assert abs(rows[0].measured.value - rows[1].measured.value) < 1e-15


def test_a_dropped_term_would_show_as_order_two():
    """Negative control of the order test: the remainder without ½ S_drift."""
    result = o8("same")
    epsilons = (0.2, 0.1, 0.05)
    s_drift = result.terms["S_drift"].value
    mutated = [
        sdewm.Estimate(row.remainder.value + 0.5 * s_drift * row.epsilon**2, 0.0)
        for row in result.measure(epsilons)
    ]
    from sdewm.theory.order import remainder_order

    order = remainder_order(epsilons, mutated, None, expected=3, scale=0.5, rounding=2.2e-16)
    assert order.verdict.outcome == "fails" and order.slope < 2.3


CASES = [
    (OrnsteinUhlenbeck(), "same"),
    (OrnsteinUhlenbeck(), "independent"),
    (LinearWorldModel(), "same"),
    (LinearWorldModel(), "independent"),
    (GeometricBrownianMotion(), "same"),
    (ScaledGeometricBrownianMotion(), "same"),
    (QuadraticCascade(), "same"),
    (QuadraticCascade(), "independent"),
    (QuadraticCascade(loss="h"), "same"),
    (PearsonDiffusion(), "same"),
    (ClosedLoop(), "same"),
    (CircleDiffusion(), "same"),
    (CircleDiffusion(), "independent"),
    (CurvatureCounterexample(), "independent"),
]


@pytest.mark.parametrize(
    ("case", "driver"), CASES, ids=lambda v: getattr(v, "__class__", v).__name__
)
def test_every_term_is_within_five_standard_errors_of_its_exact_value_for_the_scheme(case, driver):
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion, driver)
    arguments = (case, error, case.loss, case.x0)
    result = sdewm.expand(*arguments, t1=case.t1, steps=16, paths=30_000, seed=12)
    exact = case.exact_terms(driver, steps=16)
    compared = 0
    for name, value in exact.items():
        estimate = result.terms[name]
        assert abs(estimate.value - value) <= 5 * estimate.standard_error + 1e-12, name
        compared += estimate.standard_error > 0 and abs(value) > 5 * estimate.standard_error
    assert compared >= 2, "the error bars are too wide to tell the terms from zero"


def random_system(seed, noise_type):
    """Smooth coefficients with every kind of curvature, two components."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(12, 2, 2, dtype=torch.float64, generator=generator) * 1.6 - 0.8

    def layer(k, t, y):
        return torch.sin(y @ weights[k] + 0.3 * t) + 0.3 * y * torch.cos(y @ weights[k + 1])

    def columns(k, t, y, count):
        return torch.stack([layer(k + j, t, y) for j in range(count)], dim=2)

    class Random:
        sde_type = "ito"

        def __init__(self):
            self.noise_type = noise_type

        def f(self, t, y):
            return layer(0, t, y)

        def g(self, t, y):
            return self.coefficient(2, t, y)

        def coefficient(self, k, t, y):
            if noise_type == "diagonal":
                return 0.5 + 0.4 * layer(k, t, y)
            return 0.4 * columns(k, t, y, 1 if noise_type == "scalar" else 2)

    system = Random()

    def loss(y):
        return torch.exp(0.3 * (y @ weights[10])[:, 0]) + (y[:, 1] - 0.2) ** 2 * torch.cos(y[:, 0])

    def drift(t, y):
        return layer(5, t, y)

    def own_diffusion(t, y):
        return 0.5 * columns(7, t, y, 1)

    def same_diffusion(t, y):
        return system.coefficient(7, t, y)

    return system, loss, drift, {"same": same_diffusion, "independent": own_diffusion}


@settings(max_examples=10)
@given(
    seed=st.integers(0, 10_000),
    noise_type=st.sampled_from(["diagonal", "scalar", "general"]),
    driver=st.sampled_from(["same", "independent"]),
    present=st.sampled_from(["both", "drift", "diffusion"]),
)
def test_enumerated_terms_are_the_derivatives_in_the_sizes(seed, noise_type, driver, present):
    system, loss, drift, diffusions = random_system(seed, noise_type)
    error = sdewm.Perturbation(
        None if present == "diffusion" else drift,
        None if present == "drift" else diffusions[driver],
        driver,
    )
    x0 = torch.tensor([0.3, -0.4], dtype=torch.float64)
    result = sdewm.expand(system, error, loss, x0, t1=0.6, steps=2, increments="enumerate")
    sizes = [(i * h, j * h) for h in (0.04, 0.02) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    measured = {row.epsilon: row.measured.value for row in result.measure(sizes)}
    found = difference_coefficients(lambda d, n: measured[d, n], h=0.04)
    term = {name: estimate.value for name, estimate in result.terms.items()}
    weights = result._sums.means()
    q_drift_drift, q_mixed = weights[5], weights[6]
    expected = torch.tensor(
        [
            term["P_drift"],
            term["P"],
            q_drift_drift + 0.5 * term["S_drift"],
            q_mixed + term["S_cross"],
            term["Q"] + 0.5 * term["S"],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6)
    assert term["Q_drift"] == pytest.approx(q_drift_drift + q_mixed)


@pytest.mark.parametrize(
    "case", [EnumerationWorldModel(), CircleDiffusion(), TanhWorldModel(seed=3)]
)
def test_the_fused_step_is_the_nested_jvp(case):
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    generator = torch.Generator().manual_seed(0)
    x = case.x0.expand(7, -1) + 0.1 * torch.randn(
        7, len(case.x0), dtype=torch.float64, generator=generator
    )
    t = torch.tensor(0.2, dtype=torch.float64)
    g = case.g(t, x)
    drivers = g.shape[-1]
    v = torch.randn(7, drivers, dtype=torch.float64, generator=generator)
    fast, slow = (VariationSystem(case, error, drivers, fused=fused) for fused in (True, False))
    state = torch.randn(7, fast.width * len(case.x0), dtype=torch.float64, generator=generator)
    for a, b in zip(fast.f_and_g_prod(t, state, v), slow.f_and_g_prod(t, state, v), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


SMALL = TanhWorldModel(seed=3, state_size=3, width=6, drivers=2)


def world_model(**options):
    case = SMALL
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    arguments = {"t1": case.t1, "steps": 4, "paths": 9000, "seed": 5} | options
    return sdewm.expand(case, error, case.loss, arguments.pop("x0", case.x0), **arguments)


@pytest.mark.parametrize("chunk", [1e3, 1e4, 1e5])
def test_chunk_size_changes_no_bit(chunk):
    assert world_model(chunk=chunk).terms == world_model().terms


def test_the_seed_decides():
    assert world_model(seed=5).terms == world_model().terms
    assert world_model(seed=6).terms != world_model().terms


def test_the_initial_state_may_be_given_once_or_per_path():
    x0 = SMALL.x0
    reference = world_model()
    assert world_model(x0=x0[None]).terms == reference.terms
    assert world_model(x0=x0.expand(9000, -1).clone()).terms == reference.terms
    spread = x0 + 0.1 * torch.randn(
        9000, len(x0), dtype=x0.dtype, generator=torch.Generator().manual_seed(0)
    )
    assert world_model(x0=spread).terms != reference.terms


def test_two_point_sampling_agrees_with_enumeration():
    case = EnumerationWorldModel()
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    arguments = (case, error, case.loss, case.x0)
    sampled = sdewm.expand(*arguments, t1=case.t1, steps=4, paths=40_000, increments="two_point")
    for name, exact in o8("same").terms.items():
        estimate = sampled.terms[name]
        assert estimate.deviation_from(exact.value) < 5, name


def test_float32_gives_the_terms_to_its_precision():
    single, double = world_model(dtype=torch.float32, paths=20_000), world_model(paths=20_000)
    for name, estimate in single.terms.items():
        both = (estimate.standard_error**2 + double.terms[name].standard_error ** 2) ** 0.5
        assert abs(estimate.value - double.terms[name].value) < 5 * both + 1e-5, name


def test_sizes_of_their_own_predict_what_is_measured():
    result = o8("same")
    for pair in ((0.1, 0.0), (0.0, 0.1), (0.05, -0.1)):
        row = result.measure([pair])[0]
        assert row.predicted.value == pytest.approx(result.predict(pair).value, abs=1e-15)
        assert abs(row.remainder.value) < 1e-3 * abs(row.measured.value - result.terms["c0"].value)
        assert row.measured.value - row.predicted.value == pytest.approx(
            row.remainder.value, abs=1e-15
        )


def test_equal_sizes_are_the_pair_of_them():
    result = o8("same")
    assert result.predict(0.1) == result.predict((0.1, 0.1))
    assert result.predict(0.0).value == result.terms["c0"].value


def test_an_independent_error_may_have_any_number_of_drivers():
    case = OrnsteinUhlenbeck()
    results = []
    for own in (1, 3):

        def spread(t, y, own=own):
            return torch.full((y.shape[0], 1, own), 0.6 / own**0.5, dtype=y.dtype)

        error = sdewm.Perturbation(None, spread, "independent")
        arguments = (case, error, case.loss, case.x0)
        results.append(sdewm.expand(*arguments, t1=1.5, steps=3, increments="enumerate").terms)
    for name in ("c0", "P", "S", "c2"):
        assert results[0][name].value == pytest.approx(results[1][name].value, abs=1e-12)


def test_a_layer_norm_network_has_the_right_second_derivatives():
    """torch's nested forward mode is wrong for layer_norm; the expansion must not be."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.LayerNorm(8), torch.nn.SiLU(), torch.nn.Linear(8, 3)
    ).double()

    class Network:
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, y):
            return net(y)

        def g(self, t, y):
            return 0.3 + 0 * y

    error = sdewm.Perturbation(diffusion=lambda t, y: torch.ones_like(y))
    x0 = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64)
    result = sdewm.expand(
        Network(), error, lambda y: (y**2).sum(1), x0, t1=1.0, steps=3, increments="enumerate"
    )
    low, high = result.order((0.1, 0.05, 0.025)).interval
    assert 2.7 < low <= high < 3.3
