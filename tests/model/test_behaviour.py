"""Actor and critic: losses against loops over states and steps, and which gradient goes where."""

import math

import pytest
import torch

from sdewm.model.behaviour import Actor, Behaviour, BehaviourConfig, imagine
from sdewm.model.networks import share_frozen
from sdewm.model.rssm import State
from tests.model.small_models import (
    A,
    generator,
    gradient_sum,
    make_model,
    make_rows,
    noise_for,
    randn,
    random_state,
    shake,
)

N, H = 4, 3
CONTINUES = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)  # the third start is terminal
REINFORCE = {"actor_gradient": "reinforce"}
DYNAMICS = {
    "actor_gradient": "dynamics",
    "actor_distribution": "truncated_normal",
    "slow_targets": True,
}
objectives = pytest.mark.parametrize("changes", [REINFORCE, DYNAMICS])


def make_behaviour(model, **changes):
    """Actor and critic in float64, and a slow critic that differs from the critic."""
    settings = {
        "imagination_horizon": H,
        "units": 8,
        "actor_layers": 1,
        "critic_layers": 1,
        "discount": 0.9,
    }
    behaviour = Behaviour(BehaviourConfig(**(settings | changes)), model, A, generator(4)).double()
    behaviour.returns.float()
    for seed, part in enumerate((behaviour.actor, behaviour.critic, behaviour.slow_critic)):
        shake(part, seed)
    return behaviour


def imagined_by(model, behaviour):
    rssm = model.rssm
    noise = behaviour.actor.draw_noise((H, N), generator(6)).double()
    return imagine(
        rssm, behaviour.actor, random_state(rssm, N), noise_for(rssm, H, N), noise
    ), noise


def case(changes, latent="gaussian", **model_changes):
    """Model, behaviour, imagined batch, losses and returns through frozen views."""
    model = make_model(latent, **model_changes)
    behaviour = make_behaviour(model, **changes)
    imagined, _ = imagined_by(share_frozen(model), behaviour)
    views = share_frozen(model), share_frozen(behaviour.critic)
    losses, returns = behaviour.losses(*views, imagined, CONTINUES)
    return model, behaviour, imagined, losses, returns


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_imagination_equals_a_slow_loop(latent):
    model = make_model(latent)
    behaviour = make_behaviour(model)
    imagined, chosen = imagined_by(model, behaviour)
    rssm, state = model.rssm, random_state(model.rssm, N)
    drawn = noise_for(rssm, H, N)
    features, actions = [state.features], []
    for step in range(H):
        law = behaviour.actor(torch.cat([state.deter, state.stoch], -1))
        actions.append(law.mean + law.std * chosen[step])
        deter = rssm.deterministic(state, actions[-1])
        state = State(deter, rssm.latent.sample(rssm.prior(deter), drawn[step]))
        features.append(state.features)
    assert torch.allclose(imagined.features, torch.stack(features), rtol=1e-10)
    assert torch.allclose(imagined.actions, torch.stack(actions), rtol=1e-10)
    assert imagined.features.shape == (H + 1, N, model.rssm.features_size)


def slow_losses(model, behaviour, imagined):
    """All losses, one state and one step at a time, from the definitions."""
    config, sums = behaviour.config, {"actor": 0.0, "entropy": 0.0, "critic": 0.0, "slow": 0.0}
    returns = torch.zeros(N, H, dtype=torch.float64)
    scale = behaviour.returns.scale()
    for n in range(N):
        features = imagined.features[:, n]
        judge = behaviour.slow_critic if config.slow_targets else behaviour.critic
        value = judge.mean(judge(features))
        slow = behaviour.slow_critic.mean(behaviour.slow_critic(features))
        reward = model.reward.mean(model.reward(features))
        lives = config.discount * model.continue_head.mean(model.continue_head(features))
        following = value[H]
        for t in reversed(range(H)):
            mixed = (1 - config.discount_lambda) * value[t + 1] + config.discount_lambda * following
            following = reward[t + 1] + lives[t + 1] * mixed
            returns[n, t] = following.detach()
        weight = CONTINUES[n].item()
        for t in range(H):
            law = behaviour.actor(features[t])  # the state the action was taken in
            goal = returns[n, t]
            log_prob = law.log_prob(imagined.actions[t, n])
            reinforce = (goal - value[t]) / scale * log_prob
            gain = goal / scale if config.actor_gradient == "dynamics" else reinforce
            sums["actor"] -= weight * gain.item()
            sums["entropy"] -= weight * law.entropy().item()
            critic = behaviour.critic(features[t])
            sums["critic"] += weight * behaviour.critic.loss(critic, goal).item()
            sums["slow"] += weight * behaviour.critic.loss(critic, slow[t]).item()
            weight *= lives[t + 1].item()
    return {name: total / (N * H) for name, total in sums.items()}, returns


