"""The metrics of one run among runs that differ in the weight of the Jacobian penalty."""

from pathlib import Path

import pytest

from sdewm.base.records import ROOT
from sdewm.model_theorems.stability import jacobian_sizes
from sdewm.report import jacobian_weight
from sdewm.report.trained_run import load_trained_run

MODELS = ROOT / "paper_checks" / "small_models"
SHORT = {"START": 3, "HORIZON": 2, "LONG": 3, "EVERY": 5, "LYAPUNOV_STEPS": 6}
SHORT |= {"DISCARD": 2, "OPEN_LOOP_STEPS": 3, "COPIES": 1, "SAMPLES": 2}


def test_rows_of_a_run_are_its_own_figures_and_the_terms_are_weighted_as_in_the_expansion(
    monkeypatch,
):
    for name, value in SHORT.items():
        monkeypatch.setattr(jacobian_weight, name, value)
    found = []
    expand = jacobian_weight.expand_on_model

    def watched(*arguments, **options):
        found.append(expand(*arguments, **options).measured.terms)
        return type("Found", (), {"measured": type("Form", (), {"terms": found[-1]})})

    monkeypatch.setattr(jacobian_weight, "expand_on_model", watched)
    trained = load_trained_run(Path(MODELS / "weight0.1-seed0"), Path(MODELS / "episodes"))
    rows = {row["quantity"]: row for row in jacobian_weight.penalty_rows(trained, 3, seed=0)}
    assert [*rows] == [*jacobian_weight.QUANTITIES]
    assert all(row["weight"] == 0.1 and row["seed"] == 0 for row in rows.values())
    episodes = trained.episodes(3 + 1 + 6, 3, 0)
    sizes = jacobian_sizes(trained.model, episodes, every=5, seed=0)
    assert rows["jacobian"]["value"] == pytest.approx(float(sizes["frobenius"].mean()))
    assert rows["log_norm"]["value"] == pytest.approx(float(sizes["log_norm"].mean()))
    noisy, shifted = ({name: term.value for name, term in terms.items()} for terms in found)
    # Both parts and what they share are the whole of first and second order at ε = 1.
    for terms, name, others in (
        (noisy, "diffusion_terms", ("P_drift", "Q_drift", "S_cross")),
        (shifted, "drift_terms", ("P", "Q", "S_cross")),
    ):
        half = {"diffusion_terms": "S_drift", "drift_terms": "S"}[name]
        rest = sum(terms[other] for other in others) + 0.5 * terms[half]
        assert rows[name]["value"] == pytest.approx(terms["c1"] + terms["c2"] - rest, abs=1e-12)
    assert rows["divergence"]["value"] > 0 and rows["open_loop"]["value"] > 0
