"""Activation functions: derivatives, critical points and ranges against dense sampling."""

import math

import pytest
import torch
from torch import nn

from sdewm.certificates import activations
from sdewm.certificates.activations import (
    GELU,
    GELU_TANH,
    MISH,
    RELU,
    SIGMOID,
    SILU,
    TANH,
    Activation,
)
from sdewm.certificates.interval import Interval

SOFTPLUS = activations.softplus(1.0, 20.0)
SMOOTH = {
    "tanh": (TANH, nn.Tanh()),
    "sigmoid": (SIGMOID, nn.Sigmoid()),
    "softplus": (SOFTPLUS, nn.Softplus()),
    "softplus 3": (activations.softplus(3.0, 20.0), nn.Softplus(3.0)),
    "softplus 0.05": (activations.softplus(0.05, 20.0), nn.Softplus(0.05)),
    "silu": (SILU, nn.SiLU()),
    "gelu": (GELU, nn.GELU()),
    "mish": (MISH, nn.Mish()),
    "gelu tanh": (GELU_TANH, nn.GELU(approximate="tanh")),
}
ALL = SMOOTH | {
    "elu": (activations.elu(1.0), nn.ELU()),
    "elu 2.5": (activations.elu(2.5), nn.ELU(2.5)),
    "elu -1": (activations.elu(-1.0), nn.ELU(-1.0)),
    "relu": (RELU, nn.ReLU()),
}
CONSTANTS = {
    "tanh": (1.0, 0.769800),
    "sigmoid": (0.25, 0.096225),
    "softplus": (1.0, 0.25),
    "silu": (1.099840, 0.5),
    "gelu": (1.128905, 0.797885),
    "mish": (1.088498, 0.644205),
}


def dense(low: float, high: float, count: int = 20001) -> torch.Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


def whole() -> Interval:
    return Interval.everything(1)


@pytest.mark.parametrize("name", CONSTANTS)
def test_global_constants_are_the_known_ones_and_attained(name):
    activation, _ = SMOOTH[name]
    x = dense(-30.0, 30.0, 600001)
    pairs = zip(
        CONSTANTS[name],
        (activation.slope_range(whole()).magnitude, activation.bend_bound(whole())),
        (activation.slope(x).abs().max(), activation.bend(x).abs().max()),
        strict=True,
    )
    for known, bound, sampled in pairs:
        assert float(bound) == pytest.approx(known, abs=1e-6)
        assert 0.0 <= float(bound) - float(sampled) < 3e-8


@pytest.mark.parametrize("name", ALL)
def test_values_are_those_of_torch(name):
    activation, module = ALL[name]
    x = dense(-25.0, 25.0)
    assert (activation.value(x) - module(x)).abs().max() <= activation.jump + 1e-14


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_agree_with_automatic_differentiation_of_torch(name):
    activation, module = SMOOTH[name]
    x = dense(-6.0, 6.0, 501).requires_grad_()
    slope = torch.autograd.grad(module(x).sum(), x, create_graph=True)[0]
    bend = torch.autograd.grad(slope.sum(), x)[0]
    assert (activation.slope(x) - slope).abs().max() < 1e-13
    assert (activation.bend(x) - bend).abs().max() < 1e-13


@pytest.mark.parametrize("name", ALL)
def test_third_derivatives_are_those_of_the_bends(name):
    """Central differences of φ'' of order four."""
    activation, _ = ALL[name]
    x, step = dense(-6.0, 6.0, 500), 1e-3  # no point next to a kink
    near = activation.bend(x + step) - activation.bend(x - step)
    far = activation.bend(x + 2 * step) - activation.bend(x - 2 * step)
    third = (8 * near - far) / (12 * step)
    assert (activation.third(x) - third).abs().max() < 1e-9


@pytest.mark.parametrize("name", ALL)
def test_ranges_contain_dense_samples_and_are_attained(name):
    activation, _ = ALL[name]
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(400, dtype=torch.float64, generator=generator) * 4
    widths = 10.0 ** (torch.rand(400, dtype=torch.float64, generator=generator) * 5 - 4)
    box = Interval(centres - widths, centres + widths)
    x = box.lower + (box.upper - box.lower) * dense(0.0, 1.0, 4001)[:, None]
    kinked = activation.kink is not None
    outside = (box.lower > 0) | (box.upper < 0) if kinked else torch.ones(400, dtype=torch.bool)
    bend, third = activation.bend_bound(box), activation.third_bound(box)
    found = [
        (activation.value_range(box), activation.value(x)),
        (activation.slope_range(box), activation.slope(x)),
        (Interval(-bend, bend)[outside], activation.bend(x)[:, outside].abs()),
        (Interval(-third, third)[outside], activation.third(x)[:, outside].abs()),
    ]
    for number, (interval, values) in enumerate(found):
        low, high = values.amin(dim=0), values.amax(dim=0)
        assert bool((interval.upper >= high).all())
        assert bool((interval.lower <= low).all())
        # The grid misses an interior maximum by curvature times spacing²/8, a kink by its jump.
        spacing = (widths[outside] if number >= 2 else widths) / 2000
        slack = 1e-7 + 20 * spacing**2 + 2 * activation.jump + 2 * kinked * spacing
        if not kinked or number != 1:
            assert bool((interval.upper - high <= slack).all())
        if number == 0:
            assert bool((low - interval.lower <= slack).all())
    assert bool(torch.isinf(bend[~outside]).all())
    assert bool(torch.isinf(third[~outside]).all())


@pytest.mark.parametrize("name", ["silu", "mish", "gelu", "gelu tanh", "tanh"])
def test_a_missing_critical_point_would_be_noticed(name):
    activation, _ = SMOOTH[name]
    formulas = (activation.value, activation.slope, activation.bend, activation.third)
    blind = Activation("blind", *formulas)
    box = Interval(torch.tensor([-3.0]).double(), torch.tensor([3.1]).double())
    x = dense(-3.0, 3.1)
    assert float(blind.slope_range(box).upper) < float(activation.slope(x).max())
    assert float(blind.bend_bound(box)) < float(activation.bend(x).abs().max())
    assert float(blind.third_bound(box)) < float(activation.third(x).abs().max())


@pytest.mark.parametrize(
    "name", ["tanh", "sigmoid", "silu", "mish", "gelu", "gelu tanh", "softplus"]
)
def test_unbounded_intervals_reach_the_limits(name):
    activation, _ = SMOOTH[name]
    for low, high in ((-math.inf, math.inf), (-math.inf, 0.0), (0.0, math.inf)):
        ends = Interval(torch.tensor([low]).double(), torch.tensor([high]).double())
        x = dense(max(low, -1e4), min(high, 1e4), 200001)
        for interval, values in (
            (activation.value_range(ends), activation.value(x)),
            (activation.slope_range(ends), activation.slope(x)),
        ):
            assert not bool(torch.isnan(interval.lower) | torch.isnan(interval.upper))
            assert float(interval.lower) <= float(values.min())
            assert float(interval.upper) >= float(values.max())
