"""Layer and root-mean-square normalisation: constants proven, attained where the proof says so."""

import math

import pytest
import torch
from torch import nn

import sdewm
from sdewm.certificates.interval import Interval
from sdewm.certificates.modules import read
from sdewm.certificates.normalisation import Normalisation, _bend
from tests.certificates.random_networks import Draw


def layer(kind: type, size: int, epsilon: float) -> nn.Module:
    return kind(size, eps=epsilon, elementwise_affine=False)


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_global_constants_are_attained(kind):
    size, epsilon = 4, 1e-2
    certificate = sdewm.certify(layer(kind, size, epsilon))
    assert certificate.target is not None
    assert certificate.lipschitz_2 == pytest.approx(1 / math.sqrt(epsilon), rel=1e-9)
    origin = certificate.target.jacobians(torch.zeros(1, size, dtype=torch.float64))[0]
    assert float(torch.linalg.matrix_norm(origin, 2)) == pytest.approx(certificate.lipschitz_2)
    # Along e with |y|² = n epsilon/4, that is w = 1/5.
    point = torch.tensor([[1.0, -1.0, 0.0, 0.0]]).double() * math.sqrt(size * epsilon / 8)
    unit = point / point.norm()
    bend = float(certificate.target.second(point, unit).norm())
    assert bend == pytest.approx(certificate.curvature_2, rel=1e-9)


def test_bend_is_the_largest_over_directions():
    for share in torch.linspace(0.2, 0.99, 40).tolist():
        cosine = torch.linspace(0.0, 1.0, 20001, dtype=torch.float64) ** 2
        square = 1 + cosine * (8 - 6 * share) - cosine**2 * 3 * share * (4 - 3 * share)
        sampled = math.sqrt(share) * (1 - share) * float(square.max()) ** 0.5
        assert sampled <= _bend(share) * (1 + 1e-12)
        assert sampled == pytest.approx(_bend(share), rel=1e-6)
    assert _bend(0.0) == _bend(0.2) == pytest.approx(0.858650, abs=1e-6)


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_range_of_the_variance_contains_it_and_is_attained_below(kind):
    normal = read(layer(kind, 5, 1e-3))[0]
    assert isinstance(normal, Normalisation)
    for seed in range(30):
        draw = Draw(seed)
        centre, width = draw.normal(5), draw.power(-2, 0.5)
        box = Interval(centre - width, centre + width)
        least, most = normal.square_range(box)
        share = torch.rand(4000, 5, dtype=torch.float64, generator=draw.generator)
        share[:2000] = share[:2000].round()
        x = box.lower + share * (box.upper - box.lower)
        squares = (x**2).mean(1) if kind is nn.RMSNorm else x.var(dim=1, correction=0)
        assert least <= float(squares.min()) and float(squares.max()) <= most
        middle = torch.linspace(-6.0, 6.0, 2001, dtype=torch.float64)[:, None]
        nearest = torch.minimum(torch.maximum(middle, box.lower), box.upper)
        if kind is nn.LayerNorm:  # the nearest points to constant vectors
            best = float(nearest.var(dim=1, correction=0).min())
            assert best - 1e-4 - 0.05 * best <= least <= best


def test_regional_constants_are_far_below_the_global_ones_away_from_zero_variance():
    module = nn.LayerNorm(3, eps=1e-5, dtype=torch.float64)
    centre = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)
    globally = sdewm.certify(module)
    locally = sdewm.certify(module, (centre - 0.1, centre + 0.1))
    assert locally.lipschitz_2 < globally.lipschitz_2 / 100
    assert locally.curvature_2 < globally.curvature_2 / 1e5
    assert locally.lipschitz_2 < 1.5 * locally.lower.lipschitz_2
    assert locally.curvature_2 < 2.5 * locally.lower.curvature_2
