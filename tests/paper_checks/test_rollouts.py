"""The checks on growth, rollouts and values have power: controls turn them red (fast cases)."""

import numpy as np
import pytest
import torch

from paper_checks import check_growth, check_rollouts, check_values
from paper_checks.cases.expansions import ready_case
from paper_checks.cases.rollouts import rollout_case
from paper_checks.findings import Settings
from paper_checks.negative_controls import rollouts
from paper_checks.negative_controls.expansions import identity
from paper_checks.negative_controls.rollouts import Understated, separate_noise, understate_rates
from sdewm.theory.curve import Curve

SETTINGS = Settings(paths=8192)
CASES = {
    "log norm": (
        check_rollouts.bound,
        {"case": "geometric", "grade": "log_norm", "share": 1.0},
        "understate_rates",
    ),
    "block": (
        check_rollouts.bound,
        {"case": "ornstein", "grade": "block", "share": 0.01},
        "understate_rates",
    ),
    "linearised": (
        check_rollouts.bound,
        {"case": "cubic", "grade": "linearised", "share": 0.001, "understate": 0.1},
        "understate_rates",
    ),
    "integrator": (check_rollouts.integrator, {}, "with_relaxation"),
    "linear": (check_rollouts.linear_exact, {}, "without_noise"),
    "cubic": (check_rollouts.cubic, {}, "understate_rates"),
    "oracle": (check_growth.oracle, {}, "understate_rates"),
    "growth": (
        check_growth.bound,
        {"case": "geometric", "grade": "log_norm", "share": 1.0},
        "understate_rates",
    ),
    "value": (check_values.cubic, {}, "drop_flow_curvature"),
}


@pytest.mark.parametrize("name", CASES)
def test_check_holds_and_its_control_is_red(name):
    check, arguments, control = CASES[name]
    assert check(SETTINGS, identity, **arguments).verdict.outcome == "holds"
    mutated = check(SETTINGS, getattr(rollouts, control), **arguments)
    assert mutated.verdict.outcome == "fails", mutated.verdict.reason


def curve(values, errors=(0.0, 0.0, 0.0)):
    return Curve(np.arange(3.0), np.array(values), np.array(errors))


@pytest.mark.parametrize(
    ("measured", "errors", "claimed", "outcome"),
    [
        ([1, 1, 1], [0, 0, 0], [1, 1, 1], "holds"),
        ([1, 1.1, 1], [0, 0, 0], [1, 1, 1], "fails"),
        ([1, 1.1, 1], [0, 0.03, 0], [1, 1, 1], "holds"),
        ([9, 1, 1], [0, 0, 0], [1, 1, 1], "holds"),
        ([1, np.nan, 1], [0, 0, 0], [1, 1, 1], "undecided"),
        ([1, 1, 1], [0, 0, 0], [1, np.inf, 1], "holds"),
    ],
)
def test_a_bound_is_compared_at_every_time_after_the_start(measured, errors, claimed, outcome):
    finding = check_rollouts.below("|D|", curve(measured, errors), curve(claimed))
    assert finding.verdict.outcome == outcome


def test_separate_noise_is_separate():
    rollout = separate_noise(rollout_case("linear"))
    measured = check_rollouts._measure(rollout, 200, 0)
    shared = check_rollouts._measure(rollout_case("linear"), 200, 0)
    assert measured["mean"].last.value > 2 * shared["mean"].last.value


def test_understated_rates_are_below_the_true_ones():
    rollout = understate_rates(rollout_case("geometric"))
    low = torch.zeros(1, dtype=torch.float64)
    wrong = rollout.bounded.certified_rates(low, low, 0.1, [slice(0, 1)])
    assert float(wrong.step) < 1.02 and float(wrong.noise) < 0.4


def test_a_bound_is_judged_where_it_is_reported():
    found = check_rollouts.below("|D|", curve([1, 1, 1]), curve([1, 1.5, 3000]))
    assert (found.tightness, found.sharp) == (3000.0, False)
    found = check_rollouts.below("|D|", curve([1, 1, 1]), curve([1, 3000, 1.5]))
    assert (found.tightness, found.sharp) == (1.5, True)
    heavy = Curve(np.arange(3.0), np.ones(3), np.full(3, 0.01), np.full(3, 30.0))
    assert check_rollouts.below("|D|", heavy, curve([1, 3, 3])).verdict.outcome == "undecided"


def test_the_rates_of_a_system_without_proofs_are_sampled_before_they_are_lowered():
    case = ready_case("TanhWorldModel")
    found = [
        Understated(case, factor).certified_rates(case.x0, case.x0, case.t1 / 16, [slice(0, 4)])
        for factor in (1.0, 0.2)
    ]
    assert found[0].step.shape == (1,) and found[0].log_norm.shape == (3, 1)
    assert float(found[1].step) == pytest.approx(0.2 * float(found[0].step))
    assert float(found[0].step) > 0.5
