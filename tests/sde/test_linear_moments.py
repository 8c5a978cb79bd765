"""Second moments of many components, where the matrix of the generator is not formed."""

import math

import pytest
import torch

from sdewm.sde.linear_moments import mean_square_growth_rate, moment_path


@pytest.mark.parametrize("size", [2, 17])
@pytest.mark.parametrize("rate", [-60.0, 0.4])
def test_equal_and_independent_components_grow_at_the_closed_rate(size, rate):
    """dx = a x dt + b x dB in each component: E x² = e^{(2a + b²)t}, however many there are."""
    unit = torch.eye(size, dtype=torch.float64)
    drift, noise = rate * unit, 0.5 * unit[None]
    path = moment_path(drift, noise, unit, 0.5, 2, scheme=False)
    for n in range(3):
        exact = math.exp((2 * rate + 0.25) * 0.5 * n)
        torch.testing.assert_close(path[n], exact * unit, rtol=1e-9, atol=1e-12)
    assert mean_square_growth_rate(drift, noise) == pytest.approx(rate + 0.125, rel=1e-9)


def test_small_and_large_systems_have_the_same_moments():
    """Two components among seventeen, the others at rest."""
    drift = torch.tensor([[-0.6, 0.9], [0.2, -0.4]], dtype=torch.float64)
    noise = torch.tensor([[[0.3, 0.1], [-0.2, 0.25]]], dtype=torch.float64)
    start = torch.tensor([[1.0, 0.5], [0.5, 2.0]], dtype=torch.float64)
    wide = [torch.nn.functional.pad(part, (0, 15, 0, 15)) for part in (drift, noise, start)]
    small = moment_path(drift, noise, start, 0.4, 3, scheme=False)
    large = moment_path(*wide, 0.4, 3, scheme=False)
    torch.testing.assert_close(large[:, :2, :2], small, rtol=1e-10, atol=1e-12)
    assert not large[:, 2:].any()
