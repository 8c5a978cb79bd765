"""The expansion without sampling error: enumerated increments against independent routes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sdewm
from sdewm.sde.examples import EnumerationWorldModel
from sdewm.sde.noise import EnumeratedNoise
from sdewm.theory.remainder_order import remainder_order
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
    order = remainder_order(
        epsilons, mutated, None, expected=3, scale=0.5, change=0.5, rounding=2.2e-16
    )
    assert order.verdict.outcome == "fails" and order.slope < 2.3


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


def test_two_point_sampling_agrees_with_enumeration():
    case = EnumerationWorldModel()
    error = sdewm.Perturbation(case.error_drift, case.error_diffusion)
    arguments = (case, error, case.loss, case.x0)
    sampled = sdewm.expand(*arguments, t1=case.t1, steps=4, paths=16_384, increments="two_point")
    for name, exact in o8("same").terms.items():
        estimate = sampled.terms[name]
        assert estimate.deviation_from(exact.value) < 5, name


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
