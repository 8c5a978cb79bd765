"""Power: every mistake that rule (d) lists, made on purpose, turns a check red (fast cases)."""

import pytest
from paper_checks.measurement import Settings

from paper_checks import (
    check_certificates,
    check_model_theorems,
    check_models,
    check_remainder,
    check_rollouts,
    check_structure,
    check_terms,
    check_values,
    model_mutations,
    mutations,
    rollout_mutations,
)

SETTINGS = Settings(paths=8192)
MODULES = (mutations, model_mutations, rollout_mutations)
OF_O8 = {"system": "EnumerationWorldModel", "increments": "enumerate", "drift": True, "expected": 3}


def exact(system, **more):
    return check_terms.exact, {"system": system, "steps": 4, **more}


CASES = {
    "drop_ito_correction": exact("GeometricBrownianMotion"),
    "drop_drift_hessian": exact("OrnsteinUhlenbeck"),
    "drop_drift_curvature": exact("QuadraticCascade"),
    "double_curvature_term": exact("QuadraticCascade"),
    "halve_hessian_term": exact("QuadraticCascade"),
    "independent_for_same": exact("OrnsteinUhlenbeck"),
    "same_for_independent": exact("OrnsteinUhlenbeck", driver="independent"),
    "cut_loop": exact("ClosedLoop"),
    "drop_diffusion_curvature": (check_terms.enumerated, {"driver": "same"}),
    "drop_first_order": (check_remainder.order, OF_O8 | {"driver": "same", "steps": 3}),
    "swap_sizes": (check_remainder.own_sizes, {"drift_share": 2.0}),
    "smooth_loss": (check_remainder.regularity, {}),
    "add_drift_error": (
        check_remainder.order,
        OF_O8 | {"driver": "independent", "drift": False, "expected": 4, "steps": 3},
    ),
    "noise_reads_latent": (check_structure.first_correction, {}),
    "sequence_noise_curved": (check_structure.second_correction, {}),
    "sequence_reads_latent": (check_structure.unseen_error, {}),
    "last_value_only": (check_terms.continuous_time, {}),
    "understate_rates": (check_rollouts.bound, {"case": "geometric", "grade": "log_norm"}),
    "separate_noise": (
        check_rollouts.bound,
        {"case": "tanh", "grade": "linearised", "share": 0.01, "t1": 1.0, "steps": 10},
    ),
    "without_noise": (check_rollouts.linear_exact, {}),
    "with_relaxation": (check_rollouts.integrator, {}),
    "far_error": (check_rollouts.prediction, {"case": "cubic", "share": 0.01}),
    "no_supremum_factor": (check_rollouts.suprema, {}),
    "rare_law": (check_values.order, {"law": "scaled", "expected": 3}),
    "scaled_law": (check_values.order, {"law": "rare", "expected": 1}),
    "drop_flow_curvature": (check_values.cubic, {}),
    "shifted_error": (check_values.unbiased, {}),
    "halve_first_layer": (check_certificates.attacked, {}),
    "stationary_variance": (check_models.step, {}),
    "stop_gradient": (check_models.derivatives, {}),
    "double_claim": (check_models.recovery, {}),
    "shift_for_noise": (check_models.noise_drift, {}),
    "drop_second_order": (check_model_theorems.expansion, {"episodes": (0,)}),
    "understate_error": (check_model_theorems.divergence, {"episodes": (0,)}),
    "rare_error": (check_model_theorems.value_bias, {}),
    "second_exponent": (check_model_theorems.exponent, {}),
    "swap_models": (check_model_theorems.penalty, {"figure": "frobenius"}),
}


@pytest.mark.parametrize("name", CASES)
def test_check_holds_and_its_mutation_is_red(name, monkeypatch):
    monkeypatch.setattr(check_certificates, "NETWORKS", 8)
    check, arguments = CASES[name]
    assert check(SETTINGS, mutations.identity, **arguments).verdict.outcome == "holds"
    mutated = check(SETTINGS, getattr(mutations, name), **arguments)
    assert mutated.verdict.outcome == "fails", mutated.verdict.reason


@pytest.mark.parametrize(
    ("name", "term", "check", "value"),
    [
        ("drop_ito_correction", "P", exact("GeometricBrownianMotion"), 1.079769),
        ("drop_drift_hessian", "c2", exact("OrnsteinUhlenbeck"), 0.204588),
        ("drop_drift_curvature", "Q", exact("QuadraticCascade"), 0.0),
        ("cut_loop", "P_drift", exact("ClosedLoop"), 0.141669),
    ],
)
def test_mutation_gives_the_wrong_value_that_is_known(name, term, check, value):
    """The values of rule (d) are those of continuous time, so a few per cent of step error."""
    from paper_checks.measurement import Measured, case_problem

    from sdewm.sde import examples

    case = getattr(examples, check[1]["system"])()
    settings = Settings(paths=16_384)
    wrong = Measured(getattr(mutations, name)(case_problem(case)), settings).term(term)
    right = Measured(case_problem(case), settings).term(term)
    allowed = 5 * wrong.standard_error + 0.05 * abs(value) + 1e-9
    assert abs(wrong.value - value) < allowed
    assert abs(right.value - value) > allowed


def test_every_mutation_is_used_by_a_claim_and_tested_here():
    from paper_checks.ledger import read_claims

    made = {
        name
        for name, value in vars(mutations).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", "") in {m.__name__ for m in MODULES}
    } - {"identity", "ito_correction"}
    assert made == set(CASES)
    assert {claim.negative_control for claim in read_claims()} == made
