"""One-hot policies: probabilities, draws, and the policy gradient against versions by hand."""

import itertools
import math

import pytest
import torch

from sdewm.model.behaviour import Behaviour, BehaviourConfig, Reinforce, imagine
from sdewm.model.distributions import OneHot
from sdewm.model.networks import share_frozen
from tests.model.small_models import (
    F64,
    A,
    generator,
    gradient_sum,
    make_model,
    noise_for,
    randn,
    random_state,
    shake,
)

GROUPS = (2, 3)
N, H = 4, 3
CONTINUES = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=F64)


def law_of(logits, share=0.01):
    return OneHot(logits, GROUPS, share)


def every_action():
    """All six actions of two and three classes, as one-hots."""
    pairs = itertools.product(torch.eye(2, dtype=F64), torch.eye(3, dtype=F64))
    return torch.stack([torch.cat(pair) for pair in pairs])


def probabilities(logits):
    """Of the classes of each group, from the definition."""
    groups, place = [], 0
    for size in GROUPS:
        part = [math.exp(x) for x in logits[place : place + size]]
        groups.append([0.99 * x / sum(part) + 0.01 / size for x in part])
        place += size
    return groups


def test_probability_and_entropy_are_those_of_the_definition():
    logits = 3 * randn(5)
    first, second = probabilities(logits.tolist())
    law, actions = law_of(logits), every_action()
    expected = [p * q for p in first for q in second]
    assert law.log_prob(actions).exp().tolist() == pytest.approx(expected, rel=1e-12)
    entropy = -sum(p * math.log(p) for p in expected)  # of the pair, as the groups are independent
    assert law.entropy().item() == pytest.approx(entropy, rel=1e-12)
    assert law.mean.tolist() == pytest.approx(first + second, rel=1e-12)
    assert law.mode.tolist() == actions[expected.index(max(expected))].tolist()


def test_no_class_is_ever_impossible():
    law = law_of(torch.tensor([0.0, 1e4, -1e4, 0.0, 0.0], dtype=F64))
    assert law.mean[0].item() == pytest.approx(0.005) and torch.isfinite(law.entropy())
    assert law.mean[2].item() == pytest.approx(0.01 / 3)


def test_draws_have_the_frequencies_of_the_probabilities():
    count, law = 40_000, law_of(randn(5).expand(40_000, 5))
    drawn = law.sample(torch.rand(count, 2, generator=generator(1)).double())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert (drawn[:, :2].sum(1) == 1).all() and (drawn[:, 2:].sum(1) == 1).all()
    own = law.mean[0]
    z = (drawn.mean(0) - own) / (own * (1 - own) / count).sqrt()
    assert z.abs().max() < 4
    pairs = (drawn @ every_action().T).eq(2).double().mean(0)  # independence of the groups
    joint = law_of(randn(5)).log_prob(every_action()).exp()
    assert ((pairs - joint) / (joint * (1 - joint) / count).sqrt()).abs().max() < 4


def test_the_expected_score_is_the_gradient_of_the_expected_return():
    actions, value, scale = every_action(), torch.tensor(0.7, dtype=F64), torch.tensor(2.0)
    worth = randn(6, seed=3)
    logits = randn(5, seed=4).requires_grad_()
    law = law_of(logits)
    chance = law.log_prob(actions).exp()
    (exact,) = torch.autograd.grad((chance * worth).sum() / scale, logits, retain_graph=True)
    gain = Reinforce().gain(law.log_prob(actions), worth, value, scale)
    (score,) = torch.autograd.grad((chance.detach() * gain).sum(), logits)
    assert torch.allclose(score, exact, rtol=1e-10, atol=1e-14)
    assert exact.abs().max() > 0.01


def make_behaviour(model, **changes):
    settings = {"imagination_horizon": H, "units": 8, "actor_layers": 1, "critic_layers": 1}
    config = BehaviourConfig(**(settings | {"discount": 0.9} | changes))
    behaviour = Behaviour(config, model, A, generator(4), (A,)).double()
    behaviour.returns.float()
    for seed, part in enumerate((behaviour.actor, behaviour.critic, behaviour.slow_critic)):
        shake(part, seed)
    return behaviour


