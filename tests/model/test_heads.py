"""Scalar heads: two-hot cross-entropy, unit normal, Bernoulli."""

import math

import pytest
import torch

from sdewm.model.distributions import symexp_bins, two_hot
from sdewm.model.heads import SCALAR_HEADS, ContinueHead, NormalHead, TwoHotHead
from sdewm.model.networks import initialise_all
from tests.model.small_models import generator, shake

F = 6


def ready(kind, *sizes):
    head = kind(F, 8, 2, *sizes, "rms", "silu")
    initialise_all(head, generator())
    return head


def features(count=5):
    return torch.randn(count, F, generator=generator())


@pytest.mark.parametrize("kind", [*SCALAR_HEADS.values()])
def test_reward_and_value_are_exactly_zero_at_first(kind):
    head = ready(kind, 255)
    assert (head.mean(head(features())) == 0).all()
    shake(head)
    assert (head.mean(head(features())) != 0).all()


def test_two_hot_head_has_255_symexp_bins_up_to_20():
    head = ready(TwoHotHead, 255)
    assert head.bins.shape == (255,) and head.bins[127] == 0
    assert head.bins[-1].item() == pytest.approx(math.expm1(20), rel=1e-5)
    assert head.bins[128].item() == pytest.approx(math.expm1(20 / 127), rel=1e-5)
    assert "bins" not in head.state_dict()


def test_two_hot_loss_is_the_cross_entropy_with_a_target_in_raw_units():
    head = shake(ready(TwoHotHead, 21))
    law, target = head(features()), torch.tensor([0.3, -4.0, 700.0, 0.0, 1e12])
    slow = -(two_hot(target, head.bins) * law).sum(-1)
    assert torch.allclose(head.loss(law, target), slow, rtol=1e-5)
    assert torch.allclose(law.exp().sum(-1), torch.ones(5), rtol=1e-5)


def test_two_hot_mean_of_a_fitted_law_is_the_target():
    """The mean is taken in raw units, not symexp of a mean of symlogs."""
    bins = symexp_bins(21)
    head = ready(TwoHotHead, 21)
    for target in (-300.0, -0.4, 0.0, 2.5, 90.0):
        law = two_hot(torch.tensor([target]), bins).clamp(min=1e-30).log()
        assert head.mean(law).item() == pytest.approx(target, rel=1e-4, abs=1e-5)
    even = torch.zeros(1, 21)
    even[0, 10] = even[0, 14] = 0.5
    middle = head.mean(even.clamp(min=1e-30).log()).item()
    assert middle == pytest.approx(0.5 * bins[14].item(), rel=1e-5)


def test_two_hot_gradient_vanishes_at_the_target_law():
    head = ready(TwoHotHead, 21)
    target = torch.tensor([2.5])
    logits = two_hot(target, head.bins).clamp(min=1e-12).log().requires_grad_()
    loss = head.loss(torch.log_softmax(logits, -1), target).sum()
    assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-6
    other = torch.zeros(1, 21, requires_grad=True)
    loss = head.loss(torch.log_softmax(other, -1), target).sum()
    assert torch.autograd.grad(loss, other)[0].abs().max() > 0.1


def test_normal_head_is_a_unit_normal():
    head = shake(ready(NormalHead, 255))
    law, target = head(features()), torch.randn(5, generator=generator(1))
    expected = -torch.distributions.Normal(law[:, 0], 1.0).log_prob(target)
    assert torch.allclose(head.loss(law, target), expected, rtol=1e-5)
    assert torch.equal(head.mean(law), law[:, 0])


def test_continue_head_is_a_bernoulli_law():
    head = shake(ready(ContinueHead))
    law, target = head(features()), torch.tensor([1.0, 0.0, 1.0, 0.0, 0.5])
    p = head.mean(law)
    slow = -(target * p.log() + (1 - target) * (1 - p).log())
    assert torch.allclose(head.loss(law, target), slow, rtol=1e-4)
    assert torch.allclose(p, 1 / (1 + torch.exp(-law[:, 0])))
    assert ready(ContinueHead).layers[-1].weight.abs().max() > 0  # not a zero output layer


@pytest.mark.parametrize("kind", [TwoHotHead, NormalHead])
def test_losses_fall_on_a_small_regression(kind):
    head, x = ready(kind, 41), features(32)
    target = 20 * x[:, 0]
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        losses.append(head.loss(head(x), target).mean())
        losses[-1].backward()
        optimiser.step()
    error = (head.mean(head(x)) - target).abs().mean()
    assert losses[-1] < 0.5 * losses[0] and error < 0.3 * target.abs().mean()
