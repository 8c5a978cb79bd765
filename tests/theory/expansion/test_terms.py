"""The weights of S4: terms and predictions as combinations of the averaged quantities."""

import numpy as np
import pytest

from sdewm.theory.expansion.terms import QUANTITIES, TERMS, prediction_weights, quantity_weights


def test_the_terms_are_those_of_equation_2():
    values = dict(zip(QUANTITIES, (2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0, 23.0), strict=True))
    found = {
        name: quantity_weights(combination) @ np.array([*values.values()])
        for name, combination in TERMS.items()
    }
    # c1 = P + P_drift, c2 = Q + S/2 + Q_drift + S_cross + S_drift/2
    assert found["Q_drift"] == 13 + 17
    assert found["c1"] == 3 + 11
    assert found["c2"] == 5 + 7 / 2 + (13 + 17) + 19 + 23 / 2
    single = ("c0", "P", "Q", "S", "P_drift", "S_cross", "S_drift")
    assert {name: found[name] for name in single} == {name: values[name] for name in single}


def test_a_prediction_weighs_each_quantity_by_the_sizes_of_its_errors():
    d, n = 0.3, 0.7
    sizes = {
        "c0": 1.0,
        "P": n,
        "Q": n * n,
        "S": n * n / 2,
        "P_drift": d,
        "Q_drift_drift": d * d,
        "Q_drift_diffusion": d * n,
        "S_cross": d * n,
        "S_drift": d * d / 2,
    }
    assert prediction_weights(d, n) == pytest.approx([sizes[name] for name in QUANTITIES])