def imagined_by(model, behaviour):
    noise = behaviour.actor.draw_noise((H, N), generator(6)).double()
    start, latent = random_state(model.rssm, N), noise_for(model.rssm, H, N)
    return imagine(model.rssm, behaviour.actor, start, latent, noise)


def test_imagined_actions_are_one_hot_and_reach_the_dynamics():
    model = make_model()
    imagined = imagined_by(model, make_behaviour(model))
    assert imagined.actions.shape == (H, N, A)
    assert (imagined.actions.sum(-1) == 1).all() and (imagined.actions.amax(-1) == 1).all()
    state = imagined.start
    for step in range(H):
        deter = model.rssm.deterministic(state, imagined.actions[step])
        assert torch.allclose(deter, imagined.later.deter[step], rtol=1e-12)
        state = type(state)(*(part[step] for part in imagined.later))


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_the_actors_gradient_is_reinforce_by_hand(latent):
    model = make_model(latent)
    behaviour = make_behaviour(model)
    imagined = imagined_by(model, behaviour)
    views = share_frozen(model), share_frozen(behaviour.critic)
    with torch.no_grad():
        features = imagined.features
        value = behaviour.critic.mean(behaviour.critic(features))
        lives = 0.9 * model.continue_head.mean(model.continue_head(features))
    losses, returns = behaviour.losses(*views, imagined, CONTINUES)
    scale = behaviour.returns.scale().item()
    weights = behaviour.weights()
    (weights["actor"] * losses["actor"] + weights["entropy"] * losses["entropy"]).backward()
    found = [weight.grad.clone() for weight in behaviour.actor.parameters()]

    slow = 0.0
    for n in range(N):
        weight = CONTINUES[n].item()
        for t in range(H):
            logits = behaviour.actor.layers(features[t, n])
            p = 0.99 * torch.softmax(logits, -1) + 0.01 / A
            taken = int(imagined.actions[t, n].argmax())
            advantage = (returns[n, t].item() - value[t, n].item()) / scale
            entropy = -sum(p[k] * torch.log(p[k]) for k in range(A))
            slow = slow - weight * (advantage * torch.log(p[taken]) + 3e-4 * entropy) / (N * H)
            weight *= lives[t + 1, n].item()
    expected = torch.autograd.grad(slow, [*behaviour.actor.parameters()])
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-12)
    assert gradient_sum(behaviour.actor) > 1e-3


def test_a_step_along_the_gradient_makes_better_actions_likelier():
    model = make_model()
    behaviour = make_behaviour(model, entropy_weight=0.0)
    imagined = imagined_by(model, behaviour)
    before = behaviour.actor(imagined.features[:-1]).log_prob(imagined.actions)
    with torch.no_grad():
        value = behaviour.critic.mean(behaviour.critic(imagined.features))[:-1]
    losses, returns = behaviour.losses(
        share_frozen(model), share_frozen(behaviour.critic), imagined, CONTINUES
    )
    losses["actor"].backward()
    with torch.no_grad():
        for weight in behaviour.actor.parameters():
            weight -= 1e-3 * weight.grad / gradient_sum(behaviour.actor)
    after = behaviour.actor(imagined.features[:-1]).log_prob(imagined.actions)
    with torch.no_grad():
        continues = 0.9 * model.continue_probability(imagined.features[1:])
        chances = torch.cat([CONTINUES[None], continues[:-1]]).cumprod(0)
    assert (chances * (returns.T - value) * (after - before)).sum() > 0


def test_a_gradient_through_discrete_actions_is_refused():
    with pytest.raises(ValueError, match="actor_gradient='dynamics': expected 'reinforce'"):
        make_behaviour(make_model(), actor_gradient="dynamics")
