"""Parts of the linearised bound on systems for which they are written out."""

import math

import numpy as np
import pytest
import torch

from sdewm.sde.examples import OrnsteinUhlenbeck, PearsonDiffusion
from sdewm.theory.bounds.bound import linear_range, widened
from sdewm.theory.bounds.rollout_bounds import rollout_bounds
from sdewm.theory.curve import Curve

ERROR = torch.tensor([0.1], dtype=torch.float64)


class Parabola:
    """dx = −x² dt + ½ dB."""

    noise_type, sde_type = "diagonal", "ito"
    x0 = torch.tensor([1.2], dtype=torch.float64)

    def f(self, t, y):
        return -(y**2)

    def g(self, t, y):
        return torch.full_like(y, 0.5)


def test_the_linear_range_is_where_half_the_second_variation_is_five_percent():
    case = Parabola()
    bound = rollout_bounds(case, case.x0, ERROR, t1=0.25, steps=1, grades=("linearised",))
    # After the step y = (1 − 2Δx)e and ½w = −Δe², so that ½|w|/|y| = e Δ/(1 − 2Δx).
    reach = 0.05 / 1.05 * (1 - 0.5 * 1.2) / 0.25
    assert bound["linearised"].range == pytest.approx(reach)


def test_a_prediction_that_vanishes_where_the_difference_does_not_has_no_range():
    class Square(Parabola):  # one Euler step of size 1 is x², whose slope at 0 is 0
        def f(self, t, y):
            return y**2 - y

    start = torch.zeros(1, dtype=torch.float64)
    grid = {"t1": 2.0, "steps": 2, "kind": "estimate", "grades": ("linearised",)}
    found = rollout_bounds(Square(), start, ERROR, **grid)["linearised"]
    assert found.prediction["mean"].values[1:].max() == 0
    assert found.range == 0
    one, zero, none = (torch.full((2,), value) for value in (1.0, 0.0, math.nan))
    assert linear_range(one, zero, 2.0) == math.inf
    assert math.isnan(linear_range(one, none, 2.0))


def test_curved_noise_alone_leaves_a_remainder():
    case = PearsonDiffusion()
    bound = rollout_bounds(case, case.x0, ERROR, t1=1.0, steps=4, grades=("linearised",))
    assert bound["linearised"].remainder.last.value > 1e-4


def test_the_error_of_the_prediction_is_that_of_its_paths():
    case = OrnsteinUhlenbeck()
    errors = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)[:, None]
    bound = rollout_bounds(case, case.x0, errors, t1=1.0, steps=4, paths=9, grades=("linearised",))
    found = bound["linearised"].prediction["mean"].at(0.0)
    assert found.value == pytest.approx(0.5)
    assert found.standard_error == pytest.approx(float(errors.std()) / 3)


def test_remainders_are_added_in_the_mean_square():
    times = [0.0, 1.0]
    prediction = {
        name: Curve(times, values, [0.1, 0.1])
        for name, values in {
            "mean": [1.0, 2.0],
            "mean_square": [4.0, 9.0],
            "sup": [1.0, 3.0],
            "sup_square": [4.0, 16.0],
        }.items()
    }
    found = widened(prediction, np.array([0.0, 0.5]), np.array([0.0, 2.0]))
    values = {name: curve.values.tolist() for name, curve in found.items()}
    assert values == {
        "mean": [1.0, 2.5],
        "mean_square": [4.0, 3.5**2],
        "sup": [1.0, 5.0],
        "sup_square": [4.0, 6.0**2],
    }
    # The error of (√m + r)² is that of m times 1 + r/√m.
    assert found["sup_square"].standard_errors == pytest.approx(0.1 * np.array([1.0, 1.5]))
    assert math.isclose(found["mean"].standard_errors[1], 0.1)
