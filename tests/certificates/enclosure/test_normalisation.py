"""Normalisation of sets: no member escapes, each part of the remainder is needed."""

from fractions import Fraction

import mpmath
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sdewm.certificates.enclosure.normalisation import mean_square, normalise
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet
from tests.certificates.enclosure.members import Draw, exact_member, folded, outside, random_set

SIZE = 6
GAIN, BIAS = Draw(1).normal(SIZE), Draw(2).normal(SIZE)
NORMS = {
    "layer": lambda x: functional.layer_norm(x, (SIZE,), GAIN, BIAS, 1e-3),
    "layer, plain": lambda x: functional.layer_norm(x, (SIZE,)),
    "rms": lambda x: functional.rms_norm(x, (SIZE,), GAIN, 1e-4),
    "rms, in torch": lambda x: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-4) * GAIN,
}


def sizes(draw: Draw, most: float) -> Tensor:
    share = torch.rand(1000, 1, dtype=torch.float64, generator=draw.generator)
    return most * 10.0 ** (-8.0 * share)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", NORMS)
def test_no_member_of_a_thousand_sets_escapes(name, kept):
    draw = Draw(0)
    values = random_set(draw, (1000, SIZE), sizes(draw, 0.1), kept)
    assert outside(NORMS[name], values).max() <= 1.0


def test_a_floor_far_above_the_values_is_allowed():
    draw = Draw(3)
    values = random_set(draw, (1000, SIZE), sizes(draw, 0.1))
    assert outside(lambda x: functional.layer_norm(x, (SIZE,), eps=100.0), values).max() <= 1.0


def test_the_module_of_torch_is_the_function():
    module = nn.LayerNorm(SIZE, eps=1e-3).double()
    draw = Draw(4)
    assert outside(module, random_set(draw, (1000, SIZE), sizes(draw, 0.1))).max() <= 1.0


def test_the_mean_square_is_exact_without_a_rest():
    values = random_set(Draw(5), (100, SIZE), parts=(1.0, 1.0, 0.0, 0.0, 0.0))
    assert mean_square(values).box.max() < 1e-13


@pytest.mark.parametrize("parts", [(0.0, 0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0, 0.0)])
def test_the_square_of_the_rest_is_attained_on_one_symbol(parts):
    """With one number, |y|² = (G b)² or ρ² exactly."""
    values = random_set(Draw(6), (100, 1), parts=parts)
    image = mean_square(values)
    assert torch.allclose(image.box, values.spread**2, rtol=1e-6)
    assert outside(lambda x: (x * x).mean(-1, keepdim=True), values).max() <= 1.0


def test_products_of_the_linear_part_are_attained_where_one_direction_is_used():
    """2 Σ L_i w_i for M_i and w_i along one direction, which the norms of T and Mᵀ G attain."""
    draw, line = Draw(7), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    slopes, rests, bends = (draw.normal(200, SIZE) for _ in range(3))
    zeros = torch.zeros(200, SIZE, 4, dtype=torch.float64)
    zeros[..., 0] = rests
    with_rest = TaylorSet(
        torch.zeros(200, SIZE).double(),
        slopes[..., None] * line,
        torch.zeros(200, SIZE, 3, 3).double(),
        zeros,
        torch.zeros(200, SIZE).double(),
    )
    expected = (2.0 * (slopes * rests).sum(1).abs() + (rests**2).sum(1)) / SIZE
    assert torch.allclose(mean_square(with_rest).box[:, 0], expected, rtol=1e-6)
    form = bends[..., None, None] * line[:, None] * line
    with_bend = TaylorSet(*with_rest.parts[:2], form, torch.zeros_like(zeros), with_rest.box)
    expected = (2.0 * (slopes * bends).sum(1).abs() + (bends**2).sum(1)) / SIZE
    assert torch.allclose(mean_square(with_bend).box[:, 0], expected, rtol=1e-6)


