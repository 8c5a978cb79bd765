"""The measurement on models whose error is known, and on a recurrent state-space model."""

from functools import partial

import numpy as np
import pytest
import torch

from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import RSSMModel, StepModel
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.model_theorems.divergence import diverge_on_model
from sdewm.model_theorems.expansion import expand_on_model
from sdewm.model_theorems.representation_error import (
    measure_representation_error,
    measure_transition_error,
    require_perturbation,
)
from sdewm.model_theorems.value_bias import value_bias_on_model
from sdewm.perturbations.observation import ObservationPerturbation
from tests.model.small_models import A, D, make_model, randn

COUNT, STEPS = 6, 5
MIXING = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, -2.0, 1.0]], dtype=torch.float64)


def recorded(count=COUNT, steps=STEPS):
    actions = torch.tanh(randn(count, steps, A, seed=1))
    actions[:, 0] = 0
    return Episodes(randn(count, steps, D), actions, randn(count, steps, seed=2))


def linear_model(curved=0.0):
    """h' = 0.8 h + z, z' = C h' + M o' + curvature·o'², with noise 0.3 ξ."""

    def step(state, action, noise):
        h, z = state[:, :2], state[:, 2:]
        h = 0.8 * h + z + action[:, :2]
        return torch.cat([h, 0.5 * h + 0.3 * noise], 1)

    def encode(state, observation):
        mean = 0.5 * state[:, :2] + observation @ MIXING.T + curved * observation[:, :2] ** 2
        return mean, torch.full_like(mean, 0.3)

    return StepModel(step, state_size=4, noise_size=2, encoder=encode, latent=slice(2, 4))


def test_noise_on_the_observation_of_a_linear_encoder_is_diffusion_of_known_covariance():
    episodes = recorded(12)
    found = measure_representation_error(
        linear_model(), episodes, ObservationPerturbation("noise", 0.2), draws=200
    )
    covariance = (0.2**2 * MIXING @ MIXING.T).numpy()
    factor = found.factor().reshape(-1, 2, 2)
    mean = np.mean(factor @ factor.swapaxes(1, 2), 0)
    assert np.allclose(mean, covariance, atol=0.01) and not found.correlation_time[1]
    assert found.squared_drift().deviation_from(0.0) < 4
    assert found.zero_drift_test().p_value > 0.001 and np.abs(found.same_driver).max() < 1e-12
    assert found.drift_fraction().deviation_from(0.0) < 4


def test_a_shift_of_the_observation_is_drift_and_nothing_else():
    found = measure_representation_error(
        linear_model(), recorded(), ObservationPerturbation("shift", 0.2), draws=2
    )
    assert np.allclose(found.drift, (0.2 * MIXING.sum(1)).numpy())
    assert found.variance.max() < 1e-25 and found.drift_fraction().value == pytest.approx(1.0)
    assert found.zero_drift_test().p_value < 0.05


def test_zero_mean_noise_becomes_drift_where_the_encoder_is_curved():
    found = measure_representation_error(
        linear_model(curved=0.7), recorded(12), ObservationPerturbation("noise", 0.5), draws=400
    )
    for estimate in found.mean_drift():
        assert estimate.deviation_from(0.7 * 0.25) < 4  # ½ D²m[Σ] = curvature · variance
    assert found.zero_drift_test().p_value < 1e-3


