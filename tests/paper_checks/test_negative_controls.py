"""Power: every mistake that rule (d) lists, made on purpose, turns a check red (fast cases)."""

import inspect

import pytest

from paper_checks import (
    check_approximation,
    check_certificates,
    check_derivations,
    check_enclosure,
    check_known_filter,
    check_latent_system,
    check_model_theorems,
    check_penalty,
    check_remainder,
    check_rollouts,
    check_structure,
    check_study,
    check_terms,
    check_training,
    check_values,
)
from paper_checks.findings import Settings
from paper_checks.ledger import named, read_claims
from paper_checks.negative_controls import (
    approximation,
    derivations,
    expansions,
    known_filter,
    penalty,
    rollouts,
    studies,
    trained_models,
)

CONTROLS = "paper_checks.negative_controls"
PATHS = {"rollouts:no_supremum_factor": 65536}  # of fewer, the largest D² have heavy tails
MODULES = (
    approximation,
    derivations,
    expansions,
    known_filter,
    penalty,
    rollouts,
    studies,
    trained_models,
)
OF_O8 = {"system": "EnumerationWorldModel", "increments": "enumerate", "drift": True, "expected": 3}


def exact(system, **more):
    return check_terms.exact, {"system": system, "steps": 4, **more}


CASES = {
    "approximation:jumping_code": (check_approximation.obstruction, {}),
    "approximation:wrong_smoothness": (check_approximation.rate, {}),
    "approximation:sorted_pairs": (check_approximation.coupling, {}),
    "expansions:drop_ito_correction": exact("GeometricBrownianMotion"),
    "expansions:drop_drift_hessian": exact("OrnsteinUhlenbeck"),
    "expansions:drop_drift_curvature": exact("QuadraticCascade"),
    "expansions:double_curvature_term": exact("QuadraticCascade"),
    "expansions:halve_hessian_term": exact("QuadraticCascade"),
    "expansions:independent_for_same": exact("OrnsteinUhlenbeck"),
    "expansions:same_for_independent": exact("OrnsteinUhlenbeck", driver="independent"),
    "expansions:cut_loop": exact("ClosedLoop"),
    "expansions:drop_diffusion_curvature": (check_terms.enumerated, {"driver": "same"}),
    "expansions:swap_sizes": (check_remainder.own_sizes, {"drift_share": 2.0}),
    "expansions:smooth_loss": (check_remainder.regularity, {}),
    "expansions:add_drift_error": (
        check_remainder.order,
        OF_O8 | {"driver": "independent", "drift": False, "expected": 4, "steps": 3},
    ),
    "expansions:noise_reads_latent": (check_structure.first_correction, {}),
    "expansions:sequence_noise_curved": (check_structure.second_correction, {}),
    "expansions:sequence_reads_latent": (check_structure.unseen_error, {}),
    "expansions:last_value_only": (check_terms.continuous_time, {}),
    "derivations:drop_error_slope": (check_derivations.variation, {}),
    "derivations:drop_corrections": (check_derivations.correction, {}),
    "derivations:drop_sequence_correction": (check_derivations.structure, {}),
    "derivations:drop_drift_curvature_of_loss": (check_derivations.assembled, {}),
    "derivations:drop_squared_error": (
        check_derivations.moments,
        {"system": "ScaledGeometricBrownianMotion"},
    ),
    "derivations:drop_relaxation": (check_derivations.residual, {}),
    "derivations:freeze_statistics": (check_derivations.layer_norm, {}),
    "rollouts:understate_rates": (check_rollouts.bound, {"case": "geometric", "grade": "log_norm"}),
    "rollouts:separate_noise": (
        check_rollouts.bound,
        {
            **{"case": "tanh", "grade": "linearised", "kind": "estimate"},
            **{"share": 0.01, "t1": 1.0, "steps": 10},
        },
    ),
    "rollouts:without_noise": (check_rollouts.linear_exact, {}),
    "rollouts:with_relaxation": (check_rollouts.integrator, {}),
    "rollouts:far_error": (check_rollouts.prediction, {"case": "cubic", "share": 0.01}),
    "rollouts:no_supremum_factor": (check_rollouts.suprema, {}),
    "rollouts:rare_law": (check_values.order, {"law": "scaled", "expected": 3}),
    "rollouts:scaled_law": (check_values.order, {"law": "rare", "expected": 1}),
    "rollouts:drop_flow_curvature": (check_values.cubic, {}),
    "rollouts:shifted_error": (check_values.unbiased, {}),
    "rollouts:halve_first_layer": (check_certificates.attacked, {}),
    "penalty:root_before_average": (check_penalty.root, {}),
    "penalty:constant_deviation": (check_penalty.rate, {}),
    "penalty:sample_for_probabilities": (check_penalty.samples, {}),
    "penalty:forgotten_coordinate": (check_penalty.memory_floor, {}),
    "penalty:constant_error": (check_training.implicit_regularisation, {}),
    "known_filter:trust_observations": (check_known_filter.errors, {}),
    "known_filter:forget_less": (check_known_filter.growth, {}),
    "trained_models:stationary_variance": (check_latent_system.step, {}),
    "trained_models:stop_gradient": (check_latent_system.derivatives, {}),
    "trained_models:double_claim": (check_latent_system.recovery, {}),
    "trained_models:shift_for_noise": (check_latent_system.noise_drift, {}),
    "trained_models:drop_second_order": (check_model_theorems.expansion, {"episodes": (0,)}),
    "trained_models:understate_tenth": (check_enclosure.attacked, {"steps": 2}),
    "trained_models:understate_error": (check_model_theorems.divergence, {"episodes": (0,)}),
    "trained_models:rare_error": (check_model_theorems.value_bias, {}),
    "trained_models:second_exponent": (check_model_theorems.exponent, {}),
    "trained_models:swap_models": (check_model_theorems.penalty, {"quantity": "frobenius"}),
    "studies:invented_gain": (
        check_study.verdict,
        {"study": "cartpole", "claim": "C3", "arms": ("penalty_0001",), "says": "refuted"},
    ),
    "trained_models:forgetful_step": (check_model_theorems.memory_floor, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_check_holds_and_its_mutation_is_red(name, monkeypatch):
    monkeypatch.setattr(check_certificates, "NETWORKS", 8)
    check, arguments = CASES[name]
    settings = Settings(paths=PATHS.get(name, 8192))
    assert check(settings, expansions.identity, **arguments).verdict.outcome == "holds"
    mutated = check(settings, named(CONTROLS, name), **arguments)
    assert mutated.verdict.outcome == "fails", mutated.verdict.reason


@pytest.mark.parametrize(
    ("name", "term", "check", "value"),
    [
        ("expansions:drop_ito_correction", "P", exact("GeometricBrownianMotion"), 1.079769),
        ("expansions:drop_drift_hessian", "c2", exact("OrnsteinUhlenbeck"), 0.204588),
        ("expansions:drop_drift_curvature", "Q", exact("QuadraticCascade"), 0.0),
        ("expansions:cut_loop", "P_drift", exact("ClosedLoop"), 0.141669),
    ],
)
def test_mutation_gives_the_wrong_value_that_is_known(name, term, check, value):
    """The values of rule (d) are those of continuous time, so a few per cent of step error."""
    from paper_checks.cases.expansions import Measured, case_problem
    from sdewm.sde import examples

    case = getattr(examples, check[1]["system"])()
    settings = Settings(paths=16_384)
    wrong = Measured(named(CONTROLS, name)(case_problem(case)), settings).term(term)
    right = Measured(case_problem(case), settings).term(term)
    allowed = 5 * wrong.standard_error + 0.05 * abs(value) + 1e-9
    assert abs(wrong.value - value) < allowed
    assert abs(right.value - value) > allowed


def test_every_control_is_used_by_a_claim_and_tested_here():
    made = {
        f"{module.__name__.rpartition('.')[2]}:{name}"
        for module in MODULES
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    } - {"expansions:identity"}
    assert made == set(CASES)
    assert {claim.negative_control for claim in read_claims()} == made
