"""Interval arithmetic against exact rational arithmetic: no result is lost by rounding."""

from fractions import Fraction
from itertools import product as pairs

import pytest
import torch

from sdewm import certify
from sdewm.certificates.interval import Interval, above, down, image, product, up
from sdewm.certificates.norms import largest_eigenvalue
from tests.certificates.random_networks import Draw


def rational(values):
    return [Fraction(value) for value in values.flatten().tolist()]


def assert_contains(found, exact):
    for low, value, high in zip(rational(found.lower), exact, rational(found.upper), strict=True):
        assert low <= value <= high


def drawn(draw, *shape, width=1.0):
    centre, radius = draw.normal(*shape), width * draw.normal(*shape).abs()
    return Interval(centre - radius, centre + radius)


OPERATIONS = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
}


@pytest.mark.parametrize("width", [0.0, 1.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_results_of_all_ends_are_inside_and_one_is_at_each_end(name, width):
    draw = Draw(3)
    a, b = drawn(draw, 200, width=width), drawn(draw, 200, width=width)
    found = getattr(a, name)(b)
    results = [
        [OPERATIONS[name](*pair) for pair in zip(rational(x), rational(y), strict=True)]
        for x, y in pairs((a.lower, a.upper), (b.lower, b.upper))
    ]
    for exact in results:
        assert_contains(found, exact)
    ends = rational(found.lower), rational(found.upper)
    for low, high, *exact in zip(*ends, *results, strict=True):
        slack = Fraction(2) ** -51 * max(1, *(abs(one) for one in exact))
        assert min(exact) - low <= slack and high - max(exact) <= slack


def test_midpoint_and_radius_cover_the_interval_and_an_interval_around_them_too():
    box = drawn(Draw(4), 300)
    box = Interval(box.lower, torch.maximum(box.upper, up(box.lower)))
    middle, radius = rational(box.midpoint), rational(box.radius)
    around = Interval.around(box.midpoint, box.radius)
    for ends in (box.lower, box.upper):
        distances = [abs(m - e) for m, e in zip(middle, rational(ends), strict=True)]
        assert all(d <= r for d, r in zip(distances, radius, strict=True))
        assert_contains(around, rational(ends))
    for sign in (-1, 1):
        assert_contains(around, [m + sign * r for m, r in zip(middle, radius, strict=True)])


def test_the_magnitude_is_that_of_the_larger_end_and_a_meet_is_what_both_contain():
    one = Interval(torch.tensor([-3.0, 1.0, -2.0]), torch.tensor([2.0, 4.0, -1.0]))
    assert one.magnitude.tolist() == [3.0, 4.0, 2.0]
    other = Interval(torch.tensor([-1.0, 0.0, -4.0]), torch.tensor([5.0, 3.0, -1.5]))
    both = one.meet(other)
    assert both.lower.tolist() == [-1.0, 1.0, -2.0] and both.upper.tolist() == [2.0, 3.0, -1.5]


def corner(draw, box):
    """A point with each entry at one of the ends, and the point inside that it is for width 0."""
    return torch.where(draw.normal(*box.lower.shape) > 0, box.lower, box.upper)


def exact_product(left, right):
    rows = [rational(row) for row in left]
    columns = [rational(column) for column in right.T]
    return [
        sum(a * b for a, b in zip(row, column, strict=True)) for row in rows for column in columns
    ]


@pytest.mark.parametrize("width", [0.0, 1e-3, 1.0])
def test_images_and_products_of_matrices_contain_the_exact_ones(width):
    """Rows that nearly cancel, so that rounding is far above the last digit of the result."""
    draw = Draw(5)
    matrix = draw.normal(6, 9)
    matrix[:, -1] = -matrix[:, :-1].sum(1)
    ones = torch.ones(9, 3, dtype=torch.float64) + 1e-9 * draw.normal(9, 3)
    box = Interval(ones - width * draw.normal(9, 3).abs(), ones + width * draw.normal(9, 3).abs())
    left = Interval(matrix - width, matrix + width)
    for _ in range(20):
        x, a = corner(draw, box), corner(draw, left)
        assert_contains(image(matrix, box[:, 0]), exact_product(matrix, x[:, :1]))
        assert_contains(product(left, box), exact_product(a, x))


def test_the_image_of_a_box_is_attained_at_its_corners():
    """Negative control of the one above: an interval twice as wide would be noticed here."""
    matrix = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    box = Interval(torch.tensor([0.0, -1.0]).double(), torch.tensor([3.0, 1.0]).double())
    found = image(matrix, box)
    assert found.lower.item() == pytest.approx(-2.0, abs=1e-13)
    assert found.upper.item() == pytest.approx(5.0, abs=1e-13)
    unbounded = image(matrix, Interval(box.lower, torch.tensor([torch.inf, 1.0]).double()))
    assert unbounded.upper.item() == torch.inf and unbounded.lower.item() == -torch.inf


def test_rounded_formulas_are_raised_by_more_than_thirty_roundings():
    for value in (0.1, 3.0, 1e5):
        excess = Fraction(above(value)) / Fraction(value) - 1
        assert Fraction(30, 2**53) < excess < Fraction(1, 2**47)
    number = torch.tensor([0.1, -0.1], dtype=torch.float64)
    assert bool((down(number) < number).all()) and bool((up(number) > number).all())


def test_a_thread_that_rounds_subnormal_numbers_to_zero_has_no_certificates():
    """The next number after 0 is 0 there, and a search for a factorisation once had no end."""
    layer, tiny = torch.nn.Linear(2, 2), torch.full((2, 2), 1e-300, dtype=torch.float64)
    calls = (
        lambda: certify(layer),
        lambda: largest_eigenvalue(tiny),
        lambda: above(1.0),
        lambda: up(tiny),
        lambda: down(tiny),
        lambda: image(tiny, Interval.of(torch.zeros(2, dtype=torch.float64))),
    )
    for call in calls:
        call()
    try:
        assert torch.set_flush_denormal(True)
        for call in calls:
            with pytest.raises(RuntimeError, match="subnormal.*set_flush_denormal"):
                call()
    finally:
        torch.set_flush_denormal(False)
    for call in calls:
        call()
