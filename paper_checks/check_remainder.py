"""Remainder of the expansion: its order in the size of the error, and its parity."""

from __future__ import annotations

from typing import Any

from paper_checks.cases.expansions import STEPS, Measured, case_problem, ready_case
from paper_checks.findings import (
    SIZES,
    SMALL_SIZES,
    Finding,
    Mutate,
    Settings,
    add,
    compare,
    conclude,
    false_alarm,
    min_units,
    order_finding,
    scale,
    subtract,
)
from sdewm.base.stats import Estimate
from sdewm.theory.expansion.expand import CurveRow
from sdewm.theory.verdict import FAILS, HOLDS, UNDECIDED, Verdict


def order(
    settings: Settings,
    mutate: Mutate,
    *,
    system: str,
    driver: str,
    drift: bool,
    expected: int,
    steps: int = STEPS,
    increments: str = "gaussian",
    **parameters: Any,
) -> Finding:
    """Order of the path-wise remainder in ε (rules 2 and c)."""
    case = ready_case(system, **parameters)
    problem = case_problem(case, driver, drift=drift, steps=steps, increments=increments)
    measured = Measured(mutate(problem), settings)
    rows = measured.rows(SIZES if increments == "enumerate" else SMALL_SIZES)
    return order_finding(rows, expected, abs(measured.term("c0").value))


def own_sizes(settings: Settings, mutate: Mutate, *, drift_share: float) -> Finding:
    """Order 3 along ε_d = `drift_share` · ε_n, for O8 by enumeration (S4, last point)."""
    case = ready_case("EnumerationWorldModel")
    problem = mutate(case_problem(case, "same", steps=4, increments="enumerate"))
    measured = Measured(problem, settings)
    rows = measured.rows([(drift_share * size, size) for size in SIZES])
    return order_finding(rows, 3, abs(measured.term("c0").value))


def parity(settings: Settings, mutate: Mutate) -> Finding:
    """Odd part of E L at ε = 0.2 for O8, with zero-drift error on an independent driver (S5)."""
    case = ready_case("EnumerationWorldModel")
    problem = case_problem(case, "independent", drift=False, steps=3, increments="enumerate")
    plus, minus = Measured(mutate(problem), settings).rows([0.2, -0.2])
    odd = Estimate(0.5 * (plus.measured.value - minus.measured.value), 0.0)
    small = abs(odd.value) < 1e-14
    verdict = Verdict(HOLDS if small else FAILS, f"odd part {odd.value:.2g}, allowed 1e-14")
    return Finding("odd part of E L", odd, 0.0, verdict, 1e-14)


def first_order_vanishes(settings: Settings, mutate: Mutate) -> Finding:
    """P and S_cross are 0 for an independent driver: by enumeration and for a tanh model (S5)."""
    findings = []
    for case, options in (
        (ready_case("EnumerationWorldModel"), {"steps": 3, "increments": "enumerate"}),
        (ready_case("TanhWorldModel"), {"share": 0.3}),
    ):
        measured = Measured(mutate(case_problem(case, "independent", **options)), settings)
        for name in ("P", "S_cross"):
            findings.append(compare(f"{name} of {type(case).__name__}", measured.term(name), 0.0))
    return conclude(findings, headline="P of TanhWorldModel")


def coefficients(
    settings: Settings,
    mutate: Mutate,
    *,
    system: str,
    driver: str,
    drift: bool = True,
    share: float = 1.0,
    **parameters: Any,
) -> Finding:
    """c1 and c2 against the odd and even part of E L in ε, on the same paths (rules 2 and 3).

    The odd part (E L(x^ε) − E L(x^-ε)) / 2ε is c1 plus the odd part of the remainder over ε; the
    even part is c2 plus the even part of the remainder over ε². Only the errors of the path-wise
    remainders count, which for the even part are of order ε², two orders below the sampling error
    of c2 itself. Richardson extrapolation from ε = 0.1 and 0.05; the last correction is the allowed
    bias (rule b).
    """
    case = ready_case(system, **parameters)
    problem = mutate(case_problem(case, driver, drift=drift, share=share))
    measured = Measured(problem, settings)
    rows = measured.rows([0.1, -0.1, 0.05, -0.05])
    wide, narrow = _parts(rows[0], rows[1]), _parts(rows[2], rows[3])
    findings = []
    for name, coarse, fine in zip(("c1", "c2"), wide, narrow, strict=True):
        claimed = measured.term(name).value
        limit = (4.0 * fine.value - coarse.value) / 3.0
        error = (4.0 * fine.standard_error + coarse.standard_error) / 3.0
        estimate = Estimate(claimed + limit, error)
        # Both parts are claimed to be O(ε²), so the correction is a third of their difference.
        bias = abs(fine.value - coarse.value) / 3.0
        findings.append(compare(f"{name} (differences)", estimate, claimed, bias))
    return conclude(findings, headline=findings[1].quantity)


def _parts(plus: CurveRow, minus: CurveRow) -> tuple[Estimate, Estimate]:
    """Odd part of the remainder over ε, even part over ε²."""
    assert isinstance(plus.epsilon, float)
    odd = scale(subtract(plus.remainder, minus.remainder), 0.5 / plus.epsilon)
    return odd, scale(add(plus.remainder, minus.remainder), 0.5 / plus.epsilon**2)


def regularity(settings: Settings, mutate: Mutate) -> Finding:
    """L = |x|^(5/2) is only in C²: the remainder has exactly the order 5/2 (S2, O12)."""
    case = ready_case("RegularityCounterexample")
    measured = Measured(mutate(case_problem(case, steps=1)), settings)
    rows = measured.rows(SIZES)
    findings = [order_finding(rows, 2.5, abs(rows[-1].measured.value))]
    for row in rows:
        assert isinstance(row.epsilon, float)
        quantity = f"remainder at ε = {row.epsilon}"
        findings.append(compare(quantity, row.remainder, case.exact_loss(row.epsilon)))
    return conclude(findings)


def sign(settings: Settings, mutate: Mutate, *, system: str) -> Finding:
    """For a convex loss S ≥ 0, yet R(ε) = E L(x^ε) − E L(x^0) < 0 (S5a).

    R is computed on coupled paths as ε c1 + ε² c2 + remainder. Comparing c2 with its exact value
    explains the sign of R.
    """
    case = ready_case(system)
    problem = mutate(case_problem(case, "independent", drift=False))
    measured = Measured(problem, settings)
    exact = case.exact_terms(driver="independent", steps=problem.steps)
    c2 = exact["Q"] + 0.5 * exact["S"]  # zero drift
    size = 0.25
    row = measured.rows([size])[0]
    first, second = measured.term("c1"), measured.term("c2")
    value = size * first.value + size**2 * second.value + row.remainder.value
    error = (
        size * first.standard_error + size**2 * second.standard_error + row.remainder.standard_error
    )
    margin = 5 * error
    outcome = HOLDS if value + margin < 0 else FAILS if value - margin > 0 else UNDECIDED
    reason = f"R({size}) = {value:.5f} ± {error:.1g} with S = {measured.term('S')}"
    estimate = Estimate(value, error, units=min_units((first, second, row.remainder)))
    negative = Finding(
        f"R at ε = {size}",
        estimate,
        size**2 * c2,
        Verdict(outcome, reason),
        used=margin / abs(value),
        false_alarm=false_alarm(margin, estimate, sides=1),
    )
    findings = [negative, compare("c2", second, c2), compare("S", measured.term("S"), exact["S"])]
    return conclude(findings)
