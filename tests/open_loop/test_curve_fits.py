"""Fits of mean error curves: known laws are recovered, the least squares are the least."""

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from sdewm.open_loop.curve_fits import akaike_difference, fit_power, fit_saturating

K = np.arange(1.0, 41.0)


def saturating(k, level, time):
    return level * (1 - np.exp(-k / time))


def power(k, coefficient, exponent):
    return coefficient * k**exponent


@pytest.mark.parametrize("level", [1e-6, 2.0, 1e8])
@pytest.mark.parametrize("time", [0.3, 1.0, 7.0, 60.0, 1000.0])
def test_saturating_law_is_recovered(level, time):
    fit = fit_saturating(saturating(K, level, time))
    assert fit.level == pytest.approx(level, rel=1e-6)
    assert fit.time == pytest.approx(time, rel=1e-6)
    assert fit.residual < 1e-18 * level**2


@pytest.mark.parametrize("coefficient", [1e-6, 3.0, 1e8])
@pytest.mark.parametrize("exponent", [-1.5, 0.0, 0.5, 1.0, 3.2])
def test_power_law_is_recovered(coefficient, exponent):
    fit = fit_power(power(K, coefficient, exponent))
    assert fit.coefficient == pytest.approx(coefficient, rel=1e-6)
    assert fit.exponent == pytest.approx(exponent, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_noisy_curves_are_fitted_as_by_a_general_least_squares(seed):
    noise = 0.1 * np.random.default_rng(seed).normal(size=len(K))
    curve = saturating(K, 2.0, 9.0) + noise
    fit = fit_saturating(curve)
    best = curve_fit(saturating, K, curve, p0=(1.5, 5.0))[0]
    assert (fit.level, fit.time) == pytest.approx(tuple(best), rel=1e-4)
    assert fit.residual == pytest.approx(np.square(curve - saturating(K, *best)).sum(), rel=1e-6)
    curve = power(K, 0.5, 0.7) + noise
    fit = fit_power(curve)
    best = curve_fit(power, K, curve, p0=(1.0, 1.0))[0]
    assert (fit.coefficient, fit.exponent) == pytest.approx(tuple(best), rel=1e-4)
    assert fit.residual == pytest.approx(np.square(curve - power(K, *best)).sum(), rel=1e-6)


@pytest.mark.parametrize("curve", [np.full(40, 0.3), 2 - 0.01 * K], ids=["flat", "falling"])
def test_curve_that_never_rises_is_saturated_at_its_mean(curve):
    fit = fit_saturating(curve)
    assert (fit.time, fit.level) == (0.0, pytest.approx(curve.mean()))
    assert fit.residual == pytest.approx(np.square(curve - curve.mean()).sum())


@pytest.mark.parametrize("curve", [0.2 * K, K**2, np.exp(0.2 * K)], ids=["line", "square", "exp"])
def test_curve_that_never_bends_has_no_saturation(curve):
    fit = fit_saturating(curve)
    assert (fit.level, fit.time) == (math.inf, math.inf)
    slope = (curve * K).sum() / (K * K).sum()
    assert fit.residual == pytest.approx(np.square(curve - slope * K).sum(), abs=1e-18)


def test_exponents_stay_in_their_range():
    assert fit_power(np.where(K == 40, 1.0, 0.0)).exponent == 12.0
    assert fit_power(np.where(K == 1, 1.0, 0.0)).exponent == -4.0


def test_akaike_difference_by_hand_and_its_sign():
    noise = 0.05 * np.random.default_rng(0).normal(size=len(K))
    for curve, sign in ((saturating(K, 2, 5) + noise, -1), (power(K, 0.3, 0.8) + noise, 1)):
        bend, rise = fit_saturating(curve), fit_power(curve)
        difference = akaike_difference(bend, rise, curve)
        aic = [40 * math.log(fit.residual / 40) + 2 * 3 for fit in (bend, rise)]
        assert difference == pytest.approx(aic[0] - aic[1])
        assert difference * sign > 20


def test_laws_that_both_fit_exactly_are_not_told_apart():
    for curve in (0.7 * K, np.full(40, 0.7)):
        assert akaike_difference(fit_saturating(curve), fit_power(curve), curve) == 0.0


@pytest.mark.parametrize("fit", [fit_saturating, fit_power])
@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (np.ones(1), "H = 1; a fit needs at least 3"),
        (np.ones(2), "H = 2; a fit needs at least 3"),
        (np.zeros(5), "all errors are 0"),
        (np.array([1.0, np.nan, 2.0]), r"curve: nan at \[1\]"),
        (np.ones((3, 3)), r"expected \(H,\)"),
    ],
)
def test_bad_curves_are_refused(fit, curve, message):
    with pytest.raises(ValueError, match=message):
        fit(curve)
