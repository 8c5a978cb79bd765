"""Errors under noise: soft worst case, tolerated strength, own output, value probe, ensembles."""

import math

import numpy as np
import pytest
import torch

from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.related.clean_target import difference
from sdewm.related.ensemble import ensemble_ratio
from sdewm.related.equivariance import log_distance, measure_clean, measure_own, measure_truth
from sdewm.related.filtered import filtered, recorded
from sdewm.related.soft_worst_case import soft_worst_case
from sdewm.related.tolerated_strength import tolerated
from sdewm.related.value_probe import explained, probe_scores, returns


def test_clean_observations_are_decoded_with_the_error_of_the_study(measured):
    study = measured.decoded("noise:0").value
    assert measure_clean(measured) == pytest.approx(study, rel=1e-12)


def test_noise_differs_by_draw_only_and_clean_output_by_nothing(measured):
    clean, again = filtered(measured, 0.0), filtered(measured, 0.0, draw=3)
    np.testing.assert_array_equal(clean.decoded, again.decoded)
    one, other = filtered(measured, 0.2), filtered(measured, 0.2, draw=1)
    assert np.abs(one.decoded - other.decoded).max() > 1e-3
    assert torch.equal(one.features, filtered(measured, 0.2).features)
    assert one.decoded.shape == recorded(measured).shape


def test_the_posterior_means_are_those_of_filtering_row_by_row(measured):
    model, episodes = measured.model, measured.episodes
    generator = torch.Generator().manual_seed(measured.seed + 1)
    seen = ObservationPerturbation("noise", 0.1)(episodes.observations, generator)
    noise = model.draw_noise(
        tuple(episodes.rewards.shape), torch.Generator().manual_seed(measured.seed)
    )
    state = torch.zeros(len(noise), model.state_size).double()
    for t in range(12):
        action = episodes.previous_actions[:, t].double()
        state, mean = model.sample(state, action, model.embed(seen[:, t]), noise[:, t])
    found = filtered(measured, 0.1)
    torch.testing.assert_close(found.features[:, 1], state, rtol=1e-6, atol=1e-8)  # SETTLED = 10
    torch.testing.assert_close(found.means[:, 1], mean[:, model.latent], rtol=1e-6, atol=1e-8)


def test_own_and_true_distance_differ_by_what_the_model_gets_wrong():
    truth, clean = np.zeros((2, 4, 3)), np.full((2, 4, 3), 1.0)
    noisy = clean + 0.5
    assert log_distance(noisy, clean) == pytest.approx(math.log(0.25))
    assert log_distance(noisy, truth) == pytest.approx(math.log(2.25))


def test_a_model_of_no_output_change_is_no_better_against_the_truth(measured):
    assert measure_own(measured) != pytest.approx(measure_truth(measured), abs=1e-3)


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_the_soft_worst_case_of_a_normal_law_is_its_cumulant_function(tau):
    errors = np.random.default_rng(0).normal(3.0, 0.5, size=200000)
    assert soft_worst_case(errors, tau) == pytest.approx(3.0 + 0.25 / (2 * tau), abs=0.01)


def test_the_soft_worst_case_lies_between_mean_and_maximum():
    errors = np.array([[1.0, 2.0], [3.0, 2.0], [800.0, 2.0]])
    assert soft_worst_case(errors, 1e6) == pytest.approx([268.0, 2.0], rel=0.01)
    assert soft_worst_case(errors, 1e-2) == pytest.approx([800.0, 2.0], rel=0.01)
    assert soft_worst_case(errors, 10.0)[0] < 800.0


@pytest.mark.parametrize(("draws", "value"), [(16, 0.25), (96, 0.30)])
def test_the_soft_worst_case_rises_with_the_draws_as_said(draws, value):
    squares = np.random.default_rng(0).standard_normal((draws, 4000, 4)) ** 2
    errors = squares.sum(-1)
    mean = errors.mean(0)
    found = np.log(soft_worst_case(errors, mean) / mean).mean()
    assert found == pytest.approx(value, abs=0.006) and found < math.log(math.log(4))


def test_the_tolerated_strength_is_the_first_crossing():
    strengths = np.array([0.0, 0.1, 0.2, 0.4])
    errors = np.array([0.01, 0.03, 0.07, 0.02])  # below the target again at the end
    assert tolerated(strengths, errors, 0.05) == pytest.approx(0.15)
    assert tolerated(strengths, errors, 0.005) == 0.0
    assert tolerated(strengths, errors, 0.1) == 0.4
    assert tolerated(strengths, errors, 0.07) == 0.4  # at the target is still tolerated


@pytest.mark.parametrize(("shared", "share"), [(0.0, 1 / 3), (1.0, 1.0)])
def test_the_ensemble_keeps_the_error_that_models_share(shared, share):
    source = np.random.default_rng(0)
    own = source.normal(size=(3, 20000, 2)) * (1 - shared)
    both = own + shared * source.normal(size=(20000, 2))
    truth = source.normal(size=(20000, 2))
    assert np.exp(ensemble_ratio(truth + both, truth)) == pytest.approx(share, rel=0.03)


def test_bias_and_variance_add_up_to_the_single_error():
    source = np.random.default_rng(1)
    predictions, truth = source.normal(size=(4, 30, 2)), source.normal(size=(30, 2))
    single = np.square(predictions - truth).mean()
    spread = np.square(predictions - predictions.mean(0)).mean()
    expected = np.log((single - spread) / single)
    assert ensemble_ratio(predictions, truth) == pytest.approx(expected)


def test_clean_targets_are_compared_by_seed():
    found = difference({1: 5.0, 0: 1.0, 7: 0.0}, {0: 2.0, 1: 7.0})
    assert found.pairs == 2 and found.difference.estimate == pytest.approx(-1.5)


def test_returns_are_those_of_a_loop():
    rewards = np.random.default_rng(0).normal(size=(3, 12))
    found = returns(rewards, 4, 0.9)
    assert found.shape == (3, 8)
    for t in range(8):
        expected = sum(0.9**j * rewards[:, t + 1 + j] for j in range(4))
        np.testing.assert_allclose(found[:, t], expected)


def test_a_probe_is_scored_on_episodes_it_was_not_fitted_to():
    source = np.random.default_rng(0)
    latents, target = source.normal(size=(20, 10, 40)), source.normal(size=(20, 10))
    assert probe_scores(latents, latents, target)[0] < 0.1  # on its own episodes: about 0.4
    clean, noisy = probe_scores(latents, latents + source.normal(size=latents.shape),
                                latents[..., 0])  # fmt: skip
    assert clean > 0.99 and noisy == pytest.approx(0.0, abs=0.3)


def test_explained_variance_of_the_mean_is_zero():
    truth = np.array([[1.0, 2.0, 6.0]])
    assert explained(np.full((1, 3), 3.0), truth) == pytest.approx(0.0)
    assert explained(-truth, truth) < 0
