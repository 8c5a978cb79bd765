"""Losses of the world model: names, sums, balance and free nats of the KL; open loop."""

import pytest
import torch

from sdewm.model.world_model import ReplayRows, make_encoder, total_loss
from tests.model.small_models import (
    A,
    D,
    generator,
    gradient_sum,
    make_model,
    make_rows,
    noise_for,
    randn,
)

FIRSTS = ((0, 3), (1, 0))


def seen_by(model, rows):
    return model.observe(rows, noise_for(model.rssm, *rows.reward.shape))


def losses_of(model, rows):
    return model.losses(rows, seen_by(model, rows))


def test_losses_and_weights_have_equal_names_and_are_summed_once():
    model, rows = make_model(), make_rows(firsts=FIRSTS)
    losses, weights = losses_of(model, rows), model.weights()
    assert [*losses] == [*weights] == ["reconstruction", "reward", "continue", "dyn", "rep"]
    slow = sum(weights[name] * losses[name].item() for name in losses)
    assert total_loss(losses, weights).item() == pytest.approx(slow, rel=1e-12)
    assert (weights["dyn"], weights["rep"]) == (1.0, 0.1)
    with pytest.raises(ValueError, match="only in one of them: dyn, extra"):
        total_loss({"extra": losses["dyn"]}, {"dyn": 1.0})


def test_every_loss_is_the_mean_of_its_definition():
    model, rows = make_model(), make_rows(firsts=FIRSTS)
    seen = seen_by(model, rows)
    losses, features = model.losses(rows, seen), seen.state.features
    kl = torch.zeros(rows.reward.shape, dtype=torch.float64)
    slow = {"reconstruction": 0.0, "reward": 0.0, "continue": 0.0}
    for b in range(rows.reward.shape[0]):
        for t in range(rows.reward.shape[1]):
            state = features[b, t]
            kl[b, t] = model.rssm.latent.kl(seen.posterior[b, t], seen.prior[b, t])
            slow["reconstruction"] += model.decoder.loss(state, rows.observation[b, t])
            slow["reward"] += model.reward.loss(model.reward(state), rows.reward[b, t])
            p = model.continue_head.mean(model.continue_head(state))
            slow["continue"] += -torch.log(1 - p if rows.is_terminal[b, t] else p)
    for name, total in slow.items():
        assert losses[name].item() == pytest.approx(total.item() / kl.numel(), rel=1e-5), name
    assert rows.is_terminal.any() and (rows.is_last & ~rows.is_terminal).sum() == 0
    for name in ("dyn", "rep"):
        assert losses[name].item() == pytest.approx(kl.clamp(min=1.0).mean().item(), rel=1e-9)


def test_a_truncated_episode_goes_on_and_a_terminal_one_does_not():
    model = make_model()
    rows = make_rows(firsts=((0, 3), (1, 3)))
    assert rows.is_last[:, 2].all() and rows.is_terminal[:, 2].tolist() == [True, False]
    both = losses_of(model, rows)["continue"]
    none = losses_of(model, rows._replace(is_terminal=torch.zeros_like(rows.is_last)))["continue"]
    every = losses_of(model, rows._replace(is_terminal=rows.is_last))["continue"]
    assert none != both != every
    ends = rows._replace(is_last=torch.zeros_like(rows.is_last))
    assert losses_of(model, ends)["continue"] == both


def kl_gradients(model, rows, name):
    """Gradient sums of prior head and posterior head from one KL term alone, states held fixed."""
    seen = seen_by(model, rows)
    rssm, deter = model.rssm, seen.state.deter.detach()
    fresh = seen._replace(
        prior=rssm.prior(deter),
        posterior=rssm.posterior(deter, model.encoder(rows.observation)),
    )
    model.zero_grad()
    model.losses(rows, fresh)[name].backward()
    return gradient_sum(rssm.prior_head), gradient_sum(rssm.posterior_output)


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_dyn_trains_the_prior_and_rep_the_posterior(latent):
    model, rows = make_model(latent, free_nats=0.0), make_rows()
    prior, posterior = kl_gradients(model, rows, "dyn")
    assert prior > 0 and posterior == 0
    prior, posterior = kl_gradients(model, rows, "rep")
    assert prior == 0 and posterior > 0


def middle_of(kl):
    """A level that some states are below and some above, while the mean is above it."""
    ordered = kl.flatten().sort().values
    level = 0.5 * (ordered[2] + ordered[3]).item()
    assert kl.mean() > level
    return level


