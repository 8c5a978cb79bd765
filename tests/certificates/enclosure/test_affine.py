"""Affine operations: exact on members, with rounding enclosed in exact arithmetic."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from sdewm.certificates.enclosure import affine
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet
from tests.certificates.enclosure.members import Draw, exact_member, outside, random_set

WEIGHT = Draw(9).normal(5, 7)
BATCHED = Draw(8).normal(3, 2, 4)
FACTOR = Draw(7).normal(5)
OPERATIONS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "scale": (lambda x: x * FACTOR, (5,)),
    "divide": (lambda x: x / FACTOR, (5,)),
    "by a number": (lambda x: x / 3.0, (5,)),
    "shift": (lambda x: 1.0 - x, (5,)),
    "with itself": (lambda x: x + x[..., :1], (5,)),
    "sum": (lambda x: x.sum(-1, keepdim=True) + x, (5,)),
    "mean": (lambda x: x - x.mean(-1, keepdim=True), (5,)),
    "negate": (lambda x: -x, (5,)),
    "diagonal": (lambda x: torch.diag_embed(x).sum(1), (5,)),
}
MATRICES: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "linear": (lambda x: torch.nn.functional.linear(x, WEIGHT.T, FACTOR.sum() * WEIGHT[0]), (5,)),
    "matmul": (lambda x: x @ WEIGHT, (5,)),
    "from the left": (lambda x: WEIGHT.T @ x, (5, 2)),
    "blocks": (
        lambda x: torch.bmm(x.reshape(-1, 3, 2).transpose(0, 1), BATCHED).transpose(0, 1),
        (6,),
    ),
}
TINY = (1.0, 1.0, 1.0, 1.0, 0.0)  # without a box: what is left is rounding


@pytest.mark.parametrize("size", [1.0, 1e-6])
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_member_of_a_thousand_sets_escapes(name, size):
    function, shape = OPERATIONS[name]
    assert outside(function, random_set(Draw(0), (1000, *shape), size)).max() <= 1.0


@pytest.mark.parametrize("name", MATRICES)
def test_no_member_escapes_from_a_matrix_product(name):
    function, shape = MATRICES[name]
    parts = (1.0, 0.5, 0.3, 0.2, 0.0)
    if name == "blocks":
        values = random_set(Draw(1), (1000, *shape), parts=parts)
        moved = outside(lambda x: function(x).reshape(1000, -1), values, rows=False)
        assert moved.max() <= 1.0
    else:
        assert outside(function, random_set(Draw(1), (1000, *shape), parts=parts)).max() <= 1.0


def test_the_box_becomes_symbols_before_numbers_are_mixed():
    """x₁ − x₁ is zero also for the box: each number keeps one symbol of its own."""
    values = random_set(Draw(2), (1, 2), parts=(1.0, 0.0, 0.0, 0.0, 1.0))
    symbols = Symbols(4)
    matrix = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    found = affine.multiply_matrix(values, matrix, symbols)
    assert symbols.count == 6
    gap = affine.add(found, symbols.latest(values).expanded((1, 2)), -1.0)
    assert gap.reach[0, 0] < 1e-14  # x₁ − x₁
    assert float(gap.reach[0, 1]) == pytest.approx(float(values.box[0, 0]))  # x₁ + x₂ − x₂


def test_a_box_used_twice_is_one():
    values = random_set(Draw(3), (1, 3), parts=(1.0, 0.0, 0.0, 0.0, 1.0))
    symbols = Symbols(4)
    first, second = symbols.absorb(values), symbols.absorb(values)
    assert first is second is symbols.absorb(first)
    assert symbols.count == 7


ERRORS = [Fraction(3, 7), Fraction(-2, 7), Fraction(6, 7)]
SYMBOLS = [Fraction(1), Fraction(-1), Fraction(1), Fraction(-1)]


def plain_sum(x: list[Fraction], y: list[Fraction]) -> list[Fraction]:
    return [a + b for a, b in zip(x, y, strict=True)]


def by_matrix(x: list[Fraction], matrix: Tensor) -> list[Fraction]:
    rows = [[Fraction(float(w)) for w in row] for row in matrix]
    return [sum(a * row[j] for a, row in zip(x, rows, strict=True)) for j in range(len(rows[0]))]


def gaps(image: TaylorSet, exact: list[Fraction]) -> list[Fraction]:
    """Distances of exact values from the polynomial; each has to be within the box."""
    found = []
    for i, value in enumerate(exact_member(image, ERRORS, SYMBOLS)):
        found.append(abs(exact[i] - value))
        assert found[-1] <= Fraction(float(image.box[i]))
    return found


def test_rounding_of_sums_and_products_is_enclosed_in_exact_arithmetic():
    draw, missed = Draw(5), {"add": 0, "scale": 0, "divide": 0, "matrix": 0, "total": 0, "mean": 0}
    for _ in range(20):
        x, y = (random_set(draw, (4,), parts=TINY) for _ in range(2))
        u, v = (exact_member(one, ERRORS, SYMBOLS) for one in (x, y))
        factor, matrix = draw.normal(4), draw.normal(4, 3)
        a = [Fraction(float(f)) for f in factor]
        found = {
            "add": gaps(affine.add(x, y), plain_sum(u, v)),
            "scale": gaps(affine.scale(x, factor), [f * w for f, w in zip(a, u, strict=True)]),
            "divide": gaps(affine.divide(x, factor), [w / f for f, w in zip(a, u, strict=True)]),
            "matrix": gaps(affine.multiply_matrix(x, matrix, Symbols(4)), by_matrix(u, matrix)),
            "total": gaps(affine.total(x, 0, True), [sum(u, Fraction())]),
            "mean": gaps(affine.mean(x, 0), [sum(u, Fraction()) / 4]),
        }
        for name, distances in found.items():
            missed[name] += sum(gap > 0 for gap in distances)
    assert all(missed.values())  # without the rounding, every one of them would miss values


def test_rounding_is_enclosed_where_it_is_large():
    """Sums that cancel: 1e16 + 1 − 1e16, in the order of the worst case."""
    values = random_set(Draw(6), (3,), parts=(0.0, 1e-3, 0.0, 0.0, 0.0))
    values = TaylorSet.of(
        (torch.tensor([1e16, 1.0, -1e16], dtype=torch.float64), *values.parts[1:4]), values.box
    )
    found = affine.total(values, 0, True)
    gaps(found, [sum(exact_member(values, ERRORS, SYMBOLS), Fraction())])
    assert found.box.item() > 1.0
