"""Growth rate, predictability horizon, equilibrium, and all of them with intervals."""

import math

import numpy as np
import pytest

from sdewm.open_loop.error_growth import (
    GROWTH_METRICS,
    fit_equilibrium,
    growth_rate,
    horizon_growth,
    predictability_horizon,
)

K = np.arange(1.0, 31.0)


def test_growth_rate_is_that_of_the_part_below_half_the_ceiling():
    curve = np.minimum(0.01 * np.exp(0.4 * K), 1.0)
    assert growth_rate(curve, 1.0) == pytest.approx(0.4, rel=1e-9)
    assert growth_rate(curve, 100.0) < 0.3  # the saturated part counts if the ceiling is far
    assert growth_rate(5 * curve, 5.0) == pytest.approx(0.4, rel=1e-9)


def test_growth_rate_equals_a_line_fitted_to_logarithms():
    curve = 0.01 * np.exp(0.1 * K + 0.2 * np.random.default_rng(0).normal(size=30))
    assert growth_rate(curve, 10.0) == pytest.approx(np.polyfit(K, np.log(curve), 1)[0])


def test_growth_window_ends_before_the_first_step_above_half():
    curve = np.array([0.1, 0.2, 0.6, 0.01, 0.01])
    assert growth_rate(curve, 1.0) == pytest.approx(math.log(2))
    ceiling = np.array([1.0, 1.0, 2.0, 1.0, 0.01])  # one per horizon: step 5 is the first above
    slope = np.polyfit(range(4), np.log(curve[:4]), 1)[0]
    assert growth_rate(curve, ceiling) == pytest.approx(slope)


def test_growth_rate_is_undefined_without_two_early_errors_above_zero():
    assert math.isnan(growth_rate(np.array([0.4, 0.6, 0.7]), 1.0))
    assert math.isnan(growth_rate(np.array([0.6, 0.1, 0.2]), 1.0))
    assert math.isnan(growth_rate(np.array([0.0, 0.1, 0.2]), 1.0))
    assert growth_rate(np.array([0.5, 0.5]), 1.0) == 0.0  # half is not above half


def test_predictability_horizon_is_the_first_step_above_counted_from_one():
    curve = np.array([0.1, 0.5, 0.3, 0.9])
    assert predictability_horizon(curve, 2.0, theta=0.01) == 1
    assert predictability_horizon(curve, 2.0, theta=0.2) == 2
    assert predictability_horizon(curve, 2.0, theta=0.25) == 4  # 0.5 does not exceed 0.5
    assert predictability_horizon(curve, 2.0, theta=0.45) == math.inf
    assert predictability_horizon(curve, np.array([2.0, 2.0, 0.5, 2]), theta=0.3) == 3
    assert predictability_horizon(np.array([0.3]), 1.0, theta=0.2) == 1


@pytest.mark.parametrize(("rate", "source", "start"), [(-0.2, 0.6, 0.1), (-1.5, 3.0, 5.0)])
def test_equilibrium_of_an_exact_relaxation(rate, source, start):
    level = -source / rate
    fit = fit_equilibrium(level + (start - level) * np.exp(rate * K[:12]))
    assert (fit.rate, fit.source) == pytest.approx((rate, source), rel=1e-6)
    assert fit.stationary == pytest.approx(level, rel=1e-9)
    assert fit.relaxation_time == pytest.approx(-1 / rate, rel=1e-6)


def test_runaway_has_no_equilibrium():
    rate, source = 0.1, 0.5
    fit = fit_equilibrium((0.2 + source / rate) * np.exp(rate * K) - source / rate)
    assert (fit.rate, fit.source) == pytest.approx((rate, source), rel=1e-6)
    assert (fit.stationary, fit.relaxation_time) == (math.inf, math.inf)


def test_straight_line_has_a_source_and_no_rate():
    fit = fit_equilibrium(0.25 * K)
    assert (fit.rate, fit.source) == pytest.approx((0.0, 0.25), abs=1e-12)


def test_relaxation_within_a_step():
    fit = fit_equilibrium(np.array([3.0, 1.0, 2.0, 1.5, 1.75]))  # D' = 2.5 − D/2
    assert fit.rate == -math.inf and fit.relaxation_time == 0.0
    assert fit.stationary == pytest.approx(5 / 3)


def test_flat_curve_has_no_equilibrium_fit():
    assert math.isnan(fit_equilibrium(np.full(10, 0.1)).rate)


def test_equilibrium_is_the_least_squares_of_pairs():
    curve = 1 - np.exp(-K / 5) + 0.02 * np.random.default_rng(1).normal(size=30)
    slope, intercept = np.polyfit(curve[:-1], curve[1:], 1)
    fit = fit_equilibrium(curve)
    assert fit.rate == pytest.approx(math.log(slope))
    assert fit.stationary == pytest.approx(intercept / (1 - slope))
    assert fit.source == pytest.approx(-fit.rate * fit.stationary)


