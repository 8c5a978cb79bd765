"""Sympy derives the closed forms of O1, O3, O3b and O5 from Ito's rule."""

import itertools
from functools import cache

import pytest
import sympy as sp

from sdewm.sde.examples import (
    GeometricBrownianMotion,
    OrnsteinUhlenbeck,
    PearsonDiffusion,
    ScaledGeometricBrownianMotion,
)

TIME = sp.Symbol("t", positive=True)
EPSILON = sp.Symbol("epsilon", real=True)
X, Y_ETA, Y_XI, W_ETA, W_DRIFT = STATE = sp.symbols("x y_eta y_xi w_eta w_drift", real=True)


class Exponentials(dict):
    """Sum of value * t^k * exp(rate t), keyed by (k, rate)."""

    def plus(self, key, value):
        k, rate = key
        for known in self:
            if known[0] == k and sp.expand(known[1] - rate) == 0:
                key = known
        self[key] = self.get(key, 0) + value

    def expression(self):
        return sum(v * TIME**k * sp.exp(rate * TIME) for (k, rate), v in self.items())


def integrate_linear(rate, forcing, start):
    """Solution of m' = rate m + forcing, m(0) = start, as a sum of exponentials."""
    solution = Exponentials()
    for (k, other), value in forcing.items():
        gap = sp.expand(other - rate)
        if gap == 0:
            solution.plus((k + 1, rate), value / (k + 1))
            continue
        for j in range(k, -1, -1):  # p_j = t^j e / gap - j p_(j-1) / gap
            solution.plus((j, other), value / gap)
            value = -value * j / gap
    offset = sum(v for (k, _), v in solution.items() if k == 0)
    solution.plus((0, rate), start - offset)
    return solution


def expectation(target, drift, diffusion, start):
    """E of a polynomial at time t: Ito's rule gives triangular linear equations for the moments."""
    variables = list(drift)

    @cache
    def moment(exponents):
        monomial = sp.prod(v**e for v, e in zip(variables, exponents, strict=True))
        initial = monomial.subs(start, simultaneous=True)
        generator = sum(drift[v] * sp.diff(monomial, v) for v in variables)
        for column, u, v in itertools.product(diffusion, variables, variables):
            generator += column[u] * column[v] * sp.diff(monomial, u, v) / 2
        rate, forcing = 0, Exponentials()
        for others, value in sp.Poly(sp.expand(generator), *variables).terms():
            if others == exponents:
                rate = value
            elif value != 0:
                for key, part in moment(others).items():
                    forcing.plus(key, value * part)
        return integrate_linear(rate, forcing, initial)

    terms = sp.Poly(sp.expand(target), *variables).terms()
    return sum(value * moment(exponents).expression() for exponents, value in terms)


def derive_terms(g, g_bar, sigma, sigma_bar, loss, start, driver="same"):
    """The terms of S4 for one scalar equation, from the variation equations of S1."""

    def row(value, forced_eta, forced_xi):
        slope, curve = sp.diff(value, X), sp.diff(value, X, 2)
        by_eta, by_xi = sp.diff(forced_eta, X), sp.diff(forced_xi, X)
        y = Y_ETA + Y_XI
        w_eta = slope * W_ETA + curve * Y_ETA**2 + 2 * by_eta * Y_ETA
        w = slope * (W_ETA + W_DRIFT) + curve * y**2 + 2 * (by_eta + by_xi) * y
        rows = (value, slope * Y_ETA + forced_eta, slope * Y_XI + forced_xi, w_eta, w - w_eta)
        return dict(zip(STATE, rows, strict=True))

    drift = row(g, sp.S.Zero, sigma)
    if driver == "same":
        diffusion = [row(g_bar, sigma_bar, sp.S.Zero)]
    else:
        diffusion = [row(g_bar, sp.S.Zero, sp.S.Zero), row(sp.S.Zero, sigma_bar, sp.S.Zero)]
    slope, curve = sp.diff(loss, X), sp.diff(loss, X, 2)
    targets = {
        "c0": loss,
        "P": slope * Y_ETA,
        "Q": slope * W_ETA / 2,
        "S": curve * Y_ETA**2,
        "P_drift": slope * Y_XI,
        "Q_drift": slope * W_DRIFT / 2,
        "S_cross": curve * Y_ETA * Y_XI,
        "S_drift": curve * Y_XI**2,
    }
    begin = dict.fromkeys(STATE, sp.S.Zero) | {X: start}
    return {name: expectation(target, drift, diffusion, begin) for name, target in targets.items()}


