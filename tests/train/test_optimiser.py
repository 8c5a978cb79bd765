"""Optimisers against loops over single numbers in float64."""

import math

import pytest
import torch
from torch import nn

from sdewm.model.networks import share_frozen
from sdewm.train.optimiser import LaProp, Optimiser, OptimiserConfig, clip_adaptively

F64 = torch.float64
V2 = OptimiserConfig(
    algorithm="adam", model_lr=3e-4, eps=1e-5, clip=100.0, warmup_updates=0, weight_decay=1e-6
)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def make_layer(seed=0):
    layer = nn.Linear(3, 2).double()
    with torch.no_grad():
        layer.weight.copy_(randn(2, 3, seed=seed))
        layer.bias.copy_(randn(2, seed=seed + 1))
    return layer


def set_gradients(layer, update, size=1.0):
    for index, weight in enumerate(layer.parameters()):
        weight.grad = size * randn(*weight.shape, seed=100 * update + index)


def advance(optimiser, update):
    optimiser.schedule(update)
    return optimiser.step()


class SlowLaProp:
    """One tensor, as a list of Python numbers."""

    def __init__(self, weights, config):
        self.weights, self.config, self.age = list(weights), config, 0
        self.squares, self.momenta = [0.0] * len(weights), [0.0] * len(weights)

    def step(self, gradients, rate):
        c = self.config
        self.age += 1
        norm = math.sqrt(sum(g * g for g in gradients))
        limit = c.clip * max(1e-3, math.sqrt(sum(w * w for w in self.weights)))
        factor = 1.0 if norm <= limit else limit / norm
        for i, gradient in enumerate(gradients):
            g = gradient * factor
            self.squares[i] = c.beta2 * self.squares[i] + (1 - c.beta2) * g * g
            square = self.squares[i] / (1 - c.beta2**self.age)
            u = g / (math.sqrt(square) + c.eps)
            self.momenta[i] = c.beta1 * self.momenta[i] + (1 - c.beta1) * u
            self.weights[i] -= rate * self.momenta[i] / (1 - c.beta1**self.age)


@pytest.mark.parametrize("size", [0.05, 5.0])  # unclipped and clipped
def test_laprop_with_warm_up_equals_a_loop_over_numbers(size):
    config = OptimiserConfig(model_lr=1e-2, warmup_updates=3, eps=1e-8)
    layer = make_layer()
    slow = [SlowLaProp(weight.detach().flatten().tolist(), config) for weight in layer.parameters()]
    optimiser = Optimiser(config, {"model": layer})
    for update in range(1, 7):
        set_gradients(layer, update, size)
        for one, weight in zip(slow, layer.parameters(), strict=True):
            one.step(weight.grad.flatten().tolist(), 1e-2 * min(1.0, update / 3))
        advance(optimiser, update)
        for one, weight in zip(slow, layer.parameters(), strict=True):
            assert weight.detach().flatten().tolist() == pytest.approx(one.weights, rel=1e-10)


def test_the_first_step_has_the_size_of_the_rate():
    layer = make_layer()
    before = layer.weight.detach().clone()
    set_gradients(layer, 1, 1e-9)
    advance(Optimiser(OptimiserConfig(warmup_updates=0), {"model": layer}), 1)
    change = (layer.weight - before).abs()
    assert torch.allclose(change, torch.full_like(change, 4e-5), rtol=1e-6)


def test_momentum_is_of_scaled_gradients_and_not_scaled_afterwards():
    """LaProp and Adam differ: after one large gradient Adam's momentum shrinks with its root."""
    config = OptimiserConfig(warmup_updates=0, model_lr=1e-2, clip=1e9)
    layers = make_layer(), make_layer()
    laprop = Optimiser(config, {"model": layers[0]})
    adam = torch.optim.Adam(layers[1].parameters(), 1e-2, (0.9, 0.999), 1e-20)
    for update, size in enumerate((1.0, 100.0, 1.0), 1):
        for layer in layers:
            set_gradients(layer, update, size)
        advance(laprop, update)
        adam.step()
    assert not torch.allclose(layers[0].weight, layers[1].weight, rtol=1e-6)


def test_adaptive_clipping_bounds_the_ratio_tensor_by_tensor():
    weights = [randn(4, 3), 1e-6 * randn(5), randn(2)]
    gradients = [100 * randn(4, 3, seed=1), randn(5, seed=2), 1e-3 * randn(2, seed=3)]
    kept = [g.clone() for g in gradients]
    clipped = clip_adaptively(weights, gradients, 0.3)
    limits = [0.3 * weights[0].norm(), 0.3 * 1e-3]  # the norm of a weight counts as 10⁻³ at least
    for found, given, limit in zip(clipped[:2], kept[:2], limits, strict=True):
        assert found.norm().item() == pytest.approx(float(limit), rel=1e-10)
        assert torch.allclose(found / found.norm(), given / given.norm())
    assert torch.equal(clipped[2], kept[2])
    assert all(torch.equal(g, k) for g, k in zip(gradients, kept, strict=True))


def test_zero_gradients_leave_the_weights():
    layer = make_layer()
    before = [weight.detach().clone() for weight in layer.parameters()]
    for weight in layer.parameters():
        weight.grad = torch.zeros_like(weight)
    advance(Optimiser(OptimiserConfig(warmup_updates=0), {"model": layer}), 1)
    assert all(torch.equal(w, b) for w, b in zip(layer.parameters(), before, strict=True))