@objectives
@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_losses_equal_a_loop_over_states_and_steps(changes, latent):
    model, behaviour, imagined, losses, returns = case(changes, latent)
    slow, slow_returns = slow_losses(model, behaviour, imagined)
    assert torch.allclose(returns, slow_returns, rtol=1e-6)
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(slow, rel=1e-6)
    assert [*losses] == [*behaviour.weights()]


def test_the_scale_divides_the_advantage_and_can_be_off():
    model, losses = make_model("gaussian", reward_head="normal"), {}
    for on in (True, False):
        behaviour = make_behaviour(model, normalise_returns=on, critic_head="normal")
        behaviour.returns.high.fill_(50.0)
        imagined, _ = imagined_by(model, behaviour)
        found, _ = behaviour.losses(model, behaviour.critic, imagined, CONTINUES)
        losses[on] = found["actor"].item()
        scale = behaviour.returns.scale().item()
    assert scale == pytest.approx(49.5, rel=0.02)
    assert losses[False] == pytest.approx(scale * losses[True], rel=1e-5)


def test_a_terminal_start_trains_nothing_and_returns_hold_the_rewards():
    model, behaviour, imagined, losses, returns = case(REINFORCE)
    parts = [part.clone() for part in (*imagined.start, *imagined.later)]
    for part in parts:
        part[..., 2, :] += 1.0
    changed = imagined._replace(start=State(*parts[:2]), later=State(*parts[2:]))
    again, new_returns = behaviour.losses(model, behaviour.critic, changed, CONTINUES)
    assert not torch.allclose(returns[2], new_returns[2])
    assert torch.allclose(again["critic"], losses["critic"], rtol=1e-12)
    with torch.no_grad():  # one unit more reward everywhere
        model.reward.mean, plain = (lambda law: plain(law) + 1.0), model.reward.mean
        _, richer = behaviour.losses(model, behaviour.critic, imagined, CONTINUES)
    assert ((richer - returns)[:, :-1] > 1.0).all()
    assert torch.allclose((richer - returns)[:, -1], torch.ones(N).double(), rtol=1e-5)


@objectives
def test_the_actors_loss_moves_the_actor_alone(changes):
    model, behaviour, _, losses, _ = case(changes)
    (losses["actor"] + losses["entropy"]).backward()
    assert gradient_sum(behaviour.actor) > 0
    assert gradient_sum(model) == 0
    assert gradient_sum(behaviour.critic) == gradient_sum(behaviour.slow_critic) == 0


@objectives
def test_the_critics_loss_moves_the_critic_alone(changes):
    model, behaviour, _, losses, _ = case(changes)
    (losses["critic"] + losses["slow"]).backward()
    assert gradient_sum(behaviour.critic) > 0
    assert gradient_sum(behaviour.actor) == gradient_sum(model) == 0
    assert gradient_sum(behaviour.slow_critic) == 0


def slow_replay_loss(behaviour, rows, features, starts):
    """Sequence by sequence, cut at the last row of an episode."""
    config, total = behaviour.config, 0.0
    batch, length = rows.reward.shape
    for b in range(batch):
        following = starts[b, -1]
        for t in reversed(range(length - 1)):
            if rows.is_terminal[b, t + 1]:
                goal = rows.reward[b, t + 1]
            elif rows.is_last[b, t + 1]:
                goal = rows.reward[b, t + 1] + config.discount * starts[b, t + 1]
            else:
                lambda_ = config.discount_lambda
                mixed = (1 - lambda_) * starts[b, t + 1] + lambda_ * following
                goal = rows.reward[b, t + 1] + config.discount * mixed
            following = goal
            if rows.is_last[b, t]:
                continue  # what follows is another episode
            law = behaviour.critic(features[b, t])
            slow = behaviour.slow_critic.mean(behaviour.slow_critic(features[b, t]))
            total += behaviour.critic.loss(law, goal) + behaviour.critic.loss(law, slow)
    return total / (batch * (length - 1))


