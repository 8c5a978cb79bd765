"""Jumps and kinks are found, and rounding is none of them."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from sdewm.base.smoothness import roughest, rounding_error
from sdewm.latent_sde.losses import HeadMean
from sdewm.model.heads import TwoHotHead


def states(seed):
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [1e-11, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4])
def test_the_rounding_of_an_untrained_critic_is_no_kink(size, seed):
    """Its bins reach to ±4.9e8 and cancel."""
    head = TwoHotHead(8, 16, 1, 255, "layer", "silu").double()
    last = [module for module in head.modules() if isinstance(module, nn.Linear)][-1]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in head.parameters():
            value.normal_(0.0, 0.3, generator=generator)
        last.weight.normal_(0.0, size, generator=generator)
        last.bias.zero_()
    critic, y = HeadMean(head), states(seed)
    assert roughest(critic, y) is None
    scale = float(critic(y).abs().max())
    # The controls: a jump and a kink of the function's own size. Rounding hides small kinks.
    assert roughest(lambda y: critic(y) + scale * (y[:, 0] > 0.1), y) == "jump"
    kink = roughest(lambda y: critic(y) + scale * (y[:, 0] - 0.1).abs(), y)
    assert kink is not None or size < 1e-7


@pytest.mark.parametrize("seed", range(5))
def test_kinks_of_networks_of_relus_are_found_and_networks_of_tanhs_have_none(seed):
    torch.manual_seed(seed)
    for activation, expected in ((nn.ReLU(), "kink"), (nn.Tanh(), None)):
        network = nn.Sequential(nn.Linear(8, 32), activation, nn.Linear(32, 1)).double()
        assert roughest(lambda y, net=network: net(y)[:, 0], states(seed)) == expected


@pytest.mark.parametrize("large", [1e3, 1e6, 1e9])
def test_the_rounding_error_is_that_of_the_largest_number_on_the_way(large):
    def cancelling(y):
        return (y.sum(1) + large) - large

    y = states(0)
    exact = [sum(map(Fraction, row)) for row in y.tolist()]
    errors = [abs(Fraction(v) - e) for v, e in zip(cancelling(y).tolist(), exact, strict=True)]
    found = rounding_error(cancelling, y)
    assert 0.5 * float(max(errors)) <= found <= 4 * float(max(errors))
    assert rounding_error(lambda y: torch.tanh(y).sum(1), y) < 5e-15  # the control


def test_arguments_that_are_no_numbers_stay_as_they_are_and_all_results_count():
    torch.manual_seed(0)
    images, y = torch.zeros(4, 2, dtype=torch.uint8), torch.rand(4, 2, dtype=torch.float64)

    def two(seen, y):
        assert seen is images
        return seen.double(), (y + 1e6 - 1e6)

    assert rounding_error(two, images, y) > 1e-12
    assert rounding_error(lambda seen, y: (y[:, :0], seen.double()), images, y) == 0.0
