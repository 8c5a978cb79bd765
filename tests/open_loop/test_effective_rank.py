"""Effective rank of clouds with known spectra."""

import math

import numpy as np
import pytest

from sdewm.open_loop.effective_rank import effective_rank


def cloud(deviations, rows=400, seed=0):
    """Centred rows with exactly these standard deviations along random orthogonal directions."""
    generator = np.random.default_rng(seed)
    size = len(deviations)
    raw = generator.normal(size=(rows, size))
    left = np.linalg.qr(raw - raw.mean(axis=0))[0]  # orthonormal columns, each of mean 0
    rotation = np.linalg.qr(generator.normal(size=(size, size)))[0]
    return math.sqrt(rows) * left * np.asarray(deviations) @ rotation


def test_isotropic_cloud_has_full_rank_and_a_line_has_rank_one():
    isotropic, line = cloud([1.0] * 7), cloud([1.0, 0, 0, 0, 0])
    assert effective_rank(isotropic) == pytest.approx(7)
    assert effective_rank(line) == pytest.approx(1)


def test_directions_without_any_extent_are_no_directions():
    line = np.zeros((4, 3))
    line[:, 1] = [1.0, 2.0, 3.0, 4.0]  # its other singular values are exactly 0
    assert effective_rank(line) == pytest.approx(1)


def test_known_spectrum_by_hand():
    deviations = np.array([4.0, 2.0, 1.0, 1.0])
    shares = deviations / 8
    entropy = -sum(p * math.log(p) for p in shares)
    assert effective_rank(cloud(deviations)) == pytest.approx(math.exp(entropy))


def test_neither_scale_nor_position_counts():
    rows = cloud([3.0, 1.0, 0.5])
    assert effective_rank(1e6 * rows + 1e8) == pytest.approx(effective_rank(rows), rel=1e-6)
    assert effective_rank(1e-200 * rows) == pytest.approx(effective_rank(rows))
    assert effective_rank(np.tile(rows, (3, 1))) == pytest.approx(effective_rank(rows))


def test_few_rows_cap_the_rank():
    assert effective_rank(np.random.default_rng(1).normal(size=(5, 50))) <= 4 + 1e-9


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.full((4, 3), 0.1), "all rows are equal"),
        (np.ones((1, 3)), "all rows are equal"),
        (np.ones((2, 2, 3)), r"expected \(N, D\)"),
        (np.array([[0.0], [np.nan]]), "nan at"),
    ],
)
def test_bad_latents_are_refused(latents, message):
    with pytest.raises(ValueError, match=message):
        effective_rank(latents)
