"""Findings decide as the rules say: holds, fails or undecided."""

import math

import numpy as np
import pytest

from paper_checks import findings
from paper_checks.check_terms import richardson
from sdewm.base.stats import Estimate
from sdewm.theory.expansion.expand import CurveRow

SIZES = (0.2, 0.1, 0.05)


def rows(function, relative=0.0):
    nothing = Estimate(1.0, 0.0)
    values = [Estimate(function(size), relative * abs(function(size))) for size in SIZES]
    return [
        CurveRow(e, nothing, nothing, v, nothing, nothing)
        for e, v in zip(SIZES, values, strict=True)
    ]


@pytest.mark.parametrize(
    ("function", "relative", "outcome"),
    [
        (lambda e: 2 * e**3, 0.0, "holds"),
        (lambda e: 2 * e**3, 0.05, "holds"),
        (lambda e: 2 * e**3, 0.095, "holds"),
        (lambda e: 2 * e**2.72, 0.05, "undecided"),
        (lambda e: 2 * e**3, 0.2, "undecided"),
        (lambda e: 2e-15 * e**3, 0.0, "undecided"),
        (lambda e: 2 * e**2, 0.05, "fails"),
        (lambda e: 2 * e**4, 0.0, "fails"),
        (lambda e: e**3 - 10 * e**4, 0.0, "undecided"),
    ],
)
def test_order_is_decided_only_where_errors_allow(function, relative, outcome):
    finding = findings.order_finding(rows(function, relative), 3, scale=1.0)
    assert finding.verdict.outcome == outcome, finding.verdict.reason


def test_compare_counts_five_standard_errors():
    outcomes = [
        findings.compare("P", Estimate(1.0 + gap, 0.01), 1.0).verdict.outcome
        for gap in (0.0, 0.049, 0.051)
    ]
    assert outcomes == ["holds", "holds", "fails"]
    assert findings.compare("P", Estimate(1.0, 0.2), 1.0).verdict.outcome == "undecided"
    assert findings.compare("P", Estimate(math.nan, 0.2), 1.0).verdict.outcome == "undecided"


def test_conclusion_shows_the_headline_or_what_failed():
    good, bad = (
        findings.compare(name, Estimate(value, 0.01), 1.0)
        for name, value in (("P", 1.0), ("Q", 2.0))
    )
    other = findings.compare("S", Estimate(1.02, 0.01), 1.0)
    shown = findings.conclude([good, other], headline="P")
    assert (shown.quantity, shown.verdict.outcome) == ("P", "holds")
    assert "S = 1.02" in shown.verdict.reason
    shown = findings.conclude([good, bad], headline="P")
    assert (shown.quantity, shown.verdict.outcome) == ("Q", "fails")


def test_richardson_is_exact_for_polynomials():
    values = [2.0 + 3.0 * h - h**2 + 0.5 * h**3 for h in (0.4, 0.2, 0.1, 0.05)]
    assert richardson(values) == pytest.approx(2.0, abs=1e-14)


@pytest.mark.parametrize(
    ("measured", "bound", "outcome", "sharp"),
    [
        (Estimate(1.0, 0.01), 1.0, "holds", True),
        (Estimate(1.0, 0.01), 0.96, "holds", True),
        (Estimate(1.0, 0.01), 0.94, "fails", True),
        (Estimate(1.0, 0.01), 1.85, "holds", True),
        (Estimate(1.0, 0.01), 1.95, "holds", False),  # twice the measured value is within 5 errors
        (Estimate(1.0, 0.01, kurtosis=30.0), 5.0, "undecided", False),
        (Estimate(1.0, 1e-17, kurtosis=30.0), 1.0, "holds", True),
        (Estimate(0.0, 0.0), 1.0, "holds", False),
    ],
)
def test_a_bound_is_sharp_if_twice_the_measured_value_is_red(measured, bound, outcome, sharp):
    found = findings.at_most("|S|", measured, bound, "why")
    assert (found.verdict.outcome, found.sharp) == (outcome, sharp)
    doubled = Estimate(2 * measured.value, 2 * measured.standard_error, measured.kurtosis)
    if outcome == "holds":
        red = findings.at_most("|S|", doubled, bound, "why").verdict.outcome == "fails"
        assert red == sharp
    ratio = bound / measured.value if measured.value else math.inf
    assert found.tightness == pytest.approx(ratio)


def test_sums_and_multiples_keep_the_larger_kurtosis():
    heavy, light = Estimate(1.0, 0.1, kurtosis=30.0), Estimate(2.0, 0.1)
    assert findings.add(heavy, light).kurtosis == 30.0
    assert findings.scale(heavy, -2.0).kurtosis == 30.0
    rounding = Estimate(1.0, 1e-17, kurtosis=30.0)  # has no tails that matter
    assert findings.add(rounding, Estimate(2.0, 0.1, kurtosis=3.0)).kurtosis == 3.0


@pytest.mark.parametrize("units", [8, 32])
def test_false_alarms_are_as_frequent_as_stated(units):
    """Means of normal samples against a limit of two standard errors, 20 000 times."""
    samples = np.random.default_rng(0).standard_normal((20_000, units))
    errors = samples.std(1, ddof=1) / math.sqrt(units)
    rate = (np.abs(samples.mean(1)) > 2 * errors).mean()
    stated = findings.false_alarm(2.0, Estimate(0.0, 1.0, units=units))
    assert abs(rate - stated) < 5 * math.sqrt(stated / 20_000)
    normal = 0.0455  # a normal law understates it
    assert rate > normal + 5 * math.sqrt(normal / 20_000) or units == 32


def test_false_alarms_add_up_and_exact_comparisons_have_none():
    sampled = findings.compare("P", Estimate(1.0, 0.01, units=256), 1.0)
    exact = findings.compare("Q", Estimate(1.0, 0.0), 1.0)
    assert exact.false_alarm == 0.0 < sampled.false_alarm < 2e-6
    both = findings.conclude([sampled, exact, sampled])
    assert both.false_alarm == pytest.approx(2 * sampled.false_alarm)


def test_the_closest_comparison_is_the_one_that_uses_most_of_what_is_allowed():
    loose = findings.at_most("loose", Estimate(1.0, 0.1), 1000.0, "far below its bound")
    tight = findings.at_most("tight", Estimate(1.0, 0.1), 1.1, "just below its bound")
    over = findings.at_most("over", Estimate(1.2, 0.1), 1.1, "within sampling errors")
    near = findings.compare("P", Estimate(1.04, 0.01), 1.0)
    assert "just below" in findings.conclude([loose, tight]).verdict.reason
    assert "within" in findings.conclude([loose, over, tight]).verdict.reason
    assert "P = 1.04" in findings.conclude([loose, over, near, tight]).verdict.reason
    assert findings.conclude([loose, over, tight]).share == pytest.approx(0.2)
