"""The GRU cell: known global formulas, blocks, region of the hidden state."""

import math

import pytest
import torch
from torch import nn

import sdewm
from sdewm.base.taylor import fuse, second_order
from tests.certificates.random_networks import Draw, values


def cell_of(inputs: int, hidden: int, seed: int, scale: float = 1.0) -> nn.GRUCell:
    draw = Draw(seed)
    cell = nn.GRUCell(inputs, hidden, dtype=torch.float64)
    for parameter in cell.parameters():
        parameter.data = scale * draw.normal(*parameter.shape) / hidden**0.5
    return cell


def norm_2(matrix: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def norm_inf(matrix: torch.Tensor) -> float:
    return float(matrix.abs().sum(dim=1).max())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_blocks_are_bounded_by_the_known_formulas(seed, scale):
    cell = cell_of(3, 5, seed, scale)
    parts = sdewm.certify(cell).parts
    w_r, w_z, w_n = cell.weight_ih.detach().chunk(3)
    u_r, u_z, u_n = cell.weight_hh.detach().chunk(3)
    most = norm_inf(torch.cat([u_n, cell.bias_hh.detach().chunk(3)[2][:, None]], dim=1))  # c̄
    within = 1 + 1e-9
    inner = norm_2(u_n) + most / 4 * norm_2(u_r)
    assert parts["hidden"].lipschitz_2 <= (math.hypot(1, inner) + norm_2(u_z) / 2) * within
    inner = norm_inf(u_n) + most / 4 * norm_inf(u_r)
    assert parts["hidden"].lipschitz_inf <= (max(1, inner) + norm_inf(u_z) / 2) * within
    for name, norm in (("lipschitz_2", norm_2), ("lipschitz_inf", norm_inf)):
        formula = norm(w_z) / 2 + norm(w_n) + most / 4 * norm(w_r)
        assert getattr(parts["input"], name) <= formula * within


@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_above_the_jacobians_of_the_cell(seed):
    cell = cell_of(2, 4, seed, 1.5)
    for region in (None, (torch.full((6,), -0.4), torch.full((6,), 0.3))):
        certificate = sdewm.certify(cell, region)
        assert certificate.target is not None
        points = certificate.target.points(300, torch.Generator().manual_seed(seed))
        derivative = torch.func.jacrev(lambda x: cell(x[None, :2], x[None, 2:])[0])
        jacobians = torch.func.vmap(derivative)(points).detach()
        blocks = {"input": jacobians[:, :, :2], "hidden": jacobians[:, :, 2:]}
        for name, block in blocks.items():
            part = certificate.parts[name]
            assert part.lipschitz_2 >= float(torch.linalg.matrix_norm(block, 2).max())
            assert part.lipschitz_inf >= float(block.abs().sum(dim=2).max())
        square = blocks["hidden"]
        symmetric = torch.linalg.eigvalsh((square + square.transpose(1, 2)) / 2)
        rows = square.abs().sum(dim=2) + 2 * square.diagonal(dim1=1, dim2=2).clamp(max=0)
        part = certificate.parts["hidden"]
        assert part.log_norm_2 is not None and part.log_norm_inf is not None
        assert float(symmetric.max()) <= part.log_norm_2 <= part.lipschitz_2
        assert float(rows.max()) <= part.log_norm_inf <= part.lipschitz_inf
        assert certificate.parts["input"].log_norm_2 is None
        assert certificate.log_norm_2 is None


def test_blocks_shrink_to_the_jacobian_at_a_point():
    cell, centre = cell_of(2, 4, 1), torch.tanh(Draw(2).normal(6))
    certificate = sdewm.certify(cell, (centre - 1e-8, centre + 1e-8))
    jacobian = torch.func.jacrev(lambda x: cell(x[None, :2], x[None, 2:])[0])(centre).detach()
    hidden = jacobian[:, 2:]
    part = certificate.parts["hidden"]
    assert part.lipschitz_2 == pytest.approx(norm_2(hidden), rel=1e-5)
    assert part.lipschitz_inf == pytest.approx(norm_inf(hidden), rel=1e-5)
    top = float(torch.linalg.eigvalsh((hidden + hidden.T) / 2)[-1])
    assert part.log_norm_2 == pytest.approx(top, rel=1e-5)
    assert certificate.lipschitz_2 == pytest.approx(norm_2(jacobian), rel=1e-5)


def test_taylor_arithmetic_is_nested_forward_mode_of_the_cell():
    cell, draw = cell_of(3, 4, 7), Draw(8)
    x, y = draw.normal(5, 7), draw.normal(5, 7)
    nothing = torch.zeros_like(x)
    plain = fuse(lambda x: (cell(x[:, :3], x[:, 3:]),), (x,))
    value, first, second = second_order(plain, (x,), [(y,)], {(0, 0): (nothing,)})
    target = sdewm.certify(cell).target
    assert target is not None
    found = target.taylor(x, y, nothing)
    for mine, theirs in zip(found, (value[0], first[0][0], second[0, 0][0]), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-11, atol=1e-12)


def test_curvature_is_within_a_small_factor_where_one_gate_acts():
    """One hidden unit, one weight: what is lost is that the factors peak at different points."""
    for gate, factor in ((0, 1.7), (1, 2.4), (2, 1.7)):
        cell = nn.GRUCell(1, 1, dtype=torch.float64)
        for parameter in cell.parameters():
            parameter.data.zero_()
        cell.weight_ih.data[gate] = 1.0
        cell.bias_hh.data[2] = 1.0 if gate == 0 else 0.0
        certificate = sdewm.certify(cell)
        lower = certificate.attack(starts=64, steps=60)
        assert lower.curvature_2 <= certificate.curvature_2 < factor * lower.curvature_2


def test_hidden_state_is_restricted_to_what_the_cell_keeps():
    cell = cell_of(2, 3, 0, 2.0)
    low, high = torch.full((5,), -4.0), torch.full((5,), 4.0)
    certificate = sdewm.certify(cell, (low, high))
    assert certificate.region is not None and certificate.output is not None
    assert torch.equal(certificate.region[1], torch.tensor([4.0, 4.0, 1.0, 1.0, 1.0]).double())
    assert bool((certificate.output[0] >= -1).all() & (certificate.output[1] <= 1).all())
    points = torch.cat([8 * torch.rand(500, 2) - 4, 2 * torch.rand(500, 3) - 1], dim=1).double()
    found = values(cell, points)
    assert bool(((found >= certificate.output[0]) & (found <= certificate.output[1])).all())
    with pytest.raises(ValueError, match="its last hidden_size entries"):
        sdewm.certify(cell, (torch.full((5,), 2.0), torch.full((5,), 3.0)))
