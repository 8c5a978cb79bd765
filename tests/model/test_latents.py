"""Laws of the latent: unimix, straight-through draws, KL, entropy."""

import math

import pytest
import torch

from sdewm.model.latents import CategoricalLatent, GaussianLatent
from tests.model.small_models import F64, generator, randn

CATEGORICAL = CategoricalLatent(groups=3, classes=4, unimix=0.01)
GAUSSIAN = GaussianLatent(size=5, min_std=0.1)


def test_unimix_bounds_every_probability_from_below():
    raw = torch.zeros(1, 12, dtype=F64)
    raw[:, ::4] = 1000.0
    stats = CATEGORICAL.stats(raw)
    probabilities = stats.exp()
    assert torch.allclose(probabilities.sum(-1), torch.ones(1, 3, dtype=F64), rtol=1e-12)
    assert probabilities[..., 1:].min().item() == pytest.approx(0.01 / 4, rel=1e-9)
    assert probabilities[..., 0].min().item() == pytest.approx(0.99 + 0.01 / 4, rel=1e-12)
    assert CategoricalLatent(3, 4, 0.0).stats(raw).exp().min() == 0.0


def test_sample_is_one_hot_with_the_gradient_of_the_probabilities():
    raw = randn(7, 12).requires_grad_()
    weights = randn(12, seed=1)
    stats = CATEGORICAL.stats(raw)
    draw = CATEGORICAL.sample(stats, torch.rand(7, 3, dtype=F64, generator=generator()))
    groups = draw.detach().unflatten(-1, (3, 4))
    assert torch.allclose(groups.sum(-1), torch.ones(7, 3, dtype=F64), rtol=1e-12)
    assert ((groups - groups.round()).abs() < 1e-12).all() and groups.round().max() == 1
    of_draw = torch.autograd.grad((draw * weights).sum(), raw, retain_graph=True)[0]
    of_mean = torch.autograd.grad((CATEGORICAL.mean(stats) * weights).sum(), raw)[0]
    assert torch.allclose(of_draw, of_mean, rtol=1e-12) and of_draw.abs().max() > 0


def test_frequencies_of_samples_are_the_probabilities():
    stats = CATEGORICAL.stats(randn(1, 12)).expand(20_000, 3, 4)
    noise = CATEGORICAL.draw_noise((20_000,), generator())
    assert noise.shape == (20_000, 3)
    mean = CATEGORICAL.sample(stats, noise).mean(0)
    p = CATEGORICAL.mean(stats)[0]
    assert ((mean - p).abs() < 4.5 * (p * (1 - p) / 20_000).sqrt()).all()
    assert torch.allclose(CATEGORICAL.std(stats)[0], (p * (1 - p)).sqrt(), rtol=1e-12)


def test_gaussian_std_follows_its_formula_and_draws_are_reparameterised():
    raw = randn(4, 10).requires_grad_()
    stats = GAUSSIAN.stats(raw)
    mean, free = raw[:, :5], raw[:, 5:]
    std = 2 / (1 + torch.exp(-free / 2)) + 0.1
    noise = randn(4, 5, seed=1)
    assert torch.allclose(GAUSSIAN.mean(stats), mean) and torch.allclose(GAUSSIAN.std(stats), std)
    assert torch.allclose(GAUSSIAN.sample(stats, noise), mean + std * noise)
    gradient = torch.autograd.grad(GAUSSIAN.sample(stats, noise).sum(), raw)[0]
    slope = noise * torch.sigmoid(free / 2) * (1 - torch.sigmoid(free / 2))
    assert torch.allclose(gradient, torch.cat([torch.ones_like(slope), slope], 1), rtol=1e-10)


def slow_categorical_kl(p, q):
    """Σ over groups and classes, one number at a time."""
    total = 0.0
    for s in range(p.shape[0]):
        for k in range(p.shape[1]):
            total += p[s, k].item() * math.log(p[s, k].item() / q[s, k].item())
    return total


def test_kl_sums_over_groups_per_state():
    p, q = CATEGORICAL.stats(randn(2, 12)), CATEGORICAL.stats(randn(2, 12, seed=1))
    kl = CATEGORICAL.kl(p, q)
    slow = [slow_categorical_kl(p[b].exp(), q[b].exp()) for b in range(2)]
    assert kl.tolist() == pytest.approx(slow, rel=1e-10)
    assert CATEGORICAL.kl(p, p).abs().max() < 1e-12 and not torch.allclose(kl, CATEGORICAL.kl(q, p))


def test_gaussian_kl_and_entropy_equal_torch_distributions():
    p, q = GAUSSIAN.stats(randn(3, 10)), GAUSSIAN.stats(randn(3, 10, seed=1))
    laws = [torch.distributions.Normal(s[:, 0], s[:, 1]) for s in (p, q)]
    expected = torch.distributions.kl_divergence(*laws).sum(-1)
    assert torch.allclose(GAUSSIAN.kl(p, q), expected, rtol=1e-10)
    assert torch.allclose(GAUSSIAN.entropy(p), laws[0].entropy().sum(-1), rtol=1e-10)


def test_categorical_entropy_equals_torch_distributions():
    stats = CATEGORICAL.stats(randn(3, 12))
    expected = torch.distributions.Categorical(probs=stats.exp()).entropy().sum(-1)
    assert torch.allclose(CATEGORICAL.entropy(stats), expected, rtol=1e-10)


@pytest.mark.parametrize("law", [CATEGORICAL, GAUSSIAN])
def test_half_precision_is_widened_and_sizes_are_stated(law):
    stats = law.stats(torch.zeros(2, law.raw_size, dtype=torch.bfloat16))
    assert stats.dtype == torch.float32
    noise = law.draw_noise((2,), generator())
    assert law.sample(stats, noise).shape == law.mean(stats).shape == (2, law.size)
