"""Norms and eigenvalues with proof: above the true value, and barely."""

import fractions
import math

import pytest
import torch

from sdewm.certificates.interval import Interval, image, product
from sdewm.certificates.norms import (
    frobenius,
    joint_eigenvalue,
    joint_norm,
    largest_eigenvalue,
    multiply,
    row_norms,
    spectral_norm,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (60, 60), (300, 40)])
@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_spectral_norm_is_above_the_singular_value_by_rounding_only(shape, scale):
    matrix = normal(*shape) * scale
    value = spectral_norm(matrix) / float(torch.linalg.matrix_norm(matrix / scale, 2) * scale)
    assert 1.0 <= value < 1.0 + 1e-10


def test_spectral_norm_of_rank_one_is_above_the_exact_value():
    row = normal(1, 50, seed=3)
    exact = sum(fractions.Fraction(float(x)) ** 2 for x in row[0])
    value = fractions.Fraction(spectral_norm(row)) ** 2
    assert exact <= value < exact * (1 + fractions.Fraction(1, 10**11))


def test_largest_eigenvalue_of_known_spectra():
    basis = torch.linalg.qr(normal(30, 30))[0]
    for top in (2.0, 0.0, -0.5):
        spectrum = torch.linspace(-3.0, top, 30, dtype=torch.float64)
        value = largest_eigenvalue((basis * spectrum) @ basis.T, error=1e-13)
        assert top <= value < top + 1e-10


def test_largest_eigenvalue_is_infinite_where_nothing_is_known():
    assert largest_eigenvalue(torch.full((2, 2), math.nan, dtype=torch.float64)) == math.inf
    assert largest_eigenvalue(torch.eye(2, dtype=torch.float64), math.inf) == math.inf


def test_a_suggested_value_below_the_spectrum_is_not_believed(monkeypatch):
    matrix = normal(20, 20)
    true = float(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])
    solver = torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda a: solver(a) * 0.5)
    assert largest_eigenvalue(matrix) >= true


@pytest.mark.parametrize("seed", range(5))
def test_joint_bounds_hold_for_every_diagonal_and_are_below_the_separate_ones(seed):
    matrix, left, right = normal(6, 6, seed=seed), normal(6, 9, seed=10 + seed), None
    right = normal(9, 6, seed=20 + seed)
    eigenvalue = joint_eigenvalue(matrix, left, right, 0.0, 15)
    norm = joint_norm(matrix, left, right, 0.0, 15)
    signs = torch.sign(normal(2000, 9, seed=30 + seed))
    all_of_them = matrix + (left * signs[:, None, :]) @ right
    values = torch.linalg.eigvalsh((all_of_them + all_of_them.transpose(1, 2)) / 2)
    assert eigenvalue >= float(values.max())
    assert norm >= float(torch.linalg.matrix_norm(all_of_them, 2).max())
    apart = spectral_norm(left) * spectral_norm(right)
    assert eigenvalue < largest_eigenvalue(matrix) + apart
    assert norm < spectral_norm(matrix) + apart


def test_joint_bound_is_exact_for_one_unit():
    left, right = normal(4, 1), normal(1, 4, seed=1)
    nothing = torch.zeros(4, 4, dtype=torch.float64)
    exact = float(torch.linalg.norm(left) * torch.linalg.norm(right))
    assert joint_norm(nothing, left, right, 0.0, 15) == pytest.approx(exact, rel=1e-9)


def test_rounding_of_a_product_is_below_its_bound():
    left, right = normal(4, 300), normal(300, 3, seed=1)
    rounded, error = multiply(left, right)
    to_fraction = [[fractions.Fraction(float(x)) for x in row] for row in left]
    columns = [[fractions.Fraction(float(x)) for x in column] for column in right.T]
    gaps = [
        float(
            abs(
                sum(a * b for a, b in zip(row, column, strict=True))
                - fractions.Fraction(float(rounded[i, j]))
            )
        )
        for i, row in enumerate(to_fraction)
        for j, column in enumerate(columns)
    ]
    assert 0.0 < math.hypot(*gaps) <= error < 1e-9


def test_interval_products_contain_the_products_of_members():
    matrix = normal(5, 4)
    centre, radius = normal(4, 6, seed=1), normal(4, 6, seed=2).abs()
    box = Interval(centre - radius, centre + radius)
    found, pairs = image(matrix, box), product(Interval.around(matrix, matrix.abs()), box)
    for seed in range(50):
        share = torch.rand(4, 6, generator=torch.Generator().manual_seed(seed)).double().round()
        member = box.lower + share * (box.upper - box.lower)
        values = matrix @ member
        assert bool(((values >= found.lower) & (values <= found.upper)).all())
        other = matrix * 2 * torch.rand(5, 4, generator=torch.Generator().manual_seed(seed))
        values = other @ member
        assert bool(((values >= pairs.lower) & (values <= pairs.upper)).all())
    # Radii are those of the best interval: |matrix| radius.
    best = matrix.abs() @ radius
    assert bool(((found.upper - found.lower) / 2 <= best * (1 + 1e-12) + 1e-12).all())


def test_unbounded_coordinates_reach_only_the_rows_that_touch_them():
    matrix = torch.tensor([[1.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    box = Interval(torch.tensor([0.0, -math.inf]).double(), torch.tensor([1.0, math.inf]).double())
    found = image(matrix, box)
    assert float(found.upper[0]) == pytest.approx(1.0)
    assert float(found.upper[1]) == math.inf and float(found.lower[1]) == -math.inf


def test_the_norm_of_a_long_vector_is_bounded_by_more_than_its_own_rounding():
    vector = normal(10_000, seed=11)
    square = sum(fractions.Fraction(entry) ** 2 for entry in vector.tolist())
    excess = fractions.Fraction(frobenius(vector)) ** 2 / square - 1
    assert 0 < excess < fractions.Fraction(1, 10**11)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
def test_norms_of_numbers_whose_squares_vanish_or_overflow(scale):
    matrix = normal(4, 4, seed=5)
    symmetric = matrix + matrix.T
    pairs = (
        (frobenius(scale * matrix), float(matrix.norm())),
        (float(row_norms(scale * matrix).min()), float(matrix.norm(dim=1).min())),
        (largest_eigenvalue(scale * symmetric), float(torch.linalg.eigvalsh(symmetric)[-1])),
    )
    for bound, true in pairs:
        assert 1.0 <= bound / scale / true < 2.1


@pytest.mark.parametrize(("first", "second"), [(1e-170, 1e200), (1e200, 1e-170), (1e-150, 1e-130)])
def test_no_unit_is_dropped_because_the_squares_of_its_weights_vanish(first, second):
    """A R B of one unit has the norm |A| |B|, whatever the sizes of its factors."""
    left, right = first * normal(3, 1), second * normal(1, 3, seed=1)
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    exact = float((left / first).norm() * (right / second).norm())
    value = joint_norm(nothing, left, right, 0.0, 15) / first / second
    assert exact <= value < exact * (1 + 1e-10)
    usual = joint_norm(nothing, left / first, right / second, 0.0, 15)
    both = joint_norm(
        nothing, torch.cat([left, left / first], 1), torch.cat([right, right / second]), 0.0, 15
    )
    assert both >= max(usual, exact * first * second) * (1 - 1e-12)


def test_joint_bounds_beyond_all_numbers_are_infinite():
    large = torch.full((2, 2), 1e200, dtype=torch.float64)
    assert joint_norm(0.0 * large, large, large, 0.0, 15) == math.inf
    assert joint_eigenvalue(-large, large, large, 0.0, 15) == math.inf