def test_the_linear_part_times_a_box_is_attained_on_one_number():
    """y² = (M e)² + 2 (M e) ρ b' + ρ², |M e| ≤ |M|."""
    values = random_set(Draw(12), (100, 1), parts=(0.0, 1.0, 0.0, 0.0, 0.5))
    expected = 2.0 * values.slopes * values.box + values.box**2
    assert torch.allclose(mean_square(values).box, expected, rtol=1e-6)


def test_the_mean_square_of_first_order_contains_the_square():
    values = random_set(Draw(13), (100, SIZE), kept=False, parts=(0.0, 1.0, 0.0, 0.0, 0.0))
    expected = (values.linear**2).sum((1, 2)) / SIZE
    assert torch.allclose(mean_square(values).box[:, 0], expected, rtol=1e-6)


def test_rounding_of_the_mean_square_is_enclosed_in_exact_arithmetic():
    draw = Draw(8)
    errors = [Fraction(3, 7), Fraction(-2, 7), Fraction(6, 7)]
    missed = 0
    for _ in range(50):
        values = random_set(draw, (SIZE,), parts=(1.0, 1.0, 0.0, 0.0, 0.0))
        members = exact_member(values, errors, [Fraction()] * 4)
        image = mean_square(values)
        exact = sum(y * y for y in members) / SIZE
        gap = abs(exact - exact_member(image, errors, [Fraction()] * 4)[0])
        assert gap <= Fraction(float(image.box[0]))
        missed += gap > 0
    assert missed > 10


@pytest.mark.parametrize("centred", [True, False])
def test_tiny_sets_contain_the_exact_values(centred):
    """At 50 digits, with sets of the size of rounding errors."""
    draw, missed = Draw(11), []
    for _ in range(20):
        values = random_set(draw, (SIZE,), 1e-15, parts=(1.0, 1.0, 0.0, 0.0, 0.0))
        found = folded(normalise(values, GAIN, BIAS, 1e-3, centred, Symbols(4)))
        with mpmath.workdps(50):
            for errors in ([0, 0, 0], [1, 0, 0], [0, -1, 0]):
                y = [
                    mpmath.mpf(c) + sum(mpmath.mpf(m) * e for m, e in zip(row, errors, strict=True))
                    for c, row in zip(values.centre.tolist(), values.linear.tolist(), strict=True)
                ]
                middle = mpmath.fsum(y) / SIZE if centred else 0
                y = [one - middle for one in y]
                scale = mpmath.sqrt(mpmath.fsum(one**2 for one in y) / SIZE + mpmath.mpf(1e-3))
                image = exact_member(found, [Fraction(e) for e in errors], [Fraction()] * 4)
                for i, one in enumerate(y):
                    exact = one / scale * GAIN[i].item() + BIAS[i].item()
                    gap = abs(exact - mpmath.mpf(image[i].numerator) / image[i].denominator)
                    assert gap <= found.box[i].item()
                    missed.append(gap > 1e-17)
    assert any(missed)  # without rounding in the set, values would be outside


def test_the_remainder_of_the_scale_is_one_symbol():
    """Its column is along y: in Σ y_i g_i all of it is found, in the other directions nothing."""
    values = random_set(Draw(14), (1, SIZE), 0.1, parts=(1.0, 1.0, 0.0, 0.0, 0.0))
    found = normalise(values, None, None, 1e-6, False, Symbols(4))
    assert found.symbols == 5
    column, y = found.rest[0, :, 4], values.centre[0]
    assert torch.allclose(column / column.norm(), torch.sign(column[0] * y[0]) * y / y.norm())


def test_sets_around_zero_are_bounded_by_the_floor_alone():
    values = random_set(Draw(9), (1, SIZE), parts=(0.0, 1.0, 0.0, 0.0, 0.0))
    found = normalise(values, None, None, 1e-2, True, Symbols(4))
    assert torch.isfinite(found.reach).all()
    assert outside(lambda x: functional.layer_norm(x, (SIZE,), eps=1e-2), values).max() <= 1.0
