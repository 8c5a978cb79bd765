"""What `lyapunov_exponents` counts, its estimates and intervals, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import sdewm
from sdewm.base.stats import Estimate
from sdewm.theory.flow.lyapunov import LyapunovSpectrum
from tests.theory.flow.lyapunov_cases import Multiplicative, scheme_rate, starts

# What is counted, and the result


def test_steps_are_numbered_from_zero_and_discarded_ones_not_counted():
    spectrum = sdewm.lyapunov_exponents(
        lambda x, n: (n + 1) * x / 4, starts(2, 2), steps=6, exponents=1, dt=0.5, discard=2
    )
    growth = np.log(np.arange(3, 7) / 4)
    assert spectrum.growth.shape == (4, 2, 1)
    np.testing.assert_allclose(spectrum.growth[:, 1, 0], growth, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(spectrum.times, [0.5, 1.0, 1.5, 2.0])
    running = growth.cumsum() / spectrum.times
    np.testing.assert_allclose(spectrum.running[:, 0, 0], running, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(spectrum.exponents[:, 0], running[-1], rtol=1e-12)
    np.testing.assert_allclose(spectrum.curves[0].values, running, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(spectrum.curves[0].times, spectrum.times)


def test_a_system_is_stepped_at_its_own_times():
    class Driven(Multiplicative):
        def f(self, t, y):
            return t * y

    spectrum = sdewm.lyapunov_exponents(
        Driven(0.0, 0.0), starts(2, 1), steps=5, exponents=1, dt=0.5
    )
    expected = np.log(1 + 0.5 * 0.5 * np.arange(5)).sum() / 2.5
    np.testing.assert_allclose(spectrum.exponents, expected, rtol=1e-12)


def test_a_result_is_a_function_of_its_seed():
    def run(seed):
        options = {"steps": 3, "exponents": 2, "seed": seed}
        return sdewm.lyapunov_exponents(torch_map, starts(3, 3), **options).exponents

    def torch_map(x, n):
        return torch.sin(x.cumsum(1))

    np.testing.assert_array_equal(run(1), run(1))
    assert (run(1) != run(2)).all()


def test_estimates_are_means_over_trajectories():
    growth = np.arange(24.0).reshape(2, 3, 4) ** 1.5
    spectrum = LyapunovSpectrum(growth, 0.5, 9)
    rows = growth.sum(0) / 1.0
    np.testing.assert_allclose(spectrum.exponents, rows)
    for j, estimate in enumerate(spectrum.estimates):
        assert estimate.value == pytest.approx(rows[:, j].mean())
        assert estimate.standard_error == pytest.approx(rows[:, j].std(ddof=1) / math.sqrt(3))
    total = rows.sum(1)
    assert spectrum.total.value == pytest.approx(total.mean())
    assert spectrum.total.standard_error == pytest.approx(total.std(ddof=1) / math.sqrt(3))
    alone = LyapunovSpectrum(growth[:, :1], 0.5, 9)
    assert math.isnan(alone.estimates[0].standard_error)
    assert math.isnan(alone.total.standard_error)


def test_intervals_cover_the_exponent_as_often_as_they_say():
    a, b, groups, batch = 0.3, 0.8, 600, 8
    options = {"steps": 30, "exponents": 1, "dt": 0.25, "seed": 11}
    everything = sdewm.lyapunov_exponents(
        Multiplicative(a, b), starts(groups * batch, 1), **options
    )
    exact = scheme_rate(a, b, 0.25)
    deviations = np.array(
        [
            LyapunovSpectrum(part, 0.25, 1).estimates[0].deviation_from(exact)
            for part in np.split(everything.growth, groups, axis=1)
        ]
    )
    for level in (0.8, 0.95):
        covered = (deviations < stats.t.ppf(0.5 + level / 2, batch - 1)).mean()
        assert abs(covered - level) < 4 * math.sqrt(level * (1 - level) / groups)
    # Power: another value, that of the equation, and narrower intervals are found out.
    assert (deviations < 0.7 * stats.t.ppf(0.975, batch - 1)).mean() < 0.9


@pytest.mark.parametrize(
    ("rates", "size", "expected"),
    [
        pytest.param([0.5, 0.0, -2.0], 3, 2.25, id="fraction"),
        pytest.param([0.0, -2.0, 0.5], 3, 2.25, id="sorted first"),
        pytest.param([1.0, 0.5, -0.5, -4.0], 7, 3.25, id="leading ones suffice"),
        pytest.param([1.0, -1.0, -3.0], 3, 2.0, id="sum zero"),
        pytest.param([-0.1, -1.0], 2, 0.0, id="contraction"),
        pytest.param([0.0, -1.0], 2, 1.0, id="limit cycle"),
        pytest.param([1.0, -0.5], 2, 2.0, id="all of space"),
        pytest.param([1.0, -0.5], 3, math.nan, id="too few exponents"),
        pytest.param([1.0, -math.inf], 3, 1.0, id="singular"),
    ],
)
def test_kaplan_yorke_dimension(rates, size, expected):
    growth = np.tile(np.array(rates), (4, 5, 1))
    dimension = LyapunovSpectrum(growth, 1.0, size).kaplan_yorke
    assert dimension.value == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_error_of_the_dimension_is_that_of_the_jackknife():
    growth = np.random.default_rng(0).normal([[0.5, 0.1, -2.0]], 0.05, (1, 200, 3))
    growth[..., 2] -= 0.8 * growth[..., 0]
    dimension = LyapunovSpectrum(growth, 1.0, 3).kaplan_yorke
    without = np.array(
        [LyapunovSpectrum(np.delete(growth, b, 1), 1.0, 3).kaplan_yorke.value for b in range(200)]
    )
    jackknife = math.sqrt(199 / 200 * ((without - without.mean()) ** 2).sum())
    assert dimension.standard_error == pytest.approx(jackknife, rel=0.02)
    single = LyapunovSpectrum(growth[:, :1], 1.0, 3).kaplan_yorke
    assert math.isnan(single.standard_error)
    assert isinstance(single, Estimate)


@pytest.mark.parametrize(
    ("rates", "known"),
    [((-0.5, -0.6), True), ((-0.01, -0.6), False), ((0.01, -0.6), False), ((0.5, -0.6), True)],
)
def test_the_dimension_has_no_error_bar_where_the_sign_of_the_first_exponent_is_open(rates, known):
    """It jumps between 0 and 1 there, and was given as 0 without error or 1.02 ± 0.02."""
    growth = np.random.default_rng(1).normal(size=(1, 12, 2)) * 0.2
    growth += np.array(rates) - growth.mean(1)
    dimension = LyapunovSpectrum(growth, 1.0, 2).kaplan_yorke
    assert math.isfinite(dimension.standard_error) == known
    assert dimension.value == pytest.approx(max(0.0, 1 + rates[0] / 0.6) if rates[0] > 0 else 0.0)


@pytest.mark.parametrize(("second", "error"), [(-0.49, math.nan), (-0.1, 0.0)])
def test_the_whole_dimension_is_without_error_only_if_volumes_grow(second, error):
    growth = np.random.default_rng(1).normal(size=(1, 12, 2)) * 0.2
    growth += np.array((0.5, second)) - growth.mean(1)
    dimension = LyapunovSpectrum(growth, 1.0, 2).kaplan_yorke
    assert dimension.value == 2.0
    assert dimension.standard_error == pytest.approx(error, nan_ok=True)


# Refusals

X0 = torch.ones(4, 2, dtype=torch.float64)


def identity(x, n):
    return x


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x0": torch.ones(2)}, r"x0 has shape \(2,\)"),
        ({"x0": torch.ones(2, 2)}, r"x0 has .* torch.float32: expected .*module.double"),
        ({"x0": torch.ones(0, 2).double()}, r"x0 has shape \(0, 2\)"),
        ({"x0": X0 / 0}, "x0 contains values that are not finite"),
        ({"x0": [1.0]}, "x0=list"),
        ({"steps": 0}, "steps=0"),
        ({"exponents": 0}, "exponents=0"),
        ({"exponents": 3}, "exponents=3: expected at most D = 2"),
        ({"discard": 5}, "discard=5: .* at most 4"),
        ({"discard": -1}, "discard=-1"),
        ({"dt": 0.0}, "dt=0.0"),
        ({"dt": math.inf}, "dt=inf"),
        ({"seed": -1}, "seed=-1"),
        ({"step": 3}, "step=int: expected a function"),
        ({"step": lambda x, n: x[:, :1]}, r"step returned shape \(4, 1\); expected \(4, 2\)"),
        ({"step": lambda x, n: x.float()}, "step returned torch.float32"),
        ({"step": lambda x, n: x + torch.randn_like(x)}, "draws random numbers"),
        ({"step": lambda x, n: x + x.mean(0)}, "mixes the rows"),
        ({"step": lambda x, n: x + x[:1]}, "mixes the rows"),
        ({"step": lambda x, n: x + x[1:2].sin()}, "mixes the rows"),
        (
            {"step": lambda x, n: x.sign() + x.tanh() - x.tanh().detach()},
            "first derivative of step is wrong .*straight-through",
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(given, message):
    arguments = {"step": identity, "x0": X0, "steps": 5, "exponents": 1, **given}
    with pytest.raises(ValueError, match=message):
        sdewm.lyapunov_exponents(arguments.pop("step"), arguments.pop("x0"), **arguments)


def test_a_stratonovich_system_is_refused():
    system = Multiplicative(0.1, 0.1)
    system.sde_type = "stratonovich"
    with pytest.raises(ValueError, match="only 'ito' is supported"):
        sdewm.lyapunov_exponents(system, X0, steps=2, exponents=1)


def test_leaving_the_finite_numbers_is_said():
    x0 = X0 * torch.tensor([[3.0], [4.0], [2.0], [5.0]])
    options = {"steps": 3, "exponents": 1}
    with pytest.raises(FloatingPointError, match="the state of trajectory 2 .* at step 1"):
        sdewm.lyapunov_exponents(lambda x, n: x if n == 0 else 1 / (x - 2), x0, **options)
    with pytest.raises(FloatingPointError, match="the tangents of trajectory 2 .* at step 1"):
        sdewm.lyapunov_exponents(lambda x, n: x if n == 0 else (x - 2).sqrt(), x0, **options)
