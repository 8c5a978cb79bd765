"""Measured terms against the exact terms of the ready systems, at the level of the scheme."""

from __future__ import annotations

from functools import cache
from typing import Any

from paper_checks.cases.expansions import STEPS, Measured, case_problem, ready_case
from paper_checks.findings import Finding, Mutate, Settings, compare, conclude
from sdewm.base.stats import Estimate

# Values of O8 (all sign patterns of its increments, 4 steps for the same driver, 3 for an
# independent one), computed once outside this repository and copied here: an oracle that shares
# no code with it. Each holds to half a unit of its last digit.
ENUMERATED = {
    "same": {
        "c0": "0.3741174005",
        "P": "0.115886893",
        "Q": "0.000547290846",
        "S": "0.141440733",
        "P_drift": "0.0287855953",
        "Q_drift": "0.00258019529",
        "S_cross": "0.00212842241",
        "S_drift": "0.00816042154",
        "c1": "0.144672488",
        "c2": "0.080056486",
    },
    "independent": {
        "c0": "0.3769343455",
        "P": "0.000000000000",
        "Q": "-0.0000212788",
        "S": "0.15143983",
        "P_drift": "0.0292507986",
        "Q_drift": "0.000360400319",
        "S_cross": "0.000000000000",
        "S_drift": "0.00827013647",
        "c1": "0.0292507986",
        "c2": "0.0801941046",
    },
}
ENUMERATED_STEPS = {"same": 4, "independent": 3}
ENUMERATED_LOSS = {0.1: "0.3893856754", -0.1: "0.3604501928"}  # E L(x^ε), same driver


def enumerated(settings: Settings, mutate: Mutate, *, driver: str) -> Finding:
    """The ten terms of O8 to 1e-10 and, for the same driver, E L at ε = ±0.1."""
    case = ready_case("EnumerationWorldModel")
    steps = ENUMERATED_STEPS[driver]
    measured = Measured(
        mutate(case_problem(case, driver, steps=steps, increments="enumerate")), settings
    )
    findings = [
        compare(name, measured.term(name), float(text), _half_unit(text) + 1e-10)
        for name, text in ENUMERATED[driver].items()
    ]
    if driver == "same":
        rows = measured.rows(list(ENUMERATED_LOSS))
        findings += [
            compare(f"E L at ε = {row.epsilon}", row.measured, float(text), _half_unit(text))
            for row, text in zip(rows, ENUMERATED_LOSS.values(), strict=True)
        ]
    return conclude(findings, headline="c2")


def _half_unit(text: str) -> float:
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def exact(
    settings: Settings,
    mutate: Mutate,
    *,
    system: str,
    driver: str = "same",
    headline: str = "c2",
    steps: int = STEPS,
    **parameters: Any,
) -> Finding:
    """Each term within five standard errors of its exact value for the same scheme (S5b, rule b).

    Args:
        settings: paths, seed, device.
        mutate: the negative control, or the identity.
        system: name of a ready system.
        driver: "same" or "independent".
        headline: the term reported if all agree.
        steps: number of steps of the scheme.
        parameters: keyword arguments of the system.
    """
    case = ready_case(system, **parameters)
    problem = mutate(case_problem(case, driver, steps=steps))
    measured = Measured(problem, settings)
    reference = case.exact_terms(driver=driver, steps=problem.steps)
    findings = [compare(name, measured.term(name), value) for name, value in reference.items()]
    return conclude(findings, headline)


CASES = (
    ("OrnsteinUhlenbeck", "same", {}),
    ("OrnsteinUhlenbeck", "independent", {}),
    ("LinearWorldModel", "same", {}),
    ("LinearWorldModel", "independent", {}),
    ("GeometricBrownianMotion", "same", {}),
    ("ScaledGeometricBrownianMotion", "same", {}),
    ("QuadraticCascade", "same", {}),
    ("QuadraticCascade", "independent", {}),
    ("QuadraticCascade", "same", {"loss": "h"}),
    ("PearsonDiffusion", "same", {}),
    ("ClosedLoop", "same", {}),
    ("CircleDiffusion", "same", {}),
    ("CircleDiffusion", "independent", {}),
)


def continuous_time(settings: Settings, mutate: Mutate) -> Finding:
    """All terms of all cases: the scheme's values, extrapolated in the step, equal the limit.

    The check `exact` compares the measured terms with the scheme's exact ones. This check relates
    the scheme to continuous time. It uses the exact values of the scheme, which have no sampling
    error: Richardson extrapolation from 16, 32, 64 and 128 steps, with the difference of its last
    two orders as the allowed error. Extrapolating Monte Carlo values, even coupled ones, would
    resolve nothing below their standard error, which is a thousand times larger.
    """
    extrapolate = mutate(richardson)
    findings = []
    for quantity, limit, values in _exact_values():
        bias = abs(richardson(values) - richardson(values[:-1]))
        estimate = Estimate(extrapolate(values), 0.0)
        findings.append(compare(quantity, estimate, limit, bias + 1e-9 * abs(limit)))
    return conclude(findings, headline="P of GeometricBrownianMotion (same)")


@cache  # for the negative control, which extrapolates the same values
def _exact_values() -> list[tuple[str, float, list[float]]]:
    """Each term of each case: its name, its limit, its values at 16, 32, 64 and 128 steps."""
    found = []
    for system, driver, parameters in CASES:
        case = ready_case(system, **parameters)
        schemes = [case.exact_terms(driver=driver, steps=16 * 2**k) for k in range(4)]
        for name, limit in case.exact_terms(driver=driver).items():
            values = [scheme[name] for scheme in schemes]
            found.append((f"{name} of {system} ({driver})", limit, values))
    return found


def richardson(values: list[float]) -> float:
    """Limit of values at steps Δ, Δ/2, Δ/4, …, whose error is a power series in Δ."""
    column = list(values)
    for order in range(1, len(values)):
        factor = 2.0**order
        column = [
            (factor * fine - coarse) / (factor - 1.0)
            for coarse, fine in zip(column, column[1:], strict=False)
        ]
    return column[0]
