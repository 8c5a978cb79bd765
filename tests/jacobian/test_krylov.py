"""Krylov spaces against LAPACK: values from below, complete spaces, exact after D steps."""

import math

import pytest
import torch

from sdewm.jacobian.krylov import krylov_space, largest_ritz_pair


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def symmetric(count, size, seed=0):
    matrix = draw(count, size, size, seed=seed)
    return 0.5 * (matrix + matrix.mT)


def apply(matrix):
    return lambda v: (matrix @ v[:, :, None])[:, :, 0]


def largest(operator, start, iterations):
    return largest_ritz_pair(operator, start, iterations)[0]


def test_ritz_values_rise_to_the_largest_eigenvalue_and_meet_it_after_d_steps():
    matrix, start = symmetric(5, 12), draw(5, 12, seed=1)
    exact, last = torch.linalg.eigvalsh(matrix)[:, -1], torch.full((5,), -math.inf).double()
    for iterations in range(1, 13):
        found = largest(apply(matrix), start, iterations)
        assert (found <= exact + 1e-12).all()
        assert (found >= last - 1e-12).all()
        last = found
    torch.testing.assert_close(last, exact)
    torch.testing.assert_close(largest(apply(matrix), start, 40), exact)
    once = largest(apply(matrix), start, 1)
    direct = (start * apply(matrix)(start)).sum(1) / start.square().sum(1)
    torch.testing.assert_close(once, direct)
    assert (once < exact - 0.1).all()


def test_a_negative_spectrum_is_kept_when_the_space_is_exhausted():
    matrix = -torch.eye(6, dtype=torch.float64).expand(3, 6, 6).clone()
    matrix[1, 0, 0] = -0.25
    matrix[2, 5, 5] = -3.0
    found = largest(apply(matrix), draw(3, 6), 6)
    torch.testing.assert_close(found, torch.tensor([-1.0, -0.25, -1.0], dtype=torch.float64))


def test_a_complete_space_adds_no_direction_made_of_rounding():
    # Rank 4 and, masked, four components of twelve: later residuals are rounding errors.
    root = draw(3, 12, 4)
    low = root @ root.mT
    masked = symmetric(3, 12, seed=5)
    masked[:, 4:], masked[:, :, 4:] = 0.0, 0.0
    for matrix, start in ((low, draw(3, 12)), (masked, draw(3, 12))):
        if matrix is masked:
            start[:, 4:] = 0.0
        exact = torch.linalg.eigvalsh(matrix)[:, -1]
        for iterations in range(4, 13):
            found = largest(apply(matrix), start, iterations)
            assert (found <= exact * (1 + 1e-12)).all()
        torch.testing.assert_close(found, exact)


def test_the_largest_eigenvalue_is_found_not_the_largest_in_size():
    matrix = torch.diag(torch.tensor([1.0, -50.0, 0.5, -49.0], dtype=torch.float64))[None]
    found = largest(apply(matrix), draw(1, 4), 4)
    assert found.item() == pytest.approx(1.0)


def test_the_ritz_vector_is_a_unit_eigenvector():
    matrix = symmetric(3, 7)
    values, vectors = largest_ritz_pair(apply(matrix), draw(3, 7, seed=1), 7)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3).double())
    torch.testing.assert_close(apply(matrix)(vectors), values[:, None] * vectors)
    few = largest_ritz_pair(apply(matrix), draw(3, 7, seed=1), 3)[1]
    quotient = (few * apply(matrix)(few)).sum(1)
    torch.testing.assert_close(quotient, largest(apply(matrix), draw(3, 7, seed=1), 3))
    assert (few - vectors).norm(dim=1).min() > 1e-3


def test_the_projection_of_a_map_that_is_not_symmetric_has_its_eigenvalues():
    matrix = draw(4, 6, 6)
    space, images = krylov_space(apply(matrix), draw(4, 6, seed=1), 6)
    torch.testing.assert_close(space @ space.mT, torch.eye(6).double().expand(4, 6, 6))
    torch.testing.assert_close(images, space @ matrix.mT)
    found = torch.linalg.eigvals(space @ images.mT).abs().amax(1)
    torch.testing.assert_close(found, torch.linalg.eigvals(matrix).abs().amax(1))


def test_a_complete_space_is_filled_with_zero_vectors():
    twice = 2.0 * torch.eye(5, dtype=torch.float64).expand(2, 5, 5)
    space, images = krylov_space(apply(twice), draw(2, 5), 4)
    assert space.shape == images.shape == (2, 4, 5)
    assert not space[:, 1:].any() and not images[:, 1:].any()
    torch.testing.assert_close(images[:, 0], 2.0 * space[:, 0])