def test_a_weight_without_gradient_at_first_is_corrected_by_its_own_age():
    config = OptimiserConfig(model_lr=1e-2, eps=1e-8)
    layer = make_layer()
    late = SlowLaProp(layer.bias.detach().tolist(), config)
    rule = LaProp([{"params": [*layer.parameters()], "lr": 1e-2}], config)
    for update in range(1, 6):
        set_gradients(layer, update)
        if update < 4:
            layer.bias.grad = None
        else:
            late.step(layer.bias.grad.tolist(), 1e-2)
        rule.step()
    assert layer.bias.tolist() == pytest.approx(late.weights, rel=1e-10)


def test_adam_removes_a_fraction_of_1e_6_of_every_weight_per_update():
    layer = make_layer()
    before = [weight.detach().clone() for weight in layer.parameters()]
    optimiser = Optimiser(V2, {"model": layer})
    for update in range(1, 11):
        for weight in layer.parameters():
            weight.grad = torch.zeros_like(weight)
        advance(optimiser, update)
    for weight, start in zip(layer.parameters(), before, strict=True):
        assert torch.allclose(weight, start * (1 - 1e-6) ** 10, rtol=1e-13)
        assert not torch.allclose(weight, start, rtol=1e-7, atol=0)


def test_weight_decay_does_not_depend_on_the_learning_rate():
    config = OptimiserConfig(algorithm="adam", warmup_updates=10, weight_decay=1e-2, clip=100.0)
    layer = make_layer()
    start = layer.weight.detach().clone()
    layer.weight.grad = torch.zeros_like(layer.weight)
    advance(Optimiser(config, {"model": layer}), 1)
    assert torch.allclose(layer.weight, start * 0.99, rtol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_adam_clips_the_norm_of_each_part_by_itself(size):
    parts = {"model": make_layer(), "actor": make_layer(2)}
    optimiser = Optimiser(V2, parts)
    slow = {
        name: torch.optim.Adam([w.detach().clone() for w in part.parameters()], rate, eps=1e-5)
        for (name, part), rate in zip(parts.items(), (3e-4, 4e-5), strict=True)
    }
    for update in range(1, 4):
        norms = {}
        for name, part in parts.items():
            set_gradients(part, update, size if name == "model" else 1.0)
            weights = slow[name].param_groups[0]["params"]
            norm = math.sqrt(sum(float((w.grad**2).sum()) for w in part.parameters()))
            norms[name] = norm
            for copy, weight in zip(weights, part.parameters(), strict=True):
                copy.grad = weight.grad * min(1.0, 100.0 / norm)
                copy *= 1 - 1e-6
            slow[name].step()
        found = advance(optimiser, update)
        assert {name: value.item() for name, value in found.items()} == pytest.approx(norms)
    for name, part in parts.items():
        for copy, weight in zip(
            slow[name].param_groups[0]["params"], part.parameters(), strict=True
        ):
            assert torch.allclose(weight, copy, rtol=1e-9)


def test_every_part_has_its_rate_and_gradients_are_cleared():
    config = OptimiserConfig(model_lr=1e-2, actor_lr=1e-3, critic_lr=1e-4, warmup_updates=4)
    parts = {name: make_layer() for name in ("model", "actor", "critic")}
    optimiser = Optimiser(config, parts)
    for part in parts.values():
        set_gradients(part, 1, 1e-6)
    advance(optimiser, 2)
    for name, rate in (("model", 1e-2), ("actor", 1e-3), ("critic", 1e-4)):
        change = (parts[name].weight - make_layer().weight).abs().mean()
        assert change.item() == pytest.approx(rate / 2, rel=1e-6)  # half of the warm-up
        assert all(weight.grad is None for weight in parts[name].parameters())


def test_parts_without_gradient_stay_and_frozen_weights_are_left_out():
    parts = {"model": make_layer(), "actor": make_layer()}
    frozen = share_frozen(parts["model"])
    for rule in (OptimiserConfig(), V2):
        optimiser = Optimiser(rule, parts | {"critic": frozen})
        assert optimiser.parts["critic"] == []
        before = parts["actor"].weight.detach().clone()
        set_gradients(parts["model"], 1)
        norms = advance(optimiser, 1)
        assert [*norms] == ["model"] and torch.equal(parts["actor"].weight, before)
        assert torch.equal(frozen.weight, parts["model"].weight)  # sees the update


@pytest.mark.parametrize("config", [OptimiserConfig(warmup_updates=5), V2])
def test_a_restored_optimiser_goes_on_bitwise_the_same(config):
    layers = [make_layer(), make_layer()]
    optimisers = [Optimiser(config, {"model": layer}) for layer in layers]
    for update in range(1, 4):
        set_gradients(layers[0], update)
        advance(optimisers[0], update)
    layers[1].load_state_dict(layers[0].state_dict())
    saved = optimisers[0].state_dict()
    optimisers[1].load_state_dict(saved)
    for optimiser, layer in zip(optimisers, layers, strict=True):
        for update in range(4, 7):
            set_gradients(layer, update)
            advance(optimiser, update)
    assert torch.equal(layers[0].weight, layers[1].weight)
    fresh = make_layer()
    fresh.load_state_dict(layers[0].state_dict())
    forgetful = Optimiser(config, {"model": fresh})
    for layer, optimiser in ((layers[0], optimisers[0]), (fresh, forgetful)):
        set_gradients(layer, 7)
        advance(optimiser, 7)
    assert not torch.equal(layers[0].weight, fresh.weight)
