"""Batches of unequal sizes, written out."""

import math

import numpy as np
import pytest
import torch

from sdewm.base.stats import BatchSums, Estimate

VALUES = [1.0, 3.0, 2.0, 6.0, 4.0, 9.0, 3.0]
BATCHES = ([1.0, 3.0, 2.0, 6.0], [4.0, 9.0], [3.0])  # pairs 0 and 1, 2, and the half pair 3


@pytest.mark.parametrize("cuts", [(0, 7), (0, 3, 7), (0, 1, 2, 5, 6, 7)])
def test_sums_of_three_batches_of_seven_paths(cuts):
    sums = BatchSums(paths=7, quantities=1, batches=3)
    rows = torch.tensor(VALUES, dtype=torch.float64)[:, None]
    for first, last in zip(cuts, cuts[1:], strict=False):
        sums.add(first, rows[first:last])
    mean = sum(VALUES) / 7
    assert sums.sums[:, 0].tolist() == [sum(batch) for batch in BATCHES]
    assert sums.means().tolist() == [mean]
    deviations = [(sum(batch) - len(batch) * mean) / 7 for batch in BATCHES]
    assert sums.batch_deviations()[:, 0] == pytest.approx(np.array(deviations))
    replicates = [mean + 3 * deviation for deviation in deviations]
    assert sums.replicates()[:, 0] == pytest.approx(np.array(replicates))
    assert sums.replicates().mean() == pytest.approx(mean)
    found = sums.estimate(np.array([2.0]))
    error = math.sqrt(3 / 2 * sum(deviation**2 for deviation in deviations))
    assert (found.value, found.standard_error) == pytest.approx((2 * mean, 2 * error))


def test_a_deviation_is_counted_in_standard_errors():
    assert Estimate(3.0, 0.25).deviation_from(2.0) == 4.0
