"""Layers against one dense matrix; initial weights; frozen views."""

import pytest
import torch
from torch import nn

from sdewm.model.networks import (
    MLP,
    BlockLinear,
    Dense,
    SumLinear,
    initialise_all,
    make_norm,
    share_frozen,
)
from tests.model.small_models import F64, generator, gradient_sum, randn, shake


def test_block_linear_is_one_block_diagonal_matrix():
    layer = BlockLinear(12, 8, 4).double()
    initialise_all(layer, generator())
    shake(layer)
    matrix = torch.block_diag(*layer.weight.unbind(0))  # (12, 8)
    x = randn(2, 5, 12)
    assert torch.allclose(layer(x), x @ matrix + layer.bias, rtol=1e-12, atol=1e-12)


def test_block_linear_refuses_sizes_that_are_no_multiples():
    with pytest.raises(ValueError, match="outputs=7: expected a multiple of blocks=2"):
        BlockLinear(4, 7, 2)


def test_sum_linear_is_one_dense_layer_on_both_parts():
    layer = shake(SumLinear(4, 3, 6).double())
    dense = nn.Linear(7, 6).double()
    with torch.no_grad():
        dense.weight.copy_(torch.cat([layer.of_x.weight, layer.of_y.weight], 1))
        dense.bias.copy_(layer.of_x.bias)
    x, y = randn(5, 4), randn(5, 3, seed=1)
    assert torch.allclose(layer(x, layer.of_y(y)), dense(torch.cat([x, y], -1)), rtol=1e-12)


def test_mlp_is_linear_norm_activation_in_turn():
    mlp = shake(MLP(4, 6, 2, 3, "rms", "silu").double())
    x = expected = randn(5, 4)
    for dense in [*mlp][:2]:
        linear, norm = dense[0], dense[1]
        y = expected @ linear.weight.T + linear.bias
        y = y / torch.sqrt((y**2).mean(-1, keepdim=True) + 1e-4) * norm.weight
        expected = y / (1 + torch.exp(-y))
    expected = expected @ mlp[2].weight.T + mlp[2].bias
    assert torch.allclose(mlp(x), expected, rtol=1e-10)


def test_norms_have_the_published_guards():
    assert make_norm("rms", 4).eps == 1e-4
    assert make_norm("layer", 4).eps == 1e-3
    x = randn(3, 4)
    assert make_norm("none", 4)(x) is x
    with pytest.raises(ValueError, match="did you mean 'rms'"):
        make_norm("rmss", 4)


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="did you mean 'silu'"):
        Dense(2, 2, "rms", "sillu")


def spread_times_root(weight, fan_in):
    """Standard deviation over 1/√fan_in, and the greatest weight over the same."""
    scaled = weight.detach() * fan_in**0.5
    return scaled.std().item(), scaled.abs().max().item()


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (nn.Linear(200, 400), 200),
        (BlockLinear(256, 1024, 8), 256),  # all inputs, as published, not one block's 32
        (nn.Conv2d(16, 200, 5), 25 * 16),
        (nn.ConvTranspose2d(64, 64, 6, stride=2), 9 * 64),
    ],
)
def test_initial_weights_are_a_normal_law_cut_at_two_std(layer, fan_in):
    initialise_all(layer, generator())
    std, greatest = spread_times_root(layer.weight, fan_in)
    assert std == pytest.approx(1.0, abs=0.02)
    assert 2.2 < greatest <= 2 * 1.1368 * (1 + 1e-6)
    assert layer.bias.abs().max() == 0


def test_output_scale_and_fan_in_of_a_sum_are_honoured():
    zero, small = MLP(50, 50, 1, 9, "rms", "silu", 0.0), MLP(99, 99, 0, 400, "none", "elu", 0.01)
    pair = SumLinear(100, 300, 400)
    for module in (zero, small, pair):
        initialise_all(module, generator())
    assert zero[-1].weight.abs().max() == 0 and zero[0][0].weight.abs().max() > 0
    assert spread_times_root(small[-1].weight, 99)[0] == pytest.approx(0.01, rel=0.02)
    for part in (pair.of_x, pair.of_y):
        assert spread_times_root(part.weight, 400)[0] == pytest.approx(1.0, abs=0.02)


def test_initial_weights_depend_on_the_seed_alone():
    layers = [nn.Linear(5, 5) for _ in range(3)]
    for layer, seed in zip(layers, (0, 0, 1), strict=True):
        initialise_all(layer, generator(seed))
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert not torch.equal(layers[0].weight, layers[2].weight)


class WithBuffer(nn.Module):
    """A layer and a buffer in a submodule."""

    def __init__(self):
        super().__init__()
        self.part = nn.Linear(3, 2)
        self.part.register_buffer("scale", torch.ones(2))

    def forward(self, x):
        return self.part(x) * self.part.scale


def test_frozen_view_follows_updates_and_loads_and_takes_no_gradient():
    module = WithBuffer()
    view, x = share_frozen(module), torch.ones(1, 3)
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    module(x).sum().backward()
    optimiser.step()
    assert torch.equal(view(x), module(x))
    module.load_state_dict({name: torch.randn_like(w) for name, w in module.state_dict().items()})
    assert torch.equal(view(x), module(x))
    module.zero_grad()
    through = x.clone().requires_grad_()
    view(through).sum().backward()
    assert through.grad is not None and through.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in view.parameters())
    assert gradient_sum(module) == 0
    assert not torch.equal(WithBuffer()(x), module(x))


def test_float64_is_kept():
    assert MLP(3, 4, 1, 2, "layer", "elu").double()(randn(2, 3)).dtype == F64
