"""The value expansion of a linear walk, and errors of curves, written out."""

import math

import numpy as np
import pytest
import torch

import sdewm
from sdewm.base.stats import BatchSums
from sdewm.theory.flow.rollout_divergence import norm_curves

STEPS, T1, START, RATE, NOISE = 3, 1.5, 1.2, -0.8, 0.5
ERRORS = (0.3, -0.1, 0.5, 0.2)  # as many as a power of two: no row goes with a sign


class Walk:
    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return RATE * y

    def g(self, t, y):
        return torch.full_like(y, NOISE)


def test_every_error_meets_every_pattern_of_increments():
    errors = torch.tensor(ERRORS, dtype=torch.float64)[:, None]
    x0 = torch.tensor([START], dtype=torch.float64)
    result = sdewm.value_expansion(
        Walk(), lambda y: y[:, 0] ** 2, x0, errors, t1=T1, steps=STEPS, increments="enumerate"
    )
    shrink = (1 + T1 / STEPS * RATE) ** STEPS
    mean, square = (sum(e**p for e in ERRORS) / 4 for p in (1, 2))
    first, second = 2 * shrink**2 * START * mean, shrink**2 * square
    assert result.terms["first"].value == pytest.approx(first)
    assert result.terms["second_curvature"].value == pytest.approx(second)
    assert abs(result.terms["second_flow"].value) < 1e-14
    for power, moment in enumerate(result.error_moments, 1):
        assert moment.value == pytest.approx(sum(abs(e) ** power for e in ERRORS) / 4)
    for row in result.measure([1.0, 0.5]):
        exact = row.scale * first + row.scale**2 * second
        assert row.measured.value == pytest.approx(exact)
        assert row.predicted.value == pytest.approx(exact)
        assert row.absolute_remainder.value < 1e-14


def test_the_prediction_along_a_curved_flow_is_quadratic_in_the_scale():
    class Square(Walk):
        def f(self, t, y):
            return -(y**2)

    x0, e = (torch.tensor([x], dtype=torch.float64) for x in (START, 0.3))
    result = sdewm.value_expansion(
        Square(), lambda y: y[:, 0], x0, e, t1=0.4, steps=1, increments="enumerate"
    )
    # One step: x + Δ(−x²): the slope 1 − 2Δx, the bend −2Δ.
    first, second = (1 - 0.8 * START) * 0.3, -0.4 * 0.3**2
    assert result.terms["second_flow"].value == pytest.approx(second)
    for row in result.measure([1.0, 0.5]):
        assert row.predicted.value == pytest.approx(row.scale * first + row.scale**2 * second)


def test_errors_of_curves_are_those_of_means_of_batches():
    sums = BatchSums(paths=6, quantities=4, batches=3)
    rows = torch.arange(24.0, dtype=torch.float64).reshape(6, 4) ** 2
    sums.add(0, rows)
    curves = norm_curves(sums, [0.0])
    batches = rows.numpy().reshape(3, 2, 4).mean(1)
    error = batches.std(0, ddof=1) / math.sqrt(3)
    found = [curve.standard_errors[0] for curve in curves.values()]
    assert np.array(found) == pytest.approx(error)