def test_replay_loss_equals_a_loop_and_is_cut_between_episodes():
    model, rows = make_model(), make_rows(firsts=((0, 3), (1, 4)))
    behaviour = make_behaviour(model)
    features = model.observe(rows, noise_for(model.rssm, *rows.reward.shape)).state.features
    starts = 3 * randn(*rows.reward.shape, seed=8)
    assert rows.is_terminal.sum() == 1 and rows.is_last.sum() == 2
    loss = behaviour.replay_loss(rows, features, starts)
    slow = slow_replay_loss(behaviour, rows, features, starts).item()
    assert loss.item() == pytest.approx(slow, rel=1e-6)
    other = rows.reward.clone()
    other[0, 4] += 5.0  # in the next episode
    later = behaviour.replay_loss(rows._replace(reward=other), features, starts)
    unmasked = rows._replace(is_last=torch.zeros_like(rows.is_last))
    assert later != loss and behaviour.replay_loss(unmasked, features, starts) != loss


def test_rewards_of_the_next_episode_do_not_reach_this_one():
    model, behaviour = make_model(), make_behaviour(make_model())
    rows = make_rows(1, 4, firsts=((0, 3),))  # the last row stands alone: no target of its own
    features, starts = randn(1, 4, model.rssm.features_size), randn(1, 4, seed=1)
    changed = rows._replace(reward=rows.reward + torch.tensor([0.0, 0.0, 0.0, 9.0]).double())
    before, after = (behaviour.replay_loss(r, features, starts) for r in (rows, changed))
    assert torch.equal(before, after)


def test_replay_loss_reaches_the_world_model():
    model, rows = make_model(), make_rows(firsts=((0, 3),))
    behaviour = make_behaviour(model)
    features = model.observe(rows, noise_for(model.rssm, *rows.reward.shape)).state.features
    behaviour.replay_loss(rows, features, randn(*rows.reward.shape)).backward()
    assert gradient_sum(model.encoder) > 0 and gradient_sum(model.rssm.cell) > 0
    assert gradient_sum(behaviour.critic) > 0 and gradient_sum(behaviour.slow_critic) == 0
    assert gradient_sum(behaviour.actor) == 0


@pytest.mark.parametrize(("rate", "every"), [(0.02, 1), (1.0, 100)])
def test_slow_critic_follows_at_its_rate(rate, every):
    behaviour = make_behaviour(make_model(), slow_rate=rate, slow_every=every)
    slow = [weight.clone() for weight in behaviour.slow_critic.parameters()]
    fast = [*behaviour.critic.parameters()]
    for update in range(1, 2 * every + 1):
        behaviour.update_slow_critic(update)
        if update % every == 0:
            slow = [(1 - rate) * s + rate * f for s, f in zip(slow, fast, strict=True)]
        for weight, expected in zip(behaviour.slow_critic.parameters(), slow, strict=True):
            assert torch.allclose(weight, expected, rtol=1e-12)


def test_slow_critic_starts_as_a_copy_and_the_regulariser_can_be_off():
    model = make_model()
    fresh = Behaviour(BehaviourConfig(units=8), model, A, generator())
    for slow, fast in zip(fresh.slow_critic.parameters(), fresh.critic.parameters(), strict=True):
        assert torch.equal(slow, fast) and slow is not fast and not slow.requires_grad
    _, behaviour, _, losses, _ = case({"slow_regulariser_weight": 0.0})
    assert "slow" not in losses and "slow" not in behaviour.weights()


def make_actor(law):
    config = BehaviourConfig(units=8, actor_layers=1, actor_distribution=law)
    return shake(Actor(config, 6, A, "rms", "silu").double(), size=1.0)


@pytest.mark.parametrize("law", ["normal", "truncated_normal"])
def test_actor_laws_follow_the_tables(law):
    actor, x = make_actor(law), randn(5, 6)
    mean, free = actor.layers(x).chunk(2, -1)
    logistic = 1 / (1 + torch.exp(-(free + 2)))
    std = 0.1 + 0.9 * logistic if law == "normal" else 2 / (1 + torch.exp(-free / 2)) + 0.1
    assert torch.allclose(actor(x).mean, torch.tanh(mean), rtol=1e-12)
    assert torch.allclose(actor(x).std, std, rtol=1e-12)
    assert actor(x).log_prob(torch.zeros(5, A).double()).shape == (5,)


def test_a_fresh_policy_is_near_zero_mean_with_the_std_of_its_bias():
    behaviour = Behaviour(BehaviourConfig(units=64), make_model(), A, generator())
    law = behaviour.actor(torch.randn(100, 28, generator=generator()))
    assert law.mean.abs().max() < 0.1
    assert law.std.mean().item() == pytest.approx(0.1 + 0.9 / (1 + math.exp(-2)), abs=0.01)
