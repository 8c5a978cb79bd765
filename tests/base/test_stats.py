"""Streamed sums, their batches and standard errors."""

import math

import numpy as np
import pytest
import torch

from sdewm.base.stats import BatchSums, Estimate


@pytest.mark.parametrize("cut", [1, 7, 100, 1000])
def test_sums_do_not_depend_on_where_the_work_is_cut(cut):
    values = torch.randn(1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, pieces = BatchSums(1000, 2, batches=7), BatchSums(1000, 2, batches=7)
    whole.add(0, values)
    for first in range(0, 1000, cut):
        pieces.add(first, values[first : first + cut])
    np.testing.assert_allclose(pieces.sums, whole.sums, rtol=1e-13)
    np.testing.assert_allclose(whole.means(), values.mean(0).numpy(), rtol=1e-12)


def test_standard_error_is_that_of_independent_draws():
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(400, 4096, dtype=torch.float64, generator=generator)
    errors, hits = [], 0
    for row in draws:
        sums = BatchSums(4096, 1)
        sums.add(0, row[:, None])
        estimate = sums.estimate(np.ones(1))
        errors.append(estimate.standard_error)
        hits += abs(estimate.value) < 1.96 * estimate.standard_error
    assert np.mean(errors) == pytest.approx(1 / math.sqrt(4096), rel=0.02)
    assert 0.91 < hits / 400 < 0.98


def test_antithetic_pairs_share_a_batch_so_that_their_cancellation_is_seen():
    half = torch.randn(500, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    sums = BatchSums(1000, 1, batches=50)
    sums.add(0, torch.stack((half, -half), dim=1).reshape(1000, 1))
    assert sums.estimate(np.ones(1)).standard_error < 1e-15
    assert all(edge % 2 == 0 for edge in sums.edges)


def test_a_single_batch_has_no_standard_error():
    sums = BatchSums(2, 1)
    sums.add(0, torch.ones(2, 1))
    assert math.isnan(sums.estimate(np.ones(1)).standard_error)
    assert sums.estimate(np.ones(1), exact=True) == Estimate(1.0, 0.0)


def test_replicates_average_to_the_mean():
    sums = BatchSums(1000, 3, batches=10)
    sums.add(0, torch.rand(1000, 3, generator=torch.Generator().manual_seed(3)))
    np.testing.assert_allclose(sums.replicates().mean(axis=0), sums.means(), rtol=1e-12)
