"""Products of sets: no member escapes, the remainder is attained, rounding is enclosed."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from sdewm.certificates.enclosure.products import multiply
from sdewm.certificates.enclosure.taylor_set import TaylorSet
from tests.certificates.enclosure.members import Draw, exact_member, outside, random_set


def product(x: Tensor, y: Tensor) -> Tensor:
    return x * y


def sizes(draw: Draw) -> Tensor:
    return 10.0 ** (-9.0 * torch.rand(1000, 1, dtype=torch.float64, generator=draw.generator))


@pytest.mark.parametrize("kept", [True, False])
def test_no_member_of_a_thousand_pairs_escapes(kept):
    draw = Draw(0)
    x, y = (random_set(draw, (1000, 2), sizes(draw), kept) for _ in range(2))
    assert outside(product, x, y).max() <= 1.0


def test_no_member_of_a_square_escapes():
    draw = Draw(1)
    assert outside(lambda x: x * x, random_set(draw, (1000, 2), sizes(draw))).max() <= 1.0


def test_sets_of_other_shapes_are_broadcast():
    draw = Draw(2)
    x, y = random_set(draw, (1000, 3)), random_set(draw, (1000, 1))
    assert outside(product, x, y).max() <= 1.0


def pair(first: tuple[float, float, float], second: tuple[float, float, float]) -> Tensor:
    """The largest excess of a product of c + m e₁ ± ρ, for (c, m, ρ) of each."""
    sets = []
    for centre, slope, box in (first, second):
        linear = torch.zeros(1, 1, 3, dtype=torch.float64)
        linear[..., 0] = slope
        number = torch.full((1, 1), centre, dtype=torch.float64)
        form, rest = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 4)
        sets.append(TaylorSet(number, linear, form.double(), rest.double(), number * 0.0 + box))
    return outside(product, *sets)


@pytest.mark.parametrize(
    "sets",
    [
        ((0.0, 0.0, 0.5), (0.0, 0.0, 0.3)),
        ((1.0, 0.4, 0.0), (2.0, 0.0, 0.3)),
        ((2.0, 0.0, 0.3), (1.0, 0.4, 0.0)),
    ],
    ids=["box times box", "linear times box", "box times linear"],
)
def test_the_remainder_is_attained(sets):
    assert 1.0 - 1e-8 < pair(*sets) <= 1.0


def test_linear_times_linear_is_exact():
    """The excess of x² on a line is rounding, far below the square of the line."""
    values = random_set(Draw(3), (50, 2), parts=(1.0, 1.0, 0.0, 0.0, 0.0))
    assert outside(lambda x: x * x, values).max() <= 1.0
    found = multiply(values, values)
    assert found.box.max() < 1e-13 < values.slopes.min() ** 2


def test_rounding_is_enclosed_in_exact_arithmetic():
    draw = Draw(4)
    errors = [Fraction(3, 7), Fraction(-2, 7), Fraction(6, 7)]  # of length 1
    symbols = [Fraction(1), Fraction(-1), Fraction(1), Fraction(-1, 3)]
    gaps = []
    for _ in range(50):
        x, y = (random_set(draw, (2,), parts=(1.0, 0.0, 0.0, 0.1, 0.0)) for _ in range(2))
        found = multiply(x, y)
        u, v = exact_member(x, errors, symbols), exact_member(y, errors, symbols)
        image = exact_member(found, errors, symbols)
        for i in range(2):
            rest = x.spread[i].item() * y.spread[i].item()  # what is left out, besides rounding
            gap = abs(u[i] * v[i] - image[i])
            assert gap <= Fraction(float(found.box[i]))
            gaps.append(float(gap) - rest)
    x, y = (random_set(draw, (200,), parts=(1.0, 0.0, 0.0, 0.0, 0.0)) for _ in range(2))
    found, missed = multiply(x, y), []
    for i in range(200):
        exact = Fraction(float(x.centre[i])) * Fraction(float(y.centre[i]))
        gap = abs(exact - Fraction(float(found.centre[i])))
        assert gap <= Fraction(float(found.box[i]))
        missed.append(gap > 0)
    assert any(missed)  # without rounding in the set, the exact product would be outside
