"""Composition of enclosures where it loses nothing: one unit, and terms of one sign."""

import math

import pytest
import torch
from torch import nn

import sdewm
from sdewm.certificates.derivative_enclosure import interval_distance
from sdewm.certificates.gru_system import RecurrentSystem
from sdewm.certificates.interval import Interval
from sdewm.certificates.layers import Residual

AT, WEIGHT = 0.2, 3.0


def linear():
    layer = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    layer.weight.data.fill_(WEIGHT)
    return layer


def region(low, high):
    return tuple(torch.tensor([end], dtype=torch.float64) for end in (low, high))


def derivatives(x):
    """tanh, its slope and its bend."""
    value = math.tanh(x)
    return value, 1 - value**2, -2 * value * (1 - value**2)


@pytest.mark.parametrize("residual", [False, True])
def test_the_curvature_of_a_composition_is_the_sum_of_both_parts(residual):
    """φ(tanh(3x)) with φ = tanh, or u + tanh u: both terms are negative, so none is lost."""
    outer = Residual(nn.Tanh()) if residual else nn.Tanh()
    certificate = sdewm.certify(
        nn.Sequential(linear(), nn.Tanh(), outer), region(AT - 1e-9, AT + 1e-9)
    )
    inner, slope, bend = derivatives(WEIGHT * AT)
    slope, bend = WEIGHT * slope, WEIGHT**2 * bend
    _, outer_slope, outer_bend = derivatives(inner)
    outer_slope += residual
    exact = abs(outer_bend * slope**2 + outer_slope * bend)
    for name in ("curvature_2", "curvature_inf"):
        assert exact * (1 - 1e-12) <= getattr(certificate, name) < exact * (1 + 1e-6), name
    for name in ("lipschitz_2", "lipschitz_inf", "log_norm_2", "log_norm_inf"):
        found = getattr(certificate, name)
        assert outer_slope * slope * (1 - 1e-12) <= found < outer_slope * slope * (1 + 1e-6), name


def test_the_slopes_of_a_box_are_those_of_both_maps():
    """(u + tanh u) ∘ tanh has the slope 2 at 0, and nearly none at the ends of the box."""
    network = nn.Sequential(nn.Tanh(), Residual(nn.Tanh()))
    certificate = sdewm.certify(network, region(-2.0, 2.0))
    for name in ("lipschitz_2", "log_norm_2", "lipschitz_inf", "log_norm_inf"):
        assert 2.0 <= getattr(certificate, name) < 2.0 + 1e-6, name


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (4, 4)])
def test_the_distance_of_the_members_of_an_interval_is_a_norm_of_its_radius(shape):
    radius = torch.ones(shape, dtype=torch.float64)
    exact = math.sqrt(shape[0] * shape[1])  # the norm of a matrix of ones
    found = interval_distance(Interval(-radius, radius))
    assert exact <= found < exact * (1 + 1e-12)


def test_a_normalised_entry_reaches_the_root_of_the_size_less_one():
    network = nn.LayerNorm(3, eps=1e-9, dtype=torch.float64)
    wide = torch.full((3,), 1e3, dtype=torch.float64)
    for shift in (torch.inf, 1e3):
        certificate = sdewm.certify(network, (-wide - shift, wide + shift))
        (reached, *_) = network(torch.tensor([200.0, -100.0, -100.0]).double()).tolist()
        assert reached > 1.41
        assert certificate.output is not None and certificate.output[1][0] >= reached


def test_at_a_point_the_jacobian_of_a_normalisation_is_the_derivative():
    network = nn.LayerNorm(3, dtype=torch.float64)
    centre = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    certificate = sdewm.certify(network, (centre - 1e-9, centre + 1e-9))
    exact = torch.func.jacrev(network)(centre).detach()
    assert certificate.jacobian is not None
    for end in certificate.jacobian:
        torch.testing.assert_close(end, exact, rtol=0, atol=1e-6)


def test_the_curvature_of_a_recurrent_model_composes_those_of_cell_and_head():
    system = RecurrentSystem.like_trained(hidden=4, latent=2, seed=0)
    cell, head = system.certificates
    assert cell.lipschitz_2 > 1.2
    low = high = system.x0
    rates = system.certified_rates(low, high, 1.0, list(system.blocks.values()))
    second = head.curvature_2 * cell.lipschitz_2**2 + head.lipschitz_2 * cell.curvature_2
    assert rates.curvature.item() == pytest.approx(math.hypot(cell.curvature_2, second))
