"""Jacobians and exponents of a model: the right steps, actions and parts of the state."""

import math

import pytest
import torch

from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import RSSMModel, StepModel
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.latent_sde.system import mean_policy
from sdewm.model.behaviour import Behaviour, BehaviourConfig
from sdewm.model_theorems.stability import jacobian_sizes, model_lyapunov, step_eigenvalues
from tests.model.small_models import F64, A, D, generator, make_model, randn


def recorded(episodes, rows):
    actions = torch.tanh(randn(episodes, rows, A, seed=4))
    return Episodes(randn(episodes, rows, D), actions, torch.zeros(episodes, rows))


def test_sizes_are_those_of_dense_jacobians_at_posterior_states_with_the_next_action():
    model, episodes = RSSMModel(make_model("gaussian")), recorded(2, 4)
    sizes = jacobian_sizes(model, episodes, every=2, seed=3)
    states = clean_paths(model, episodes, 3).states
    assert {tuple(values.shape) for values in sizes.values()} == {(2, 2)}
    for e, t, place in ((0, 0, 0), (1, 2, 1)):
        action = episodes.previous_actions[e, t + 1][None].double()

        def step(x, action=action):
            rssm = model.rssm
            deter = rssm.deterministic(model.split(x[None]), action)
            stats = rssm.prior(deter)
            return torch.cat([deter, rssm.latent.mean(stats), rssm.latent.std(stats)], 1)[0]

        whole = torch.autograd.functional.jacobian(step, states[e, t])
        square = whole[: model.state_size]
        expected = {
            "frobenius": whole.norm(),
            "top_singular_value": torch.linalg.matrix_norm(whole, 2),
            "log_norm": torch.linalg.eigvalsh(0.5 * (square + square.T))[-1] - 1,
            "spectral_radius": torch.linalg.eigvals(square).abs().max(),
        }
        for name, value in expected.items():
            assert float(sizes[name][e, place]) == pytest.approx(float(value), rel=1e-6), name
    with pytest.raises(ValueError, match="episodes of 1 rows: expected at least 2"):
        jacobian_sizes(model, recorded(2, 1))


def test_eigenvalues_are_those_of_the_step_of_the_mean_in_falling_order():
    model, episodes = RSSMModel(make_model("gaussian")), recorded(2, 4)
    found = step_eigenvalues(model, episodes, every=2, seed=3)
    sizes = jacobian_sizes(model, episodes, every=2, seed=3)
    assert found.shape == (2, 2, model.state_size)
    torch.testing.assert_close(found[..., 0], sizes["spectral_radius"], rtol=1e-6, atol=1e-9)
    assert bool((found[..., :-1] >= found[..., 1:]).all())
    state = clean_paths(model, episodes, 3).states[1, 2]
    action = episodes.previous_actions[1, 3][None].double()

    def step(x):
        deter = model.rssm.deterministic(model.split(x[None]), action)
        return torch.cat([deter, model.rssm.latent.mean(model.rssm.prior(deter))], 1)[0]

    own = torch.linalg.eigvals(torch.autograd.functional.jacobian(step, state)).abs()
    torch.testing.assert_close(found[1, 1], own.sort(descending=True).values)


def linear(gain=0.0):
    matrix = torch.diag(torch.tensor([0.9, 0.5], dtype=F64))

    def step(x, a, v):
        return x @ matrix + a[:, :2] + gain * x * a[:, :1] + 0.1 * v

    def encoder(state, observation):
        return state, torch.ones_like(state)

    return StepModel(step, state_size=2, noise_size=2, encoder=encoder)


def test_exponents_of_a_linear_model_are_logarithms_and_the_policy_counts():
    episodes = recorded(3, 40)
    # The first step turns the tangents away from the number of the episode.
    given = {"start": 2, "steps": 30, "discard": 1, "exponents": 2}
    found = model_lyapunov(linear(), episodes, **given)
    assert found.total.value == pytest.approx(math.log(0.9 * 0.5))
    assert found.exponents.shape == (3, 2)  # one trajectory for each episode
    held = torch.tensor([[0.05, 0.0], [0.0, 0.2], [0.0, 0.0]], dtype=F64)
    closed = model_lyapunov(linear(), episodes, **given, policy=lambda x: x @ held.T)
    assert closed.total.value == pytest.approx(math.log(0.95 * 0.7))


def test_the_actions_of_the_trajectory_are_those_after_its_first_row():
    episodes = recorded(2, 8)
    found = model_lyapunov(
        linear(gain=0.3), episodes, start=3, steps=4, discard=1, exponents=2, seed=1
    )
    a = 0.3 * episodes.previous_actions[:, 5:8, 0].double()
    expected = (torch.log((0.9 + a).abs()) + torch.log((0.5 + a).abs())).mean(1)
    assert torch.allclose(torch.from_numpy(found.exponents).sum(1), expected)
    with pytest.raises(ValueError, match="episodes of 8 rows: expected at least 9"):
        model_lyapunov(linear(), episodes, start=3, steps=5, discard=0)


def test_a_one_hot_policy_is_refused_in_the_closed_loop():
    model = make_model("gaussian")
    behaviour = Behaviour(BehaviourConfig(units=8), model, A, generator(), (A,))
    with pytest.raises(ValueError, match="one-hot, of 3 classes, and no differentiable function"):
        mean_policy(behaviour.actor)


def test_the_mean_policy_is_the_actors_mean_in_float64():
    model = make_model("gaussian")
    behaviour = Behaviour(BehaviourConfig(units=8), model, A, generator())
    states = randn(4, model.rssm.features_size)
    policy = mean_policy(behaviour.float().actor)
    assert policy(states).dtype == F64
    assert torch.allclose(policy(states), behaviour.actor(states.float()).mean.double(), atol=1e-5)
