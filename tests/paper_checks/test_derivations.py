"""Derivations: their steps agree, they print as LaTeX, and they give the closed forms on paper."""

from dataclasses import replace

import pytest
import sympy as sp

from paper_checks import check_derivations
from paper_checks.cases.derivations import JET, CurvedSystem
from paper_checks.derivations import moments
from paper_checks.derivations.assembly import TERMS, assembly
from paper_checks.derivations.block_structure import H, S, Z, block_structure
from paper_checks.derivations.ito_correction import (
    Differential,
    commuting,
    ito_correction,
    product_rule,
)
from paper_checks.derivations.layer_norm import layer_norm
from paper_checks.derivations.residual_form import residual_form
from paper_checks.derivations.steps import Derivation, Step, equation, same
from paper_checks.derivations.variation import variation_equations
from paper_checks.findings import Settings
from paper_checks.negative_controls import derivations as controls

SYSTEMS = (
    "OrnsteinUhlenbeck",
    "GeometricBrownianMotion",
    "ScaledGeometricBrownianMotion",
    "PearsonDiffusion",
    "QuadraticCascade",
)


def closure(name, scheme=False, driver="same"):
    return moments.moment_closure(moments.perturbed_system(name, driver), scheme)


MAKE = {
    "variation": variation_equations,
    "variation of two states": lambda: variation_equations(2, 2),
    "assembly": assembly,
    "assembly of two states": lambda: assembly(2),
    "correction": ito_correction,
    "structure": block_structure,
    "residual form": residual_form,
    "layer norm": layer_norm,
    **{name: lambda name=name: closure(name) for name in SYSTEMS},
    "OrnsteinUhlenbeck, scheme": lambda: closure("OrnsteinUhlenbeck", scheme=True),
}


@pytest.fixture(scope="module", params=MAKE)
def derivation(request):
    return MAKE[request.param]()


def disagreements(derivation):
    """Texts of the steps that claim to repeat the step before but differ from it."""
    return [
        now.text
        for before, now in zip(derivation.steps, derivation.steps[1:], strict=False)
        if now.repeats and not same(before.formula.rhs, now.formula.rhs)
    ]


def test_a_step_that_repeats_the_one_before_equals_it(derivation):
    assert not derivation.steps[0].repeats
    assert disagreements(derivation) == []


def balanced(text):
    depth = 0
    for one in text:
        depth += {"{": 1, "}": -1}.get(one, 0)
        if depth < 0:
            return False
    return depth == 0


def test_latex_has_every_step_and_balanced_braces(derivation):
    text = derivation.to_latex()
    assert derivation.title in text and derivation.number in text
    assert text.count(r"\[") == text.count(r"\]") == len(derivation.steps)
    assert balanced(text)
    for step in derivation.steps:
        assert step.text in text
    assert "None" not in text and "Subs" not in text


def test_a_wrong_step_is_noticed():
    x = sp.Symbol("x")
    right = Step("The square is", equation("a", (x + 1) ** 2))
    wrong = Step("Expanded,", equation("a", x**2 + 1), True)
    derivation = Derivation("A square", "S1", (right, wrong), {})
    assert disagreements(derivation) == ["Expanded,"]
    expanded = replace(wrong, formula=equation("a", x**2 + 2 * x + 1))
    assert disagreements(replace(derivation, steps=(right, expanded))) == []


def test_every_stated_form_is_compared():
    """Of each derivation that has a stated form in MATHEMATICS.md, as many as there are."""
    counts = {name: sum(step.repeats for step in MAKE[name]().steps) for name in MAKE}
    assert counts["variation of two states"] == 5  # y and w by direction
    assert counts["assembly of two states"] == 2
    assert counts["correction"] == 2
    assert counts["structure"] == 2
    assert counts["residual form"] == 1
    assert counts["layer norm"] == 3


def test_assembly_is_equation_2():
    results = assembly().results
    half = sp.Rational(1, 2)
    assert results["c1"] == TERMS["P"] + TERMS["P_drift"]
    assert results["c2"] == (
        TERMS["Q"]
        + half * TERMS["S"]
        + TERMS["Q_drift"]
        + TERMS["S_cross"]
        + half * TERMS["S_drift"]
    )


def test_itos_product_rule_gives_the_square_of_brownian_motion():
    b = sp.Symbol("b", commutative=False)
    unit = Differential(sp.S.Zero, (sp.S.One, sp.S.Zero))
    assert product_rule(b, unit, b, unit) == Differential(sp.S.One, (2 * b, sp.S.Zero))


def test_the_correction_of_a_scalar_equation_is_minus_nu_sigma_bar():
    nu, zero = sp.Symbol("nu"), {"A_{2}": 0}
    forcing = commuting(ito_correction().results["y"], {"A_{1}": nu} | zero)
    assert same(forcing, sp.Symbol(r"\sigma") - nu * sp.Symbol(r"\bar{\sigma}_{1}"))


