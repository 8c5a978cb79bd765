"""Fundamental matrix: exact second moments, and bounds against the measured growth (S9–S13)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

import sdewm
from paper_checks.cases.expansions import Measured, case_problem, ready_case
from paper_checks.cases.rollouts import Rollout, rollout_case
from paper_checks.check_rollouts import below
from paper_checks.findings import Finding, Mutate, Settings, at_most, compare, conclude
from sdewm.base.stats import Estimate
from sdewm.sde.linear_moments import mean_square_growth_rate
from sdewm.sde.rates import ConstantJacobians
from sdewm.theory.bounds.formulas import doob_factor
from sdewm.theory.bounds.fundamental_matrix import Growth
from sdewm.theory.bounds.term_bounds import term_bounds
from sdewm.theory.verdict import FAILS, Verdict

LABELS = {
    "mean": "E‖Φ‖_F",
    "mean_square": "E‖Φ‖_F²",
    "sup": "E sup‖Φ‖_F",
    "sup_square": "E sup‖Φ‖_F²",
}
# O9: quantity -> printed value and half a unit of its last digit.
PRINTED = {
    "E‖Φ_T‖_F²": (1.2823094145, 5e-11),
    "λ": (0.0973714135, 5e-11),
    "ρ": (-0.0597326427, 5e-11),
    "S10 bound": (2.678512, 5e-7),
    "S11 bound by Doob": (7.263021, 5e-7),
    "S9 bound": (710973.01, 5e-3),
}


def bound(
    settings: Settings,
    mutate: Mutate,
    *,
    case: str,
    grade: str,
    names: tuple[str, ...] = ("mean", "mean_square", "sup", "sup_square"),
    kind: str = "certificate",
    **changes: Any,
) -> Finding:
    """Measured growth ≤ bound at every grid time, within five standard errors."""
    rollout = mutate(rollout_case(case, **changes))
    paths = max(2, round(settings.paths * rollout.share))
    grown = _grow(rollout, paths, settings.seed)
    claimed = grown.bounds[grade]
    if rollout.bounded is not None:
        claimed = _grow(rollout, 2, settings.seed, rollout.bounded).bounds[grade]
    if claimed.kind != kind:
        nothing = Estimate(float("nan"), float("nan"))
        reason = f"the bound is a {claimed.kind}, expected a {kind}"
        return Finding(grade, nothing, float("nan"), Verdict(FAILS, reason))
    return conclude(
        [below(f"{LABELS[name]} ({grade})", grown[name], claimed[name]) for name in names]
    )


def _grow(rollout: Rollout, paths: int, seed: int, system: Any = None) -> Growth:
    return sdewm.fundamental_matrix(
        system or rollout.system, rollout.x0, paths=paths, seed=seed, **rollout.grid
    )


def second_moment(settings: Settings, mutate: Mutate) -> Finding:
    """E‖Φ_t‖_F² of the scheme equals the value of the Kronecker form, for O9 and O2 (S12)."""
    findings = []
    for case in ("linear_flow", "linear"):
        rollout = mutate(rollout_case(case, share=0.1))
        paths = max(2, round(settings.paths * rollout.share))
        grown = _grow(rollout, paths, settings.seed)
        exact = _grow(rollout, 2, settings.seed, rollout.bounded).exact
        assert exact is not None  # constant Jacobians
        middle = exact.times[len(exact) // 2]
        for time in (middle, exact.times[-1]):
            name = f"E‖Φ‖_F² of {type(rollout.system).__name__} at {time:g}"
            findings.append(compare(name, grown.mean_square.at(time), exact.at(time).value))
    return conclude(findings, headline=findings[1].quantity)


def oracle(settings: Settings, mutate: Mutate) -> Finding:
    """The printed values of O9: exact moment, rates and the bounds S9–S12 in continuous time."""
    rollout = mutate(rollout_case("linear_flow"))
    system = rollout.bounded or rollout.system
    grown = sdewm.fundamental_matrix(system, rollout.x0, t1=1.5, steps=30, paths=2, form="sde")
    constants, bounds = grown.constants, grown.bounds
    assert constants is not None
    spread = torch.tensor(2.0 * 1.5 * constants.kappa**2, dtype=torch.float64)
    square = bounds["log_norm"]["mean_square"]
    values = {
        "λ": constants.lambda_,
        "S10 bound": square.last.value,
        "S11 bound by Doob": float(square.values.max()) * float(doob_factor(spread)),
        "S9 bound": bounds["gronwall"]["sup_square"].last.value,
    }
    if isinstance(system, ConstantJacobians):
        assert grown.exact_limit is not None
        values["ρ"] = mean_square_growth_rate(*system.jacobians())
        values["E‖Φ_T‖_F²"] = grown.exact_limit.last.value
    return conclude(
        [compare(name, Estimate(value, 0.0), *PRINTED[name]) for name, value in values.items()]
    )


def terms(
    settings: Settings, mutate: Mutate, *, system: str, driver: str = "same", **changes: Any
) -> Finding:
    """|P|, |P_drift|, |S|, |S_cross|, |S_drift| lie below their bounds (S13); equality in O1."""
    case = ready_case(system)
    problem = case_problem(case, driver, share=0.2)
    rollout = mutate(Rollout(case, case.x0, case.x0, case.t1, problem.steps, **changes))
    bounds = term_bounds(
        rollout.bounded or case,
        problem.error,
        problem.loss,
        problem.x0,
        t1=problem.t1,
        steps=problem.steps,
        paths=2000,
        seed=settings.seed,
    )
    measured, findings = Measured(problem, settings), []
    for name in ("S", "P", "P_drift", "S_cross", "S_drift"):
        value = measured.term(name)
        value = replace(value, value=abs(value.value))
        text = f"|{name}| = {value}, bound {bounds[name]:.6g}"
        findings.append(at_most(f"|{name}|", value, bounds[name], text))
    if system == "OrnsteinUhlenbeck":
        exact = case.exact_terms(driver=driver, steps=problem.steps)
        findings += [
            compare(f"bound on {name}", Estimate(bounds[name], 0.0), exact[name], 1e-9)
            for name in ("S", "S_drift")
        ]
    return conclude(findings)
