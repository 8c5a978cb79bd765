"""Tail indices, contraction of the divergence, and spread of samples, against known laws."""

import numpy as np
import pytest
import torch
from torch.func import grad

from sdewm.model.world_model import ReplayRows
from sdewm.related import drift_equilibrium, heavy_tails
from sdewm.related.drift_equilibrium import contraction
from sdewm.related.heavy_tails import gradient_noise, tail_index
from sdewm.related.sample_consistency import log_spread
from sdewm.related.training_loss import TrainingLoss


@pytest.mark.parametrize("alpha", [1.5, 4.0])
def test_the_tail_index_of_pareto_norms_is_theirs(alpha):
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(20000, 5, generator=generator, dtype=torch.float64)
    directions /= directions.norm(dim=1, keepdim=True)
    sizes = torch.rand(20000, 1, generator=generator, dtype=torch.float64) ** (-1 / alpha)
    assert tail_index(sizes * directions, 2000) == pytest.approx(alpha, rel=0.07)


def test_normal_vectors_have_a_larger_index_than_cauchy_vectors():
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(5000, 4, generator=generator)
    cauchy = torch.randn(5000, 4, generator=generator) / torch.randn(5000, 1, generator=generator)
    assert tail_index(cauchy) < 1.5 < 4 < tail_index(normal)


def test_merged_batches_have_a_smaller_noise_and_no_mean():
    generator = torch.Generator().manual_seed(0)
    gradients = 7 + torch.randn(4096, 3, generator=generator, dtype=torch.float64)
    single, merged = gradient_noise(gradients, 1), gradient_noise(gradients, 4)
    assert merged.shape == (1024, 3) and merged.mean(0).abs().max() < 1e-12
    ratio = single.square().mean() / merged.square().mean()
    assert ratio == pytest.approx(4.0, rel=0.1)


def test_gradients_of_batches_are_those_of_backward(measured, monkeypatch):
    monkeypatch.setattr(heavy_tails, "BATCHES", 4)
    found = heavy_tails.batch_gradients(measured)
    rows = heavy_tails.sequences(measured)
    generator = torch.Generator().manual_seed(measured.seed)
    order = torch.randperm(len(rows.reward), generator=generator)[: 4 * heavy_tails.SMALLEST]
    noise = measured.model.draw_noise((len(order), heavy_tails.LENGTH), generator)
    model = measured.model.world_model
    loss = TrainingLoss(model, stop_gradients=True)
    first = slice(heavy_tails.SMALLEST)
    model.requires_grad_(True)
    try:
        batch = ReplayRows(*(part[order][first] for part in rows))
        loss(batch, noise[first]).backward()
        plain = torch.cat([weight.grad.flatten() for weight in loss.parameters()])
    finally:
        model.zero_grad()
        model.requires_grad_(False)
    assert found.shape == (4, len(plain))
    torch.testing.assert_close(found[0], plain, rtol=1e-8, atol=1e-10)
    assert not torch.allclose(found[1], plain, rtol=1e-2)


def test_the_loss_has_its_value_with_and_without_stop_gradients_but_not_its_gradient(measured):
    model, rows = measured.model.world_model, heavy_tails.sequences(measured)
    rows = ReplayRows(*(part[:2] for part in rows))
    noise = measured.model.draw_noise((2, heavy_tails.LENGTH), torch.Generator().manual_seed(0))
    values, slopes = [], []
    for stop in (True, False):
        loss = TrainingLoss(model, stop_gradients=stop)

        def of_weights(weights, loss=loss):
            return torch.func.functional_call(loss, weights, (rows, noise))

        values.append(float(of_weights(loss.weights())))
        slope = grad(of_weights)(loss.weights())
        slopes.append(torch.cat([part.flatten() for part in slope.values()]))
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert not torch.allclose(slopes[0], slopes[1], rtol=1e-3)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1])
def test_the_contraction_of_a_recursion_is_its_factor(factor):
    curve = [1.0]
    for _ in range(30):
        curve.append(factor * curve[-1] + 0.3)
    assert contraction(np.array(curve)) == pytest.approx(factor)


def test_a_curve_that_alternates_has_no_memory():
    assert contraction(np.array([1.0, 2.0, 1.0, 2.0, 1.0])) == 0.0


def test_the_divergence_of_the_shipped_model_is_a_mean_over_samples_and_episodes(measured):
    kl = measured.predicted.rollout.kl
    curve = np.array([[kl[s, e] for e in range(kl.shape[1])] for s in range(len(kl))]).mean((0, 1))
    assert drift_equilibrium.measure(measured) == pytest.approx(contraction(curve))


def test_the_spread_is_over_samples_not_over_episodes():
    source = np.random.default_rng(0)
    noise = source.normal(size=(50000, 1, 1))
    samples = 0.2 * noise + np.array([-3.0, 3.0])[None, :, None]
    np.testing.assert_allclose(np.exp(log_spread(samples)), [0.2, 0.2], rtol=0.02)
    two = np.array([[[0.0]], [[2.0]]])  # variance 2 with divisor 1, not 1
    assert np.exp(log_spread(two)) == pytest.approx(np.sqrt(2))
