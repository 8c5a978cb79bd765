"""The actor's gradient against finite differences of the return, for both objectives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sdewm.model.behaviour import Behaviour, BehaviourConfig, imagine
from sdewm.model.networks import share_frozen
from sdewm.model.rssm import State
from sdewm.model.world_model import WorldModel, WorldModelConfig
from tests.model.small_models import F64, GAUSSIAN, generator, randn, shake

NODES = 12
GAMMA = 0.9


def make_pair(objective, horizon, lambda_, actor_law="normal"):
    """A smooth world without continue head and one action, all in float64."""
    config = WorldModelConfig(
        rssm=replace(GAUSSIAN, deter=6, hidden=6, gaussian_size=3),
        norm="none",
        activation="silu",  # smooth: quadrature is exact to many digits
        units=6,
        vector_layers=1,
        reward_head="normal",
        continue_layers=None,
    )
    model = shake(WorldModel(config, (2,), 1, generator()).double(), size=0.3)
    behaviour = Behaviour(
        BehaviourConfig(
            imagination_horizon=horizon,
            discount=GAMMA,
            discount_lambda=lambda_,
            actor_gradient=objective,
            actor_distribution=actor_law,
            units=6,
            actor_layers=1,
            critic_layers=1,
            critic_head="normal",
            normalise_returns=False,
        ),
        model,
        1,
        generator(1),
    ).double()
    behaviour.returns.float()
    shake(behaviour, size=0.3)
    if actor_law == "normal":
        with torch.no_grad():  # std near 0.1: no action leaves [−1, 1]
            behaviour.actor.layers[-1].bias.copy_(torch.tensor([0.0, -7.0]))
            behaviour.actor.layers[-1].weight.mul_(0.1)
    return model, behaviour


def directional(behaviour, value, direction, size=1e-5):
    """Central difference of `value()` along a direction of the actor's weights."""
    found = []
    for sign in (size, -2 * size, size):  # + size, − size, back
        with torch.no_grad():
            for weight, step in zip(behaviour.actor.parameters(), direction, strict=True):
                weight += sign * step
        found.append(value().item())
    return (found[0] - found[1]) / (2 * size)


def directions(behaviour, count=4):
    return [
        [randn(*weight.shape, seed=seed) for weight in behaviour.actor.parameters()]
        for seed in range(count)
    ]


def product(direction, actor):
    return sum(
        float((step * weight.grad).sum())
        for step, weight in zip(direction, actor.parameters(), strict=True)
    )


@pytest.mark.parametrize("lambda_", [0.95, 1.0])
@pytest.mark.parametrize("law", ["normal", "truncated_normal"])
def test_dynamics_backprop_is_the_gradient_of_the_mean_weighted_return(law, lambda_):
    model, behaviour = make_pair("dynamics", 3, lambda_, law)
    start = State(torch.tanh(randn(4, 6)), randn(4, 3, seed=1))
    latent, chosen = randn(3, 4, 3, seed=2), torch.rand(3, 4, 1, dtype=F64, generator=generator())
    views = share_frozen(model), share_frozen(behaviour.critic)

    def loss():
        imagined = imagine(views[0].rssm, behaviour.actor, start, latent, chosen)
        return behaviour.losses(*views, imagined, torch.ones(4, dtype=F64))[0]["actor"]

    loss().backward()
    for direction in directions(behaviour):
        expected = directional(behaviour, loss, direction)
        assert product(direction, behaviour.actor) == pytest.approx(expected, rel=1e-5)
        assert abs(expected) > 1e-4


def grid(horizon):
    """All sequences of Gauss–Hermite nodes: action noise (H, M, 1) and probabilities (M,)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    points = np.stack(np.meshgrid(*[nodes] * horizon, indexing="ij")).reshape(horizon, -1, 1)
    chances = np.stack(np.meshgrid(*[weights] * horizon, indexing="ij")).reshape(horizon, -1)
    return torch.tensor(points), torch.tensor(chances.prod(0))


def expected_gradients(horizon, lambda_, objective="reinforce"):
    """Gradient of the loss summed over all noise, and a function that gives E[G_0]."""
    model, behaviour = make_pair(objective, horizon, lambda_)
    chosen, chances = grid(horizon)
    count = len(chances)
    start = State(torch.tanh(randn(1, 6)).expand(count, -1), randn(1, 3, seed=1).expand(count, -1))
    latent = randn(horizon, 1, 3, seed=2).expand(-1, count, -1)  # known draws of the dynamics
    views = share_frozen(model), share_frozen(behaviour.critic)

    def losses():
        imagined = imagine(views[0].rssm, behaviour.actor, start, latent, chosen)
        assert imagined.actions.abs().max() < 1
        return behaviour.losses(*views, imagined, count * chances)

    found, _ = losses()
    found["actor"].backward()
    return behaviour, lambda: (chances * losses()[1][:, 0]).sum()


@pytest.mark.parametrize("horizon", [1, 2])
def test_reinforce_is_an_unbiased_gradient_of_the_expected_return(horizon):
    """λ = 1: Σ_t γ^t (G_t − v_t) ∇ln π, summed over all noise, is ∇E[G_0]."""
    behaviour, mean_return = expected_gradients(horizon, 1.0)
    for direction in directions(behaviour):
        expected = directional(behaviour, mean_return, direction)
        found = -horizon * product(direction, behaviour.actor)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert abs(expected) > 1e-4


def test_both_objectives_agree_on_one_step():
    one, _ = expected_gradients(1, 1.0, "reinforce")
    two, _ = expected_gradients(1, 1.0, "dynamics")
    for a, b in zip(one.actor.parameters(), two.actor.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-7)
    assert max(weight.grad.abs().max() for weight in one.actor.parameters()) > 1e-3


def test_entropy_bonus_widens_the_policy():
    model, behaviour = make_pair("reinforce", 2, 0.95)
    start = State(torch.tanh(randn(4, 6)), randn(4, 3, seed=1))
    imagined = imagine(model.rssm, behaviour.actor, start, randn(2, 4, 3), randn(2, 4, 1))
    before = behaviour.actor(start.features).std.mean()
    losses, _ = behaviour.losses(model, behaviour.critic, imagined, torch.ones(4, dtype=F64))
    slopes = torch.autograd.grad(losses["entropy"], [*behaviour.actor.parameters()])
    with torch.no_grad():
        for weight, slope in zip(behaviour.actor.parameters(), slopes, strict=True):
            weight -= 0.1 * slope
    assert behaviour.actor(start.features).std.mean() > before