@pytest.mark.parametrize("name", ["dyn", "rep"])
def test_free_nats_clip_per_state_or_the_batch_mean(name):
    rows = make_rows()
    base = make_model(free_nats=0.0)
    kl = base.rssm.latent.kl(*(getattr(seen_by(base, rows), n) for n in ("posterior", "prior")))
    level = middle_of(kl)
    per_state = make_model(free_nats=level)
    per_mean = make_model(free_nats=level, free_nats_on="batch_mean")
    found = losses_of(per_state, rows)[name].item()
    assert found == pytest.approx(kl.clamp(min=level).mean().item(), rel=1e-9)
    assert losses_of(per_mean, rows)[name].item() == pytest.approx(kl.mean().item(), rel=1e-9)
    assert found != pytest.approx(kl.mean().item(), rel=1e-6)


@pytest.mark.parametrize("name", ["dyn", "rep"])
def test_no_gradient_below_the_free_nats(name):
    rows = make_rows()
    base = make_model(free_nats=0.0)
    assert sum(kl_gradients(base, rows, name)) > 0
    for where in ("state", "batch_mean"):
        model = make_model(free_nats=1e3, free_nats_on=where)
        assert kl_gradients(model, rows, name) == (0, 0)
        assert losses_of(model, rows)[name] == 1e3
    seen = seen_by(base, rows)
    prior = seen.prior.detach().requires_grad_()
    kl = base.rssm.latent.kl(seen.posterior, prior)
    level = middle_of(kl.detach())
    clipped = make_model(free_nats=level)
    clipped.losses(rows, seen._replace(prior=prior))["dyn"].backward()
    reached = prior.grad.abs().sum((-2, -1)) > 0
    assert torch.equal(reached, kl > level) and reached.any() and not reached.all()


def test_reconstruction_and_reward_train_encoder_and_dynamics():
    for name in ("reconstruction", "reward", "continue"):
        model, rows = make_model(), make_rows()
        losses_of(model, rows)[name].backward()
        assert gradient_sum(model.encoder) > 0 and gradient_sum(model.rssm.cell) > 0, name
        assert gradient_sum(model.rssm.prior_head) == 0, name


def test_without_a_continue_head_episodes_go_on_for_ever():
    model, rows = make_model(continue_layers=None), make_rows(firsts=FIRSTS)
    assert "continue" not in losses_of(model, rows) and "continue" not in model.weights()
    features = seen_by(model, rows).state.features
    assert (model.continue_probability(features) == 1).all()
    with_head = make_model()
    p = with_head.continue_probability(features)
    head = with_head.continue_head
    assert torch.equal(p, head.mean(head(features))) and (p < 1).all()


def slow_open_loop(model, rows, context, noise):
    """Reconstruct `context` rows, then follow the prior with the action that leads to each row."""
    seen = model.observe(ReplayRows(*(field[:, :context] for field in rows)), noise[:, :context])
    features = [seen.state.features[:, t] for t in range(context)]
    state = type(seen.state)(seen.state.deter[:, -1], seen.state.stoch[:, -1])
    for t in range(context, rows.reward.shape[1]):
        deter = model.rssm.deterministic(state, rows.previous_action[:, t])
        stats = model.rssm.prior(deter)
        state = type(state)(deter, model.rssm.latent.sample(stats, noise[:, t]))
        features.append(state.features)
    return torch.stack([model.decoder.predict(f) for f in features], 1)


def test_open_loop_follows_the_actions_and_not_the_later_observations():
    model, rows = make_model(), make_rows()
    noise = noise_for(model.rssm, *rows.reward.shape)
    predicted = model.open_loop(rows, 2, noise)
    assert torch.allclose(predicted, slow_open_loop(model, rows, 2, noise), rtol=1e-6)
    blind = rows._replace(observation=torch.cat([rows.observation[:, :2], randn(2, 4, D)], 1))
    assert torch.equal(predicted, model.open_loop(blind, 2, noise))
    assert not torch.allclose(predicted, model.open_loop(blind, 3, noise))
    other = rows.previous_action.clone()
    other[:, 3] = 0.0
    changed = model.open_loop(rows._replace(previous_action=other), 2, noise)
    assert torch.equal(predicted[:, :3], changed[:, :3])
    assert not torch.allclose(predicted[:, 3], changed[:, 3])


def test_pixel_models_predict_images():
    for layers in ("pooled", "strided", "patches"):
        model = make_model(shape=(64, 64, 3), image_encoder=layers).float()
        rows = make_rows(1, 3)._replace(
            observation=torch.randint(0, 256, (1, 3, 64, 64, 3), generator=generator()).byte()
        )
        rows = ReplayRows(*(f.float() if f.is_floating_point() else f for f in rows))
        noise = noise_for(model.rssm, 1, 3).float()
        losses = model.losses(rows, model.observe(rows, noise))
        assert all(value.isfinite() for value in losses.values())
        assert model.open_loop(rows, 1, noise).shape == (1, 3, 64, 64, 3)


def test_other_observations_are_refused():
    with pytest.raises(ValueError, match=r"observation_shape=\(32, 32, 3\): expected"):
        make_encoder(make_model().config, (32, 32, 3))
    assert make_model().rssm.cell.of_action[0].in_features == A