def test_accumulated_errors_go_through_the_dynamics():
    episodes, model = recorded(), linear_model()
    found = measure_representation_error(
        model, episodes, ObservationPerturbation("shift", 0.2), mode="accumulated", draws=2
    )
    shift = (0.2 * MIXING.sum(1)).numpy()
    h, slow = np.zeros(2), []
    z = np.zeros(2)
    for _ in range(STEPS):
        h = 0.8 * h + z
        z = 0.5 * h + shift
        slow.append(z)
    assert np.allclose(found.drift, np.stack(slow)) and not np.allclose(slow[0], slow[-1])


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
@pytest.mark.parametrize("mode", ["single_frame", "accumulated"])
def test_on_a_recurrent_state_space_model_it_is_what_a_loop_over_copies_gives(latent, mode):
    model, episodes = make_model(latent), recorded(2, 4)
    others = []

    def perturb(observations, generator):
        drawn = torch.randn(observations.shape, generator=generator, dtype=torch.float64)
        others.append(observations + 0.5 * drawn)
        return others[-1]

    found = measure_representation_error(model, episodes, perturb, mode=mode, draws=3, seed=4)
    others = others[-2:]  # before them it was checked
    rssm = model.rssm
    noise = RSSMModel(model).draw_noise((2, 4), torch.Generator().manual_seed(4))
    for e in range(2):
        for k in range(3):
            clean, other = rssm.initial(1), rssm.initial(1)
            for t in range(4):
                action = episodes.previous_actions[e : e + 1, t]
                drawn, embeds = noise[e : e + 1, t], []
                for observation in (episodes.observations[e, t], others[e][k, t]):
                    embeds.append(model.encoder(observation[None]))
                deter = rssm.deterministic(clean, action)
                stats = rssm.posterior(deter, embeds[0])
                shifted = rssm.deterministic(other, action) if mode == "accumulated" else deter
                changed = rssm.posterior(shifted, embeds[1])
                difference = rssm.latent.mean(changed) - rssm.latent.mean(stats)
                assert np.allclose(found.shift[e, k, t], difference.detach().numpy(), atol=1e-12)
                assert np.allclose(found.std[e, k, t], rssm.latent.std(changed).detach().numpy())
                clean = type(clean)(deter, rssm.latent.sample(stats, drawn))
                other = type(clean)(shifted, rssm.latent.sample(changed, drawn))


def test_a_known_error_of_the_latent_comes_back_against_a_reference_encoder():
    model = linear_model()
    offset = torch.tensor([0.3, -0.1], dtype=torch.float64)

    def better(predicted, embed):
        mean, std = model.moments(predicted, embed)
        return mean - offset, 0.5 * std

    found = measure_representation_error(model, recorded(), reference_encoder=better)
    assert found.draws == 1 and np.allclose(found.drift, offset.numpy())
    assert np.allclose(found.same_driver, 0.15) and found.variance.max() < 1e-20


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
def test_the_transition_error_is_prior_against_posterior(latent):
    model, episodes = make_model(latent), recorded(3, 4)
    found = measure_transition_error(model, episodes, seed=2)
    paths = clean_paths(RSSMModel(model), episodes, seed=2)
    rssm, size = model.rssm, model.rssm.deter_size
    deter = paths.predicted[..., :size]
    prior, posterior = rssm.prior(deter), rssm.posterior(deter, paths.embeds)
    shift = (rssm.latent.mean(prior) - rssm.latent.mean(posterior)).detach().numpy()
    assert np.allclose(found.shift[:, 0], shift, atol=1e-12)
    assert np.allclose(found.std[:, 0], rssm.latent.std(prior).detach().numpy())
    assert np.allclose(found.reference_std, rssm.latent.std(posterior).detach().numpy())
    assert np.abs(shift).max() > 0.01