@pytest.mark.parametrize(
    ("sequence", "vanishes"),
    [
        (sp.S.Zero, True),
        (sp.Function("f")(Z), True),
        (3 + 2 * H - 5 * Z, True),
        (Z * H, False),
        (sp.sin(H), False),
    ],
)
def test_the_correction_of_the_sequence_model_vanishes_under_the_conditions_of_s6(
    sequence, vanishes
):
    result = block_structure(sequence=sequence).results["seq"]
    assert same(result, sp.zeros(5, 1)) is vanishes


def test_an_encoder_diffusion_that_reads_z_brings_the_first_order_back():
    results = block_structure().results
    for name in ("first", "enc", "pred", "dec"):
        assert results[name] == sp.zeros(5, 1), name
    assert block_structure(encoder=sp.Function("q")(Z, H, S)).results["first"][0] != 0


def test_moments_of_the_ornstein_uhlenbeck_process_are_those_of_o1():
    a, q, sigma, bar = sp.symbols(r"a q \sigma \bar{\sigma}")
    for scheme in (False, True):
        derived = closure("OrnsteinUhlenbeck", scheme).results
        if scheme:
            decay = (1 - a * moments.LENGTH) ** moments.COUNT
            gain = (1 - decay) / a
            variance = moments.LENGTH * (1 - decay**2) / (1 - (1 - a * moments.LENGTH) ** 2)
        else:
            decay = sp.exp(-a * moments.TIME)
            gain, variance = (1 - decay) / a, (1 - decay**2) / (2 * a)
        stated = {
            "c0": (decay * moments.START) ** 2 + q**2 * variance,
            "P": 2 * q * bar * variance,
            "P_drift": 2 * moments.START * decay * sigma * gain,
            "Q + S/2": bar**2 * variance,
            "c2": bar**2 * variance + sigma**2 * gain**2,
        }
        numbers = {a: 0.7, q: 0.4, sigma: 0.9, bar: 1.1, moments.START: 1.3}
        numbers |= {moments.TIME: 1.7, moments.LENGTH: 0.1, moments.COUNT: 17}
        for name, value in stated.items():
            assert float((derived[name] - value).subs(numbers)) == pytest.approx(0, abs=1e-12)


def test_equal_rates_are_solved_by_a_power_of_time():
    """O3b: with a perturbed volatility the first-order moment resonates with the second moment."""
    derived = closure("ScaledGeometricBrownianMotion").results
    mu, nu, bar = sp.symbols(r"\mu \nu \bar{\sigma}")
    base = moments.START**2 * sp.exp((2 * mu + nu**2) * moments.TIME)
    assert same(derived["P"], 2 * nu * bar * moments.TIME * base)
    assert same(derived["c2"], bar**2 * (moments.TIME + 2 * nu**2 * moments.TIME**2) * base)


@pytest.mark.parametrize(
    ("control", "make"),
    [
        (controls.drop_error_slope, variation_equations),
        (controls.drop_corrections, ito_correction),
        (controls.drop_sequence_correction, block_structure),
        (controls.drop_drift_curvature_of_loss, assembly),
        (controls.drop_relaxation, residual_form),
        (controls.freeze_statistics, layer_norm),
    ],
)
def test_a_control_changes_the_results_and_nothing_else(control, make):
    right = make()
    wrong = control(right)
    assert wrong.steps == right.steps
    assert set(wrong.results) == set(right.results)
    assert any(not same(wrong.results[n], right.results[n]) for n in right.results)


def with_one_term_dropped(derivation):
    """(name, term, derivation without it) for every summand of every result."""
    for name, result in derivation.results.items():
        for term in sp.Add.make_args(sp.expand(result)):
            if term != 0:
                yield name, term, derivation.changed({name: sp.expand(result) - term})


@pytest.mark.parametrize(
    ("check", "make"),
    [
        (check_derivations.correction, ito_correction),
        (check_derivations.layer_norm, layer_norm),
        (check_derivations.assembled, lambda: assembly(2)),
    ],
)
def test_every_dropped_term_is_noticed(check, make):
    for name, term, wrong in with_one_term_dropped(make()):
        finding = check(Settings(), lambda _, wrong=wrong: wrong)
        assert finding.verdict.outcome == "fails", (name, term)


def test_every_term_of_the_variations_counts_at_the_system_of_their_check():
    case = CurvedSystem()
    at = dict(zip(JET.x, case.x0.tolist(), strict=True))
    columns = [case.drift, case.shift, *case.noise, *case.error]
    for entry in [entry for column in columns for entry in column]:
        slopes = [sp.diff(entry, x) for x in JET.x]
        for value in [entry, *slopes, *(sp.diff(slope, x) for slope in slopes for x in JET.x)]:
            assert abs(float(value.subs(at))) > 1e-3