def derive_expected_loss(g, g_bar_squared, loss, start):
    """E L of the perturbed equation itself, for comparison by a series in epsilon."""
    root = sp.Symbol("root")  # stands for g_bar; only its square enters the second moment

    @cache
    def moment(power):
        generator = g * sp.diff(X**power, X) + root**2 * sp.diff(X**power, X, 2) / 2
        generator = sp.expand(generator.subs(root**2, g_bar_squared))
        rate, forcing = 0, Exponentials()
        for (other,), value in sp.Poly(generator, X).terms():
            if other == power:
                rate = value
            elif value != 0:
                for key, part in moment(other).items():
                    forcing.plus(key, value * part)
        return integrate_linear(rate, forcing, start**power)

    return sum(v * moment(p).expression() for (p,), v in sp.Poly(loss, X).terms())


def assert_matches(case, derived, values, driver, t1):
    exact = case.exact_terms(driver)
    for name, expression in derived.items():
        number = float(expression.subs(values | {TIME: t1}))
        assert exact[name] == pytest.approx(number, rel=1e-9, abs=1e-12), name


A, Q_NOISE, SIGMA, SIGMA_BAR, START = sp.symbols("a q sigma sigma_bar x_0", positive=True)
MU, NU = sp.symbols("mu nu", positive=True)

LINEAR_PARAMETERS = [
    {"rate": 0.8, "noise": 0.5, "sigma": 0.4, "sigma_bar": 0.6, "start": 1.2, "t1": 1.5},
    {"rate": 0.3, "noise": 0.9, "sigma": 1.1, "sigma_bar": 0.2, "start": 0.4, "t1": 2.5},
]


@pytest.mark.parametrize("driver", ["same", "independent"])
def test_ornstein_uhlenbeck_closed_form_is_derived(driver):
    derived = derive_terms(-A * X, Q_NOISE, SIGMA, SIGMA_BAR, X**2, START, driver)
    decay = sp.exp(-A * TIME)
    gain, variance = (1 - decay) / A, (1 - decay**2) / (2 * A)
    stated = dict.fromkeys(derived, sp.S.Zero) | {
        "c0": (START * decay) ** 2 + Q_NOISE**2 * variance,
        "P": 2 * Q_NOISE * SIGMA_BAR * variance if driver == "same" else sp.S.Zero,
        "S": 2 * SIGMA_BAR**2 * variance,
        "P_drift": 2 * START * decay * SIGMA * gain,
        "S_drift": 2 * SIGMA**2 * gain**2,
    }
    for name, expression in derived.items():
        assert sp.simplify(expression - stated[name]) == 0, name
    for options in LINEAR_PARAMETERS:
        values = {A: options["rate"], Q_NOISE: options["noise"], START: options["start"]}
        values |= {SIGMA: options["sigma"], SIGMA_BAR: options["sigma_bar"]}
        assert_matches(OrnsteinUhlenbeck(**options), derived, values, driver, options["t1"])


GEOMETRIC_PARAMETERS = [
    {"growth": 0.3, "volatility": 0.5, "sigma": 0.4, "sigma_bar": 0.3, "start": 1.0, "t1": 1.0},
    {"growth": 0.1, "volatility": 0.7, "sigma": 0.9, "sigma_bar": 0.8, "start": 0.6, "t1": 1.4},
]


@cache
def geometric_terms(driver):
    return derive_terms(MU * X, NU * X, SIGMA, SIGMA_BAR, X**2, START, driver)


def geometric_values(options):
    values = {MU: options["growth"], NU: options["volatility"], START: options["start"]}
    return values | {SIGMA: options["sigma"], SIGMA_BAR: options["sigma_bar"]}


@pytest.mark.parametrize("driver", ["same", "independent"])
@pytest.mark.parametrize("options", GEOMETRIC_PARAMETERS)
def test_geometric_brownian_motion_terms_are_derived(driver, options):
    case = GeometricBrownianMotion(**options)
    assert_matches(case, geometric_terms(driver), geometric_values(options), driver, options["t1"])