def noisy_episodes(generator, episodes=30):
    """Saturating errors, E_∞ = 2 and τ = 5 in the mean, with episodes of different sizes."""
    size = generator.uniform(0.5, 1.5, size=(episodes, 1))
    noise = 0.1 * generator.normal(size=(episodes, 25)).cumsum(axis=1) / np.sqrt(np.arange(1, 26))
    return 2 * (1 - np.exp(-np.arange(1, 26) / 5.0)) * size * np.exp(noise - noise.var() / 2)


def test_intervals_contain_the_true_values():
    truth = {
        "saturation_level": 2.0,
        "saturation_time": 5.0,
        "predictability_horizon": 9.0,  # 2(1 − e^{−k/5}) > 1.6 from k = 8.05 on
        "stationary_value": 2.0,
        "relaxation_time": 5.0,
    }
    generator = np.random.default_rng(2)
    hits = dict.fromkeys(truth, 0)
    for seed in range(16):
        growth = horizon_growth(noisy_episodes(generator), 2.0, theta=0.8, seed=seed, resamples=50)
        assert list(growth) == list(GROWTH_METRICS)
        for name, value in truth.items():
            hits[name] += growth[name].low <= value <= growth[name].high
    assert min(hits.values()) >= 12, hits


def test_figures_are_those_of_the_mean_curve():
    errors = noisy_episodes(np.random.default_rng(3))
    growth = horizon_growth(errors, 2.0, theta=0.8, seed=0, resamples=40)
    curve = errors.mean(axis=0)
    settled = fit_equilibrium(curve)
    assert growth["growth_rate"].value == growth_rate(curve, 2.0)
    assert growth["predictability_horizon"].value == predictability_horizon(curve, 2, theta=0.8)
    assert growth["relaxation_time"].value == settled.relaxation_time
    assert growth["equilibrium_source"].value == settled.source
    assert growth["akaike_difference"].high < 0
    assert all(part.low <= part.value <= part.high for part in growth.values())


def test_horizon_never_reached_is_infinite_with_a_finite_lower_end_if_some_resamples_reach_it():
    size = np.linspace(0.2, 1.8, 10)[:, None]
    errors = size * (1 - np.exp(-K / 5.0))
    growth = horizon_growth(errors, 1.05, theta=1.0, seed=0, resamples=200)
    horizon = growth["predictability_horizon"]
    assert horizon.value == math.inf and horizon.high == math.inf
    assert 1 < horizon.low < 30
    never = horizon_growth(errors, 10.0, theta=1.0, seed=0, resamples=200)
    assert never["predictability_horizon"].low == math.inf


def test_resamples_without_any_error_are_undefined_but_no_failure():
    errors = np.zeros((4, 5))
    errors[0] = K[:5]
    growth = horizon_growth(errors, 1.0, theta=0.5, seed=0, resamples=400)
    rate = growth["power_exponent"]
    assert rate.value == pytest.approx(1.0)
    assert rate.undefined == pytest.approx((3 / 4) ** 4, abs=0.1)
    assert (rate.low, rate.high) == (-math.inf, math.inf)
    assert growth["predictability_horizon"].undefined == 0


ERRORS = np.ones((5, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: growth_rate(np.ones(1), 1.0), "H = 1; expected at least 2"),
        (lambda: fit_equilibrium(np.ones(2)), "H = 2; expected at least 3"),
        (lambda: growth_rate(np.ones(3), 0.0), "ceiling: 0; expected positive"),
        (lambda: growth_rate(np.ones(3), np.ones(2)), r"ceiling \(2,\)"),
        (lambda: growth_rate(np.ones(3), math.nan), "ceiling: nan"),
        (lambda: predictability_horizon(np.ones(3), 1.0, theta=0.0), "theta=0.0"),
        (lambda: horizon_growth(ERRORS[:, :1], 1.0, theta=1, seed=0), "H = 1"),
        (lambda: horizon_growth(-ERRORS, 1.0, theta=1, seed=0), "no negative number"),
        (lambda: horizon_growth(ERRORS * np.nan, 1.0, theta=1, seed=0), "errors: nan"),
        (lambda: horizon_growth(ERRORS[:3], 1.0, theta=1, seed=0), "3 episodes; an interval"),
        (lambda: horizon_growth(ERRORS[0], 1.0, theta=1, seed=0), r"expected \(E, H\)"),
        (lambda: horizon_growth(ERRORS, 1.0, theta=-1, seed=0), "theta=-1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
