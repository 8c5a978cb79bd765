"""Bounds of the parts of a set, and the assumptions on rounding."""

import math
from dataclasses import replace

import pytest
import torch

from sdewm.certificates.enclosure.execution import SetExecution, enclosed
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet, aligned, rounded, upward
from tests.certificates.enclosure.members import Draw, Member, random_set


def test_bounds_of_the_parts_hold_and_those_of_linear_part_and_rest_are_attained():
    draw = Draw(0)
    values = random_set(draw, (1000, 1))
    linear = values.linear[:, 0]
    along = linear / linear.norm(dim=1, keepdim=True)
    assert torch.allclose((linear * along).sum(1), values.slopes[:, 0], rtol=1e-8)
    assert torch.allclose((values.rest * torch.sign(values.rest)).sum(-1), values.columns)
    member = Member(draw, 1000)
    total = member.polynomial(values) - values.centre
    total = total + torch.sign(total) * values.box
    assert (total.abs() <= values.reach).all()


def test_the_bound_of_a_quadratic_form_is_above_its_norm_and_below_frobenius():
    values = random_set(Draw(1), (1000, 2))
    true = torch.linalg.matrix_norm(values.quadratic, 2)
    assert (values.bends >= true).all()
    assert (values.bends <= values.bends_frobenius).all()
    assert (values.bends / true).median() < 1.1


def test_the_bound_of_a_form_that_is_not_symmetric_holds():
    values = random_set(Draw(2), (1000, 2))
    skew = values.quadratic + Draw(3).normal(1000, 2, 3, 3)
    values = TaylorSet(values.centre, values.linear, skew, values.rest, values.box)
    symmetric = (skew + skew.transpose(-1, -2)) / 2
    assert (values.bends >= torch.linalg.matrix_norm(symmetric, 2)).all()


def test_upward_is_above_long_sums_in_exact_arithmetic():
    terms = Draw(4).normal(1 << 18).abs()
    assert upward(terms.sum()).item() >= math.fsum(terms.tolist())
    assert upward(torch.linalg.vector_norm(torch.full((4,), 1e-200).double())).item() >= 2e-200


@pytest.mark.parametrize("order", [1, 2])
def test_a_ball_reaches_as_far_as_its_directions(order):
    directions = Draw(5).normal(4, 3)
    ball = TaylorSet.ball(torch.zeros(4), directions, order)
    assert torch.allclose(ball.reach, directions.norm(dim=1))
    assert ball.quadratic.shape == (4, 3 * (order == 2), 3 * (order == 2))


def test_constants_have_no_reach_and_align_with_sets():
    values = random_set(Draw(6), (2, 3))
    constant = values.constant(torch.ones(3).double())
    assert (constant.reach < 1e-100).all()
    first, second = aligned(values, constant)
    assert all(a.shape == b.shape for a, b in zip(first.parts, second.parts, strict=True))


def test_absorbed_boxes_are_columns_of_their_own():
    values = random_set(Draw(7), (1, 3))
    symbols = Symbols(4)
    found = symbols.absorb(values)
    assert torch.equal(found.rest[0, :, 4:], torch.diag(values.box[0]))
    assert not found.box.any()
    assert torch.allclose(found.reach, values.reach)
    again = symbols.absorb(random_set(Draw(8), (1, 2)))
    assert symbols.count == 9
    assert not again.rest[..., 4:7].any()


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x + y,
        lambda x, y: x - 3.0 * y,
        lambda x, y: x * y,
        lambda x, y: x @ torch.ones(4, 3).double(),
        lambda x, y: (x * x).sum(-1, keepdim=True),
        lambda x, y: torch.nn.functional.layer_norm(x, (4,)) * y,
        lambda x, y: torch.tanh(x) / 7.0 + y,
    ],
)
def test_the_size_that_a_result_knows_is_an_upper_bound_of_its_own(function, kept):
    draw = Draw(11)
    x, y = (random_set(draw, (200, 4), 0.3, kept) for _ in range(2))
    with SetExecution(Symbols(x.symbols), x):
        found = function(enclosed(x), enclosed(y)).taylor
    assert found.known is not None
    own = replace(found, known=None).size
    assert (own <= found.known).all()
    assert not (own <= 0.5 * found.known).all()


def test_a_column_serves_the_same_number_of_every_row():
    values = replace(random_set(Draw(9), (5, 3)), rows=True)
    symbols = Symbols(4)
    found = symbols.absorb(values)
    assert symbols.count == 7
    assert torch.equal(found.rest[:, :, 4:], torch.diag_embed(values.box))
    apart = Symbols(4)
    apart.absorb(replace(values, rows=False))
    assert apart.count == 4 + 15


def test_the_size_that_a_set_knows_grows_with_its_box():
    values = random_set(Draw(10), (5, 3))
    found = rounded(values, 1, values.size).widened(torch.full((5, 3), 2.0).double())
    assert (replace(found, known=None).size <= found.size).all()
