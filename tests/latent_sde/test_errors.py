"""Errors of the encoder as perturbations: at size 1 the model with that error, exactly."""

import pytest
import torch

from sdewm.latent_sde.errors import encoder_error, tabled_error
from sdewm.latent_sde.system import as_system
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from sdewm.theory.expansion.perturbation import PerturbedSystem, count_drivers
from tests.latent_sde.test_system import EPISODES, STEPS, flat, inputs
from tests.model.small_models import make_model, randn, random_state

Z = 5


def made(error_drivers=0, latent="gaussian"):
    model = make_model(latent)
    actions, observations = inputs()
    system = as_system(
        model, actions=actions, observations=observations, error_drivers=error_drivers
    )
    return model, system, system.start(flat(random_state(model.rssm, EPISODES)))


def solved(system, error, start, size, seed=1):
    own, more = count_drivers(system, error, torch.zeros((), dtype=start.dtype), start)
    perturbed = PerturbedSystem(system, error, own, size, size)
    noise = GaussianNoise(drivers=own + more, steps=STEPS, t1=STEPS, seed=seed)
    return solve_path(perturbed, start, noise)[:, 0], noise


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
def test_at_size_one_the_model_sees_the_other_observations(latent):
    model, system, start = made(latent=latent)
    actions, _ = inputs()
    others = inputs(seed=7)[1]
    error = encoder_error(system, others)
    end, noise = solved(system, error, start, 1.0)
    fed = as_system(model, actions=actions, observations=others)
    expected = solve_path(fed, start, noise)[:, 0]
    assert torch.allclose(end, expected, atol=1e-12)
    unperturbed = solve_path(system, start, noise)[:, 0]
    assert torch.equal(solved(system, error, start, 0.0)[0], unperturbed)
    half = solved(system, error, start, 0.5)[0]
    assert not torch.allclose(half, (expected + unperturbed) / 2, atol=1e-3)  # not linear


@pytest.mark.parametrize("variance", ["step", "stationary"])
def test_errors_are_rates_of_a_system_with_another_relaxation_time(variance):
    """Coefficients at size 1 are those of the model fed with the other observations, for any τ."""
    model, tau = make_model("gaussian"), 4.0
    actions, observations = inputs()
    options = {"actions": actions, "relaxation_time": tau, "variance": variance}
    system = as_system(model, observations=observations, error_drivers=2, **options)
    others = inputs(seed=7)[1]
    fed = as_system(model, observations=others, error_drivers=2, **options)
    start = system.start(flat(random_state(model.rssm, EPISODES)))
    error, now = encoder_error(system, others), torch.tensor(1.0, dtype=torch.float64)
    assert torch.allclose(system.f(now, start) + error.drift(now, start), fed.f(now, start))
    assert torch.allclose(system.g(now, start) + error.diffusion(now, start), fed.g(now, start))

    drift, same = randn(EPISODES, STEPS, Z, seed=1), randn(EPISODES, STEPS, Z, seed=2)
    independent = randn(EPISODES, STEPS, Z, 2, seed=3)
    tabled = tabled_error(system, drift=drift, same=same, independent=independent)
    latent, scale = system.model.latent, {"step": 1.0, "stationary": 2.0}[variance]
    assert torch.allclose(tabled.drift(now, start)[:, latent], drift[:, 1] / tau)
    found = tabled.diffusion(now, start)[:, latent] / (scale / tau) ** 0.5
    assert torch.allclose(found[:, :, :Z], torch.diag_embed(same[:, 1]))
    assert torch.allclose(found[:, :, Z:], independent[:, 1])


def test_errors_enter_the_latent_alone():
    _, system, start = made(error_drivers=2)
    zero = torch.zeros((), dtype=start.dtype)
    table = randn(EPISODES, STEPS, Z)
    independent = randn(EPISODES, STEPS, Z, 2)
    for error in (
        encoder_error(system, inputs(seed=7)[1]),
        tabled_error(system, drift=table, same=table, independent=independent),
    ):
        latent = system.model.latent
        outside = torch.ones(system.state_size, dtype=torch.bool)
        outside[latent] = False
        for part in (error.drift(zero, start), error.diffusion(zero, start)):
            assert not part[:, outside].any()
            assert part[:, latent].any()


def test_a_tabled_error_adds_to_mean_and_noise_of_each_step_of_each_episode():
    _, system, start = made(error_drivers=2)
    drift, same = randn(EPISODES, STEPS, Z, seed=1), 0.1 * randn(EPISODES, STEPS, Z, seed=2)
    independent = 0.3 * randn(EPISODES, STEPS, Z, 2, seed=3)
    error = tabled_error(system, drift=drift, same=same, independent=independent)
    end, noise = solved(system, error, start, 0.7)
    x, latent = start, system.model.latent
    for n, drawn in enumerate(noise.stream(0, EPISODES)):
        xi, own = drawn[:, :Z], drawn[:, Z:]
        x = system.step(x, n, xi)
        extra = drift[:, n] + same[:, n] * xi + (independent[:, n] @ own[..., None])[..., 0]
        x = torch.cat([x[:, : latent.start], x[:, latent] + 0.7 * extra, x[:, latent.stop :]], 1)
    assert torch.allclose(end, x, atol=1e-12)


def test_an_error_for_one_episode_needs_no_axis_of_episodes():
    model = make_model("gaussian")
    actions, observations = inputs()
    system = as_system(model, actions=actions[0], observations=observations[0])
    table = randn(STEPS, Z)
    error = tabled_error(system, drift=table)
    states = system.start(flat(random_state(model.rssm, 1)), repeats=2)
    now = torch.tensor(2.0, dtype=torch.float64)
    assert torch.equal(error.drift(now, states)[:, -Z:], table[2].expand(2, Z))
    assert error.diffusion is None


def test_what_does_not_fit_is_refused():
    model, system, _ = made(error_drivers=2)
    blind = as_system(model, actions=inputs()[0])
    with pytest.raises(ValueError, match="system has no observations"):
        encoder_error(blind, inputs()[1])
    with pytest.raises(ValueError, match=r"observations give embeds \(3, 3, 8\)"):
        encoder_error(system, inputs()[1][:, :3])
    with pytest.raises(ValueError, match=r"drift has .* = \(4, 3, 4\): expected \(4, 3, 5"):
        tabled_error(system, drift=torch.zeros(EPISODES, STEPS, 4))
    with pytest.raises(ValueError, match=r"independent has .* expected \(4, 3, 5, 2\)"):
        tabled_error(system, independent=torch.zeros(EPISODES, STEPS, Z, 3))
    with pytest.raises(ValueError, match="at least one of them"):
        tabled_error(system)


def test_a_change_of_deviations_of_a_correlated_noise_is_refused():
    """It was added to the diagonal of the factor of a one-hot latent, which is no deviation."""
    _, system, _ = made(latent="categorical")
    size = system.model.latent.stop - system.model.latent.start
    table = torch.full((EPISODES, STEPS, size), 0.1)
    with pytest.raises(ValueError, match="same: the noise of a Gaussian of the same mean"):
        tabled_error(system, same=table)
    assert tabled_error(system, drift=table).diffusion is None
