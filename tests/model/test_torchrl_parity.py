"""Losses against those of torchrl's DreamerV3, an implementation by others; skipped without it."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sdewm.model.behaviour import Behaviour, BehaviourConfig
from sdewm.model.distributions import symexp_bins, symmetric_mean, two_hot, two_hot_loss
from sdewm.model.latents import CategoricalLatent
from sdewm.model.returns import ReturnNormaliser, lambda_return
from tests.model.small_models import A, generator, make_model, make_rows, randn, shake

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party deprecations at import
    objectives = pytest.importorskip("torchrl.objectives.dreamer_v3")
    layers = pytest.importorskip("torchrl.modules.models.model_based")
    norms = pytest.importorskip("torchrl.modules.value_norm")
    tensordict = pytest.importorskip("tensordict")
    tensordict_nn = pytest.importorskip("tensordict.nn")

pytestmark = pytest.mark.filterwarnings(  # torchrl's own
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore:No target network updater:UserWarning",
)


@pytest.mark.parametrize("free_nats", [0.0, 1.0, 3.0])
def test_kl_terms_and_their_gradients(free_nats):
    raw = [randn(40, 12, seed=seed).requires_grad_() for seed in (0, 1)]
    logits = [x.unflatten(-1, (3, 4)) for x in raw]
    theirs = objectives.categorical_kl_terms(*logits, free_nats=free_nats, unimix=0.01)
    model = make_model(free_nats=free_nats)
    law = CategoricalLatent(3, 4, 0.01)
    posterior, prior = (law.stats(x) for x in raw)
    ours = [
        model._free(law.kl(posterior.detach(), prior)),
        model._free(law.kl(posterior, prior.detach())),
    ]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.item() == pytest.approx(other.item(), rel=1e-10)
        slopes = [
            torch.autograd.grad(loss, raw, retain_graph=True, allow_unused=True)
            for loss in (mine, other)
        ]
        for a, b in zip(*slopes, strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.allclose(a, b, rtol=1e-8, atol=1e-12)


def test_two_hot_bins_weights_loss_and_mean():
    bins, theirs = symexp_bins(255), layers._default_bins(255)
    assert torch.allclose(bins, theirs, rtol=1e-5)
    x = 1000 * torch.randn(200, generator=generator()) ** 3
    logits = torch.randn(200, 255, generator=generator(1))
    log_p = torch.log_softmax(logits, -1)
    assert torch.allclose(two_hot(x, bins), layers.two_hot_encode(x, bins), atol=1e-5)
    ours, other = two_hot_loss(log_p, x, bins), layers.two_hot_cross_entropy(logits, x, bins)
    assert torch.allclose(ours, other, rtol=1e-4)
    means = symmetric_mean(log_p.exp(), bins), layers.two_hot_decode(logits, bins)
    assert torch.allclose(*means, rtol=1e-4, atol=10.0)  # of sums of the size of 10⁸


def test_lambda_returns_with_continuation():
    reward, value, continues = torch.rand(3, 5, 7, 1, dtype=torch.float64, generator=generator())
    estimator = SimpleNamespace(gamma=torch.tensor(0.9), lmbda=torch.tensor(0.95))
    theirs = objectives.DreamerV3ActorLoss.lambda_target(
        SimpleNamespace(value_estimator=estimator), reward, value, continues
    )
    gamma, lambda_ = estimator.gamma.to(reward), estimator.lmbda.to(reward)
    ours = lambda_return(reward[..., 0], gamma * continues[..., 0], value[..., 0], lambda_)
    assert torch.allclose(ours, theirs[..., 0], rtol=1e-10)


def test_running_scale_of_returns():
    ours, theirs = ReturnNormaliser(0.01), norms.PercentileValueNorm(shape=1, rate=0.01)
    for seed in range(50):
        returns = 500 * torch.randn(300, generator=generator(seed)) + seed
        ours.update(returns)
        theirs.update(returns[:, None])
    assert ours.scale().item() == pytest.approx(theirs.scale().item(), rel=1e-4)
    assert ours.scale() > 10


class Critic(nn.Module):
    """Our critic with the outputs that torchrl's loss reads."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, features):
        logits = self.head(features)
        return logits, self.head.mean(logits)[..., None]


def test_replay_loss_and_its_gradient_into_the_features():
    model, rows = make_model(bins=255), make_rows(firsts=((0, 3), (1, 4)))
    config = BehaviourConfig(units=8, critic_layers=1)
    behaviour = Behaviour(config, model, A, generator()).double()
    shake(behaviour.critic)
    behaviour.slow_critic.load_state_dict(behaviour.critic.state_dict())
    features = randn(*rows.reward.shape, model.rssm.features_size).requires_grad_()
    starts = randn(*rows.reward.shape, seed=1)
    ours = behaviour.replay_loss(rows, features, starts)

    value_model = tensordict_nn.TensorDictModule(
        Critic(behaviour.critic), in_keys=["state"], out_keys=["state_value_logits", "state_value"]
    )
    loss = objectives.DreamerV3ValueLoss(
        value_model, value_loss="two_hot", num_value_bins=255, slow_critic_regularization=1.0
    ).double()
    loss.set_keys(value_logits="state_value_logits")
    loss.value_bins = behaviour.critic.bins
    batch = {
        "state": features,
        "bootstrap": starts,
        "next": {
            "reward": rows.reward[..., None],
            "done": rows.is_last[..., None],
            "terminated": rows.is_terminal[..., None],
        },
    }
    found = loss.replay_value_loss(tensordict.TensorDict(batch, [*rows.reward.shape]))
    theirs = found["loss_replay_value"]
    assert rows.is_terminal.any() and (rows.is_last & ~rows.is_terminal).any()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    slopes = [torch.autograd.grad(x, features)[0] for x in (ours, theirs)]
    assert torch.allclose(*slopes, rtol=1e-4, atol=1e-8) and slopes[0].abs().max() > 1e-4