def test_dropping_the_ito_correction_of_geometric_brownian_motion_is_noticed():
    """S3: the forcing is sigma - nu sigma_bar; without the correction O3 gives 1.079769."""
    s = sp.Symbol("s", positive=True)
    growth = sp.exp(MU * s + (2 * MU + NU**2) * (TIME - s))
    excess = 2 * START * NU * SIGMA_BAR * sp.integrate(growth, (s, 0, TIME))
    right = geometric_terms("same")["P"]
    values = geometric_values(GEOMETRIC_PARAMETERS[0]) | {TIME: 1.0}
    naive = float((right + excess).subs(values))
    assert round(naive, 6) == 1.079769
    assert naive != pytest.approx(GeometricBrownianMotion().exact_terms()["P"], rel=1e-2)
    # The uncorrected y has an extra drift nu sigma_bar, as much again as d<x, y> gives: P doubles.
    assert sp.simplify(right - excess) == 0


def test_scaled_geometric_brownian_motion_closed_form_is_derived():
    zero = sp.S.Zero
    derived = derive_terms(MU * X, NU * X, zero, SIGMA_BAR * X, X**2, START)
    base = START**2 * sp.exp((2 * MU + NU**2) * TIME)
    stated = dict.fromkeys(derived, zero) | {
        "c0": base,
        "P": 2 * NU * SIGMA_BAR * TIME * base,
        "Q": SIGMA_BAR**2 * NU**2 * TIME**2 * base,
        "S": 2 * SIGMA_BAR**2 * (NU**2 * TIME**2 + TIME) * base,
    }
    for name, expression in derived.items():
        assert sp.simplify(expression - stated[name]) == 0, name
    for mu, nu, bar, start, t1 in ((-0.1, 0.4, 0.5, 1.3, 1.0), (0.2, 0.6, 0.3, 0.9, 1.5)):
        case = ScaledGeometricBrownianMotion(
            growth=mu, volatility=nu, sigma_bar=bar, start=start, t1=t1
        )
        assert_matches(case, derived, {MU: mu, NU: nu, SIGMA_BAR: bar, START: start}, "same", t1)
    # The same coefficients from the perturbed equation itself, without variations.
    noise = (NU + EPSILON * SIGMA_BAR) ** 2 * X**2
    loss = derive_expected_loss(MU * X, noise, X**2, START)
    first, second, third = (
        sp.diff(loss, EPSILON, k).subs(EPSILON, 0) / sp.factorial(k) for k in (1, 2, 3)
    )
    assert sp.simplify(first - derived["P"]) == 0
    assert sp.simplify(second - derived["Q"] - derived["S"] / 2) == 0
    default = {MU: -0.1, NU: 0.4, SIGMA_BAR: 0.5, START: 1.3, TIME: 1.0}
    assert float(third.subs(default)) == pytest.approx(0.1796932462, abs=6e-11)
    wrong_half = float((derived["Q"] + derived["S"]).subs(default))
    assert wrong_half != pytest.approx(float(second.subs(default)), rel=1e-2)


@pytest.mark.parametrize("driver", ["same", "independent"])
def test_pearson_closed_form_is_derived(driver):
    size = (
        (NU + EPSILON * SIGMA_BAR) ** 2 if driver == "same" else NU**2 + EPSILON**2 * SIGMA_BAR**2
    )
    loss = derive_expected_loss(MU * X, size * (1 + X**2), X**2, START)
    rate = 2 * MU + size
    stated = (START**2 + size / rate) * sp.exp(rate * TIME) - size / rate
    assert sp.simplify(loss - stated) == 0
    for mu, nu, bar, start, t1 in ((-0.5, 0.6, 0.4, 0.7, 1.0), (0.1, 0.3, 0.7, 1.1, 0.8)):
        case = PearsonDiffusion(drift=mu, volatility=nu, sigma_bar=bar, start=start, t1=t1)
        at = loss.subs({MU: sp.nsimplify(mu), NU: sp.nsimplify(nu), SIGMA_BAR: sp.nsimplify(bar)})
        at = at.subs({START: sp.nsimplify(start), TIME: sp.nsimplify(t1)})
        for k, value in enumerate(case.exact_coefficients(driver)):
            number = float(sp.diff(at, EPSILON, k).subs(EPSILON, 0) / sp.factorial(k))
            assert value == pytest.approx(number, rel=1e-9, abs=1e-12), k
