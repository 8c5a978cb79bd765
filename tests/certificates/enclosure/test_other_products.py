"""Bounds of one BLAS hold for the rollouts of another: MKL in two modes, and numpy's, reversed."""

import json
import sys

import numpy as np
import pytest
import torch

from tests.certificates.enclosure.other_products import CASES
from tests.child_process import run

WAYS = {
    "MKL": ("torch", {"MKL_CBWR": None}),
    "MKL without its newer instructions": ("torch", {"MKL_CBWR": "COMPATIBLE"}),
    "numpy, last term first": ("numpy", {"MKL_CBWR": None}),
}


@pytest.fixture(scope="module")
def found():
    """For each way of computing products: the bounds and attacks (cases, 2, P, N + 1)."""
    if not torch.backends.mkl.is_available():
        pytest.skip("this torch has no MKL")
    each = {}
    for name, (products, environment) in WAYS.items():
        words = ["-m", "tests.certificates.enclosure.other_products", products]
        ended = run(sys.executable, *words, environment=environment)
        assert ended.returncode == 0, ended.stderr
        each[name] = np.array(json.loads(ended.stdout))
    return each


def pairs(found):
    return [(bounds[:, 0], attack[:, 1]) for bounds in found.values() for attack in found.values()]


def test_no_rollout_exceeds_a_bound_of_another_blas(found):
    for bounds, attack in pairs(found):
        assert np.isfinite(bounds).all()
        assert (attack <= bounds).all()


def test_the_ways_of_computing_differ_in_bits_and_agree_up_to_rounding(found):
    first, *others = found.values()
    for other in others:
        for part in range(2):
            assert (first[:, part, :, 1:] != other[:, part, :, 1:]).any(axis=(1, 2)).all()
        assert np.abs(other[:, 0] / first[:, 0] - 1.0).max() < 1e-9
        assert np.abs(other[1:, 1] / first[1:, 1] - 1.0).max() < 1e-6


def test_a_bound_that_ignores_rounding_is_exceeded(found):
    """The control: at radius 1e-9 the attack of one way is above that of another."""
    assert CASES[0][0] == 1e-9
    attacks = [one[0, 1] for one in found.values()]
    assert any((one > other).any() for one in attacks for other in attacks)