def test_the_same_seed_gives_the_same_measurement():
    noise = ObservationPerturbation("noise", 0.2)
    one, two, other = (
        measure_representation_error(linear_model(), recorded(), noise, draws=3, seed=s).shift
        for s in (0, 0, 1)
    )
    assert np.array_equal(one, two) and not np.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "neither of perturbation and reference_encoder"),
        ({"perturbation": lambda x, g: x, "mode": "single"}, "did you mean 'single_frame'"),
        ({"perturbation": lambda x, g: x, "draws": 1}, "draws=1"),
        ({"perturbation": lambda x, g: x[:, 1:]}, "perturbation returned"),
        ({"perturbation": lambda x, g: x.float()}, "perturbation returned"),
        ({"perturbation": lambda x, g: x.log()}, "perturbation returned .* nan or infinite"),
        ({"perturbation": "noise:0.1"}, "perturbation='noise:0.1': expected a function"),
        ({"perturbation": lambda x: x}, r"perturbation takes the arguments \(x\): expected a"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        measure_representation_error(linear_model(), recorded(), **given)


class Counting:
    """Adds the number of its call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, clean, generator):
        self.calls += 1
        return clean + self.calls


def unseeded(clean, generator):
    return clean + torch.randn(clean.shape, dtype=clean.dtype)


def seldom(clean, generator):
    """Unseeded as well, which two calls hardly ever show."""
    hidden = torch.full_like(clean, 1e-9).bernoulli().bool()
    return torch.where(hidden, 0.0, clean) + 0.1


MEASUREMENTS = {
    "error": measure_representation_error,
    "expansion": partial(
        expand_on_model, make_loss=lambda *_: lambda y: y[:, 0] ** 2, start=1, horizon=2
    ),
    "divergence": partial(diverge_on_model, start=1, horizon=2, grades=()),
    "value": partial(
        value_bias_on_model, make_q=lambda _: lambda y: y[:, 0] ** 2, start=1, horizon=2
    ),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_perturbation_is_a_function_of_copies_and_generator(name):
    def measured(perturbation):
        return MEASUREMENTS[name](linear_model(), recorded(), perturbation=perturbation)

    for wrong in (unseeded, seldom, Counting()):
        with pytest.raises(ValueError, match="perturbation gives other copies .* draw all random"):
            measured(wrong)
    before = torch.get_rng_state()
    measured(lambda clean, generator: clean + 0.1 * torch.randn(clean.shape, generator=generator))
    assert torch.equal(torch.get_rng_state(), before)


def test_numbers_of_global_generators_stay_what_they_are():
    def wasteful(clean, generator):
        torch.rand(3)  # without effect
        return clean + torch.randn(clean.shape, generator=generator)

    before, copies = torch.get_rng_state(), torch.zeros(5, 2)
    require_perturbation(wasteful, copies, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_episodes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"rewards has \(E, T\) = \(2, 4\)"):
        Episodes(torch.zeros(2, 3, D), torch.zeros(2, 3, A), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="episodes=1"):
        measure_transition_error(linear_model(), recorded(1))
    with pytest.raises(ValueError, match="episodes=Tensor: expected a sdewm.Episodes"):
        measure_representation_error(linear_model(), torch.zeros(2, 3, D), lambda x, g: x)
    with pytest.raises(ValueError, match="observations=ndarray: expected a tensor"):
        Episodes(np.zeros((2, 3, D)), torch.zeros(2, 3, A), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="rewards is on device 'meta'"):
        Episodes(torch.zeros(2, 3, D), torch.zeros(2, 3, A), torch.zeros(2, 3, device="meta"))
    with pytest.raises(ValueError, match=r"observations has shape \(0, 3, 4\)"):
        Episodes(torch.zeros(0, 3, D), torch.zeros(0, 3, A), torch.zeros(0, 3))
    wrong = Episodes(torch.zeros(2, 3, D + 1), torch.zeros(2, 3, A), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="encoder does not take observations"):
        measure_transition_error(make_model("gaussian"), wrong)


def test_a_perturbation_that_changes_its_input_leaves_the_episodes_as_they_are():
    episodes, shift = recorded(), ObservationPerturbation("shift", 0.2)
    before = episodes.observations.clone()
    for mode in ("single_frame", "accumulated"):
        found, expected = (
            measure_representation_error(linear_model(), episodes, perturb, mode=mode, draws=2)
            for perturb in (lambda x, generator: x.add_(0.2), shift)
        )
        assert np.array_equal(found.drift, expected.drift)
    assert torch.equal(episodes.observations, before)


def test_a_perturbation_that_changes_nothing_gives_no_error_and_a_random_encoder_is_refused():
    model, still = linear_model(), lambda x, generator: x
    assert not measure_representation_error(model, recorded(), still, draws=2).drift.any()

    def drawing(state, observation):
        mean, std = model.moments(state, observation)
        return mean + std * torch.randn_like(mean), std

    random = StepModel(model.step, state_size=4, noise_size=2, encoder=drawing, latent=slice(2, 4))
    with pytest.raises(ValueError, match="encoder gives two values .* draws random numbers"):
        measure_representation_error(random, recorded(), still, draws=2)


def test_a_perturbation_that_returns_nothing_is_named():
    with pytest.raises(ValueError, match="perturbation returned NoneType"):
        measure_representation_error(linear_model(), recorded(), lambda x, generator: None, draws=2)
