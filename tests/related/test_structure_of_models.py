"""Features, flatness, groups, weights over the horizon and Heun's step, against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from sdewm.related import solver_order
from sdewm.related.features import centroid_distance, largest_share, singular_value_entropy
from sdewm.related.flatness import hutchinson, loss_of_weights
from sdewm.related.solver_order import errors_ahead, heun_step
from sdewm.related.weighted_error import weighted_mean
from sdewm.related.worst_group import measure as measure_worst_group
from sdewm.related.worst_group import quadrants, worst_over_mean


def with_singular_values(values):
    """Centred features with these singular values and rotated directions, away from zero."""
    source = np.random.default_rng(0)
    basis = source.normal(size=(50, len(values)))
    left, _ = np.linalg.qr(basis - basis.mean(0))
    right, _ = np.linalg.qr(source.normal(size=(len(values), len(values))))
    return (left * values) @ right + 7.0


def test_the_indicators_of_a_matrix_of_known_singular_values():
    values = np.array([4.0, 2.0, 2.0])
    features, p = with_singular_values(values), values / values.sum()
    assert singular_value_entropy(features) == pytest.approx(-(p * np.log(p)).sum())
    assert largest_share(features, 1) == pytest.approx(16 / 24)  # squares; of the values: 1/2
    assert largest_share(features, 2) == pytest.approx(20 / 24)
    assert singular_value_entropy(with_singular_values(np.ones(3))) == pytest.approx(math.log(3))


def test_the_distance_of_means_is_in_standard_deviations_and_of_means_only():
    clean = np.random.default_rng(0).normal(0, 2, size=(100000, 4))
    shifted = clean + np.array([3.0, 0.0, 0.0, 4.0])
    assert centroid_distance(clean, shifted) == pytest.approx(5 / 4, rel=0.01)
    mirrored = 2 * clean.mean(0) - clean
    assert centroid_distance(clean, mirrored) == pytest.approx(0.0, abs=1e-12)


def small_loss():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(20, n, generator=generator, dtype=torch.float64) for n in (3, 1))

    def loss(weights):
        first, second = weights[:12].view(3, 4), weights[12:].view(4, 1)
        return (torch.tanh(x @ first) @ second - y).square().mean()

    return loss, torch.randn(16, generator=generator, dtype=torch.float64)


def test_the_trace_is_that_of_the_exact_hessian():
    loss, weights = small_loss()
    hessian = torch.autograd.functional.hessian(loss, weights)
    samples = hutchinson(loss, weights, 2000, torch.Generator().manual_seed(1))
    off_diagonal = hessian - torch.diag(hessian.diagonal())
    error = math.sqrt(2 * float(off_diagonal.square().sum()) / 2000)
    assert float(samples.mean()) == pytest.approx(float(hessian.trace()), abs=4 * error)
    variance = 2 * float(off_diagonal.square().sum())
    assert float(samples.var()) == pytest.approx(variance, rel=0.15)
    assert 2 * float(hessian.square().sum()) > 1.2 * variance  # of probes with normal entries


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_curvlinops_gives_the_same_samples_of_the_trace():
    curvlinops = pytest.importorskip("curvlinops")
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    parameters = dict(network.named_parameters())
    x, y = torch.randn(20, 3).double(), torch.randn(20, 2).double()

    def loss(weights):
        parts = weights.split([part.numel() for part in parameters.values()])
        named = {
            name: part.view_as(old)
            for (name, old), part in zip(parameters.items(), parts, strict=True)
        }
        return (functional_call(network, named, (x,)) - y).square().mean()

    weights = nn.utils.parameters_to_vector(network.parameters())
    ours = hutchinson(loss, weights, 3, torch.Generator().manual_seed(1))
    hessian = curvlinops.HessianLinearOperator(
        network, nn.MSELoss(), [*parameters.values()], [(x, y)]
    )
    generator = torch.Generator().manual_seed(1)
    for sample in ours:
        v = torch.randn(len(weights), generator=generator).sign().double()
        assert float(sample) == pytest.approx(float(v @ (hessian @ v)), rel=1e-10)


def test_the_hessian_of_a_model_is_that_of_differences_of_its_gradient(measured):
    loss, weights = loss_of_weights(measured)
    v = torch.randn(len(weights), generator=torch.Generator().manual_seed(0)).sign().double()
    generator = torch.Generator().manual_seed(0)
    (sample,) = hutchinson(loss, weights, 1, generator)

    def slope(size):
        at = (weights + size * v).requires_grad_()
        return torch.autograd.grad(loss(at), at)[0] @ v

    difference = (slope(1e-6) - slope(-1e-6)) / 2e-6
    assert float(sample) == pytest.approx(float(difference), rel=1e-5)


def test_precise_steps_count_more():
    source = np.random.default_rng(0)
    errors = np.stack([source.normal(1, 0.1, 5000), source.normal(9, 10, 5000)], 1)
    assert weighted_mean(errors) == pytest.approx(1.0, abs=0.02)
    assert weighted_mean(errors[:, :1].repeat(2, 1)) == pytest.approx(errors[:, 0].mean())


@pytest.mark.parametrize(("sigma", "bias"), [(1.0, -0.04), (2.0, -0.4)])
def test_the_error_by_precision_of_skewed_errors_is_too_low_by_as_much_as_said(sigma, bias):
    source, mean = np.random.default_rng(0), math.exp(sigma**2 / 2)
    errors = np.exp(sigma * source.standard_normal((100, 128, 80)))
    found = [math.log(weighted_mean(one) / mean) for one in errors]
    assert np.mean(found) == pytest.approx(bias, abs=0.01)


def test_quadrants_are_centred_on_up_sides_and_down():
    angles = np.deg2rad([0, 44, 46, 134, 136, 180, -179, -136, -134, -46, -44])
    found = quadrants(np.cos(angles), np.sin(angles))
    assert found.tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 0]


def test_the_worst_group_is_compared_with_groups_not_with_episodes():
    errors, groups = np.array([1.0] * 99 + [5.0]), np.array([0] * 99 + [3])
    assert worst_over_mean(errors, groups) == pytest.approx(math.log(5 / 3))
    assert worst_over_mean(np.ones(100), groups) == 0.0


@pytest.mark.parametrize(("sigma", "chance"), [(1.5, 0.49), (2.0, 0.64)])
def test_the_worst_of_groups_at_random_is_worse_by_as_much_as_said(sigma, chance):
    source, groups = np.random.default_rng(0), np.repeat(range(4), [98, 12, 13, 5])
    errors = np.exp(sigma * source.standard_normal((2000, 128)))
    found = [worst_over_mean(one, groups) for one in errors]
    assert np.mean(found) == pytest.approx(chance, abs=0.02)


def test_observations_of_the_task_hold_cosine_and_sine(measured):
    last = measured.predicted.last_observation
    np.testing.assert_allclose(last[:, 1] ** 2 + last[:, 2] ** 2, 1.0, atol=1e-6)
    assert 0 <= measure_worst_group(measured) <= math.log(4)


@pytest.mark.parametrize("rate", [-0.5, 0.3])
def test_heun_on_a_linear_step_has_the_second_order_factor(rate):
    x = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    found = heun_step(lambda x: (1 + rate) * x, x)
    torch.testing.assert_close(found, (1 + rate + rate**2 / 2) * x)


def test_the_mean_path_is_the_rollout_without_noise(measured):
    model, episodes = measured.model, measured.episodes
    context, total = 20, 20 + solver_order.STEPS
    shape = (len(episodes.rewards), context)
    none = torch.zeros(*shape, model.noise_size, dtype=torch.float64)
    head = episodes.first_rows(context)
    state, _ = model.rssm.filter(
        model.embed(head.observations), head.previous_actions.double(),
        torch.zeros(shape, dtype=torch.bool), none,
    )  # fmt: skip
    state = type(state)(*(part[:, -1] for part in state))
    for t in range(context, total):
        state = model.rssm.imagine_step(state, episodes.previous_actions[:, t].double(), none[:, 0])
    decoded = model.world_model.decoder.predict(state.features).numpy() / measured.scale
    truth = episodes.observations[:, total - 1].double().numpy() / measured.unit
    found = errors_ahead(measured, heun=False)
    np.testing.assert_allclose(found, np.square(decoded - truth).mean(1), rtol=1e-5)
    assert not np.allclose(errors_ahead(measured, heun=True), found, rtol=1e-2)
