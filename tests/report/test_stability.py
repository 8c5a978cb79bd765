"""The spectral ledger of a run stands beside that of the simulator."""

import numpy as np
import pytest
import torch

import sdewm
from sdewm.model_theorems.physical_modes import step_jacobians
from sdewm.model_theorems.stability import step_eigenvalues
from sdewm.plots.panels import lay_out
from sdewm.report import stability
from sdewm.report.analyse_model import model_subject
from sdewm.report.trained_run import load_trained_run
from tests.child_process import ROOT

SHIPPED = ROOT / "paper_checks" / "small_models"


@pytest.fixture(scope="module")
def trained():
    return load_trained_run(SHIPPED / "agent", SHIPPED / "episodes")


def test_the_rows_are_those_of_the_eigenvalues(trained):
    episodes = trained.episodes(20, 4, 0)
    rows = {row["series"]: row for row in stability._spectrum(trained.subject, episodes, 4, 0)}
    assert {row["panel"] for row in rows.values()} == {"spectrum"}
    moduli = step_eigenvalues(trained.model, episodes, every=4, seed=0)
    per_state = torch.linalg.vector_norm(moduli, dim=2)
    assert rows["least norm"]["value"] == pytest.approx(float(per_state.mean()))
    slow = (moduli > 0.9).double().sum(2).mean()
    assert rows["modes beyond 0.9"]["value"] == pytest.approx(float(slow))
    jacobians, volumes = step_jacobians(
        trained.config.env, action_repeat=trained.config.action_repeat
    )
    own = np.linalg.eigvals(jacobians)
    norms = np.linalg.norm(own, axis=1)
    assert rows["simulator, least norm"]["value"] == pytest.approx(norms.mean())
    # S29: ‖J‖_F² ≥ d |det|^{2/d}, and the floor lies below any norm.
    floors = np.sqrt(4 * np.abs(np.linalg.det(jacobians)) ** (2 / 4))
    floor = rows["simulator, floor of the norm"]["value"]
    assert floor == pytest.approx(2 * np.exp(volumes.mean() / 4), rel=1e-9)
    assert floor < floors.mean() * (1 - 1e-6)  # along a path the mean of logarithms is bounded
    assert bool((floors <= np.linalg.norm(jacobians, axis=(1, 2))).all())
    assert bool((floors <= norms + 1e-9).all())


def test_a_simulator_whose_physics_is_not_known_has_no_rows(trained, monkeypatch):
    def unknown(*given, **named):
        raise ValueError("expected a dmc: environment")

    monkeypatch.setattr(stability, "step_jacobians", unknown)
    rows = stability._spectrum(trained.subject, trained.episodes(20, 2, 0), 8, 0)
    assert [row["series"] for row in rows] == ["modes beyond 0.9", "least norm"]


@pytest.mark.parametrize("exponents", [1, 2])
def test_exponents_of_a_direction_that_is_lost_are_not_drawn(exponents):
    """One direction of two is mapped to 0, or both."""
    keep = torch.tensor([[0.0, 0.5 * (exponents == 2)]]).double()
    model = sdewm.StepModel(
        lambda x, a, v: keep * x + 0.1 * v,
        state_size=2,
        noise_size=2,
        encoder=lambda x, o: (x + o, torch.full_like(x, 0.1)),
    )
    episodes = sdewm.Episodes(torch.ones(3, 9, 2), torch.zeros(3, 9, 1), torch.zeros(3, 9))
    settings = stability.Settings(start=1, steps=6, discard=1, exponents=exponents)
    rows = stability.rows(model_subject(model, episodes), settings, 0)
    last = {row["series"]: row["value"] for row in rows if row["panel"] == "recorded actions"}
    assert last[f"exponent {exponents}"] == -np.inf
    figure = lay_out(stability.ANALYSIS.figure(rows))
    low, high = figure.axes[1].get_ylim()
    middle = np.log(0.5) if exponents == 2 else 0.0
    assert low < middle < high < middle + 0.01
    (note,) = [text.get_text() for text in figure.texts if "95 %" in text.get_text()]
    assert "are not drawn" in " ".join(note.split())
