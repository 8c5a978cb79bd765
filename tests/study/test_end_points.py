"""End points of a study on the shipped world models, against slow versions and known cases."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.study import end_points
from sdewm.study.end_points import CONTEXT, SETTLED, Measurement, check_end_point, measure
from tests.child_process import ROOT

SHIPPED = ROOT / "paper_checks" / "small_models"


@pytest.fixture(scope="module")
def measured():
    return Measurement(SHIPPED / "weight0-seed0", SHIPPED / "episodes")


def test_the_decoded_error_is_that_of_filtering_row_by_row(measured):
    found = measured._decoded_error(ObservationPerturbation("shift", 0.3))
    model, episodes = measured.model, measured.episodes
    generator = torch.Generator().manual_seed(0)
    noise = model.draw_noise(tuple(episodes.rewards.shape), generator)
    state, errors = torch.zeros(len(noise), model.state_size).double(), []
    scale = episodes.observations.double().flatten(0, 1).std(0)
    for t in range(episodes.rewards.shape[1]):
        embed = model.embed(episodes.observations[:, t] + 0.3)
        action = episodes.previous_actions[:, t].double()
        state, _ = model.sample(state, action, embed, noise[:, t])
        decoded = model.world_model.decoder.predict(state)
        apart = (decoded - episodes.observations[:, t].double()) / scale
        errors.append(apart.square().mean(1))
    expected = torch.stack(errors[SETTLED:]).mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_without_a_perturbation_the_decoded_error_is_computed_once(measured, monkeypatch):
    kinds = [ObservationPerturbation(name, 0.0) for name in ("noise", "shift")]
    first = measured._decoded_error(kinds[0])
    monkeypatch.setattr(measured, "_decoded", None)
    assert measured._decoded_error(kinds[1]) is first
    with pytest.raises(TypeError):
        measured._decoded_error(ObservationPerturbation("shift", 0.3))


def test_the_area_is_trapezoidal_and_between_its_ends(measured, monkeypatch):
    errors = {0.0: 1.0, 0.05: 2.0, 0.1: 4.0, 0.2: 5.0, 0.4: 6.0}
    monkeypatch.setattr(
        measured, "_decoded_error", lambda one: np.full(3, errors[one.strength]), raising=False
    )
    area = 0.05 * 1.5 + 0.05 * 3 + 0.1 * 4.5 + 0.2 * 5.5
    assert measured.area("noise").value == pytest.approx(math.log(area / 0.4))


def test_the_latent_error_is_that_of_two_rollouts_step_by_step(measured):
    found = measured.latent_error("drift:0.3 5").value
    model, episodes = measured.model, measured.episodes
    count, context, generator = len(episodes.rewards), CONTEXT, torch.Generator().manual_seed(0)
    embeds = model.embed(episodes.observations[:, :context])
    noise = model.draw_noise((count, context), generator)
    actions = episodes.previous_actions.double()

    def filtered(error):
        state, seen = torch.zeros(count, model.state_size).double(), []
        for t in range(context):
            state, _ = model.sample(state, actions[:, t], embeds[:, t], noise[:, t])
            seen.append(state[:, model.latent])
            state = torch.cat([state[:, : model.latent.start], state[:, model.latent] + error], 1)
        return state, torch.stack(seen, 1)

    right, latents = filtered(0.0)
    signs = torch.randn(count, 1, latents.shape[2], generator=generator).double().sign()[:, 0]
    wrong, _ = filtered(0.3 * latents.flatten(0, 1).std(0) * signs)
    for k in range(5):
        drawn = model.draw_noise((count,), generator)
        right, wrong = (
            model.sample(state, actions[:, context + k], None, drawn)[0] for state in (right, wrong)
        )
    scale = episodes.observations.double().flatten(0, 1).std(0)
    ours, theirs = (model.world_model.decoder.predict(state) / scale for state in (right, wrong))
    distance = (theirs - ours).square().mean(1)
    ceiling = (ours.roll(1, 0) - ours).square().mean()
    assert found == pytest.approx(float((distance / ceiling).log().mean()), rel=1e-6)


def test_a_larger_latent_error_moves_predictions_more_and_drift_more_than_noise(measured):
    small, large = (measured.latent_error(f"zero_drift:{size} 15").value for size in (0.01, 0.02))
    assert large - small == pytest.approx(2 * math.log(2), abs=0.3)  # squared distances, linear
    drift = measured.latent_error("drift:0.01 15").value
    assert drift > small  # errors of one sign add up along the rows


def test_the_memory_is_at_most_the_norm_and_modes_are_counted(measured):
    found = measure(
        SHIPPED / "weight0-seed0", SHIPPED / "episodes", ["memory", "jacobian", "slow_modes"]
    )
    assert found[0].value < found[1].value
    eigenvalues = measured.eigenvalues
    assert found[2].value == pytest.approx(float((eigenvalues > 0.9).double().sum(2).mean()))


def test_a_collapsed_imagination_has_a_small_spread():
    real = np.random.default_rng(0).normal(size=(40, 6, 2))
    rollout = SimpleNamespace(observations=np.stack([real, real]) * 0.1)
    found = SimpleNamespace(observations=real, rollout=rollout)
    run = SimpleNamespace(predicted=found, scale=1.0)
    spread = Measurement.imagined_spread(run, "4")
    assert spread.value == pytest.approx(math.log(0.1))


def test_the_tail_and_the_loss_are_read_after_the_warm_up(measured, monkeypatch):
    rows = [
        {
            "updates": u, "loss/total": float(u),
            "gradient_norm/model_p99": 4.0 if u > 200 else 100.0,
            "gradient_norm/model_median": 2.0,
        }
        for u in range(250, 8001, 250)
    ]  # fmt: skip
    rows[0]["updates"], rows[0]["gradient_norm/model_p99"] = 200, 100.0
    monkeypatch.setattr(end_points, "read_log", lambda path: (rows, {}))
    assert measured.gradient_tail("").value == pytest.approx(math.log(2))
    assert measured.final_loss("").value == pytest.approx(np.mean([7250, 7500, 7750, 8000]))
    monkeypatch.setattr(end_points, "read_log", lambda path: (rows[:1], {}))
    with pytest.raises(ValueError, match="has no log between 200 updates, the warm-up, and"):
        measured.gradient_tail("")
    monkeypatch.setattr(end_points, "read_log", lambda path: ([], {}))
    with pytest.raises(ValueError, match="has no log up to"):
        measured.final_loss("")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("area nois", "did you mean 'noise'?"),
        ("area shift-held", "shift"),
        ("latent_error zero_drift:0 15", "expected a size above 0"),
        ("latent_error zero_drift:0.1", "expected 1 to 80 policy steps"),
        ("latent_error zerodrift:0.1 15", "did you mean 'zero_drift'?"),
        ("imagined_spread", "expected 1 to 80 policy steps"),
        ("memory 3", "'memory' takes nothing after it"),
        ("decoded gravity:0.1", "expected one strength of one of"),
    ],
)
def test_wrong_end_points_are_named(name, said):
    with pytest.raises(ValueError) as problem:
        check_end_point(name)
    assert said in str(problem.value)


def test_an_open_loop_end_point_is_the_mean_logarithm_at_its_step(monkeypatch):
    errors = np.exp(np.arange(12.0).reshape(2, 6))  # of 2 episodes at 6 steps
    rollout = SimpleNamespace(observations=np.stack([errors, errors]))
    found = SimpleNamespace(rollout=rollout, observations=errors)
    monkeypatch.setattr(end_points, "squared_error", lambda one, truth: one)
    run = SimpleNamespace(predicted=found, scale=1.0)
    measured = end_points.Measurement.open_loop(run, "4")
    assert measured.value == pytest.approx((3 + 9) / 2)
