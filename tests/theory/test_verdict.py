"""Verdicts: what is decided, and what is left undecided."""

import math

import numpy as np
import pytest
import torch

import sdewm
from sdewm.base.stats import Estimate
from sdewm.sde.examples import GeometricBrownianMotion
from sdewm.theory.remainder_order import remainder_order
from sdewm.theory.verdict import Verdict, agree, all_of

SIZES = (0.2, 0.1, 0.05, 0.025)
SETTINGS = {"expected": 3, "scale": 1.0, "change": 1.0, "rounding": 2.2e-16}


def exact(power, factor=1.0):
    return [Estimate(factor * e**power, 0.0) for e in SIZES]


@pytest.mark.parametrize(
    ("power", "outcome"), [(3, "holds"), (4, "holds"), (2, "fails"), (2.69, "fails")]
)
def test_the_order_decides(power, outcome):
    order = remainder_order(SIZES, exact(power), None, **SETTINGS)
    assert order.verdict.outcome == outcome and order.slope == pytest.approx(power)


def test_a_slope_that_changes_across_the_band_is_undecided():
    values = [Estimate(v, 0.0) for v in (1.0, 0.2, 0.2 / 8, 0.2 / 8 / 5)]
    assert remainder_order(SIZES, values, None, **SETTINGS).verdict.outcome == "undecided"


def test_a_remainder_at_the_rounding_floor_decides_no_slope():
    order = remainder_order(SIZES, exact(3, 1e-9), None, **SETTINGS)
    assert order.verdict.outcome == "undecided" and math.isnan(order.slope)
    assert "rounding" in order.verdict.reason


def test_a_remainder_that_is_zero_to_rounding_holds():
    zero = [Estimate(1e-17, 0.0)] * 4
    order = remainder_order(SIZES, zero, None, **SETTINGS)
    assert order.verdict.outcome == "holds" and "zero to rounding" in order.verdict.reason
    # Of an error that changes next to nothing, a remainder below rounding says nothing.
    for more in ({"change": 1e-6}, {"loss_rounding": 1e-9}):
        assert (
            remainder_order(SIZES, zero, None, **(SETTINGS | more)).verdict.outcome == "undecided"
        )


@pytest.mark.parametrize(("spread", "outcome"), [(0.3, "holds"), (5.0, "undecided")])
def test_sampling_error_decides_whether_a_slope_is_measured(spread, outcome):
    generator = np.random.default_rng(0)
    factors = 1 + spread * generator.standard_normal(256)
    replicates = factors[:, None] * np.array(SIZES) ** 3
    remainders = [
        Estimate(float(column.mean()), float(column.std() / 16)) for column in replicates.T
    ]
    order = remainder_order(SIZES, remainders, replicates, **SETTINGS)
    assert order.verdict.outcome == outcome


def test_agreement_needs_a_small_enough_error_bar():
    assert agree("P", Estimate(1.0, 0.01), 1.03).outcome == "holds"
    assert agree("P", Estimate(1.0, 0.01), 1.06).outcome == "fails"
    assert agree("P", Estimate(1.0, 0.4), 1.03).outcome == "undecided"
    assert agree("P", Estimate(0.01, 0.01), 0.0).outcome == "holds"
    assert agree("P", Estimate(1.0, math.nan), 1.0).outcome == "undecided"
    assert agree("P", Estimate(1.0 + 1e-12, 0.0), 1.0, bias=1e-10).outcome == "holds"
    assert agree("P", Estimate(1.0 + 1e-9, 0.0), 1.0, bias=1e-10).outcome == "fails"


def test_a_conjunction_fails_first():
    verdicts = {name: Verdict(name, name) for name in ("holds", "fails", "undecided")}
    assert all_of([verdicts["holds"], verdicts["undecided"], verdicts["fails"]]).outcome == "fails"
    assert all_of([verdicts["holds"], verdicts["undecided"]]).outcome == "undecided"
    assert all_of([verdicts["holds"], verdicts["holds"]]).outcome == "holds"


def test_heavy_tails_are_undecided_and_light_tails_are_not():
    # E|D|² of a geometric Brownian motion is (1 + ν²Δ)^N; for ν = 2 rare paths carry it.
    outcomes = {}
    for volatility in (0.4, 2.0):
        case = GeometricBrownianMotion(growth=0.0, volatility=volatility)
        exact = (1 + volatility**2 / 20) ** 20
        found, e = [], torch.ones(1, dtype=torch.float64)
        for seed in range(10):
            square = sdewm.rollout_divergence(
                case, case.x0, e, t1=1.0, steps=20, paths=4096, seed=seed
            )["mean_square"]
            assert square.last.kurtosis == square.kurtoses[-1]
            found.append(agree("E|D|²", square.last, exact).outcome)
        outcomes[volatility] = set(found)
    assert outcomes == {0.4: {"holds"}, 2.0: {"undecided"}}


def test_the_guard_looks_at_the_kurtosis_where_sampling_errors_matter():
    heavy = Estimate(1.0, 0.01, kurtosis=30.0)
    assert agree("P", heavy, 1.0).outcome == "undecided"
    assert "kurtosis 30" in agree("P", heavy, 5.0).reason
    assert agree("P", Estimate(1.0, 0.01, kurtosis=9.0), 1.0).outcome == "holds"
    assert agree("P", Estimate(1.0, 1e-16, kurtosis=30.0), 1.0, bias=1e-12).outcome == "holds"


@pytest.mark.parametrize(("error", "outcome"), [(0.09, "holds"), (0.11, "undecided")])
def test_a_value_is_compared_only_to_within_half_of_it(error, outcome):
    assert agree("x", Estimate(1.0, error), 1.0).outcome == outcome
