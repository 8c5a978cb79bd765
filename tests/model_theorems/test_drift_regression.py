"""The part of a drift that the state tells, on errors whose drift is known."""

import numpy as np
import pytest

from sdewm.model_theorems.drift_regression import regress_drift
from sdewm.model_theorems.episode_statistics import mean_estimate
from sdewm.model_theorems.error_statistics import ErrorStatistics

EPISODES, DRAWS, STEPS = 40, 6, 12
SLOPE, CONSTANT = np.array([[0.4, 0.0], [0.0, -0.2]]), np.array([0.1, 0.3])


def made(slope=1.0, constant=1.0, noise=0.5, draws=DRAWS, seed=0):
    generator = np.random.default_rng(seed)
    states = generator.normal(size=(EPISODES, STEPS, 2))
    drift = slope * states @ SLOPE + constant * CONSTANT
    shift = drift[:, None] + noise * generator.normal(size=(EPISODES, draws, STEPS, 2))
    std = np.ones((EPISODES, draws, STEPS, 2))
    return ErrorStatistics(shift, std, std[:, 0]), states, drift


def test_a_linear_drift_is_found_and_split_from_its_constant_part():
    error, states, drift = made()
    found = regress_drift(error, states)
    assert np.abs(found.drift - drift).max() < 0.15
    true = (SLOPE**2).sum() + (CONSTANT**2).sum()
    assert found.explained.deviation_from(true) < 4
    assert found.share.deviation_from(1.0) < 4 and found.share.standard_error < 0.1
    assert found.constant_share.deviation_from((CONSTANT**2).sum() / true) < 4


def test_noise_without_drift_is_not_explained_and_one_draw_will_do():
    error, states, _ = made(slope=0.0, constant=0.0)
    found = regress_drift(error, states)
    assert found.explained.value < 2 * found.explained.standard_error
    single, states, drift = made(noise=0.2, draws=1)
    one = regress_drift(single, states)
    assert np.isnan(one.share.value) and np.isnan(one.constant_share.value)
    assert one.explained.deviation_from((drift**2).sum(-1).mean()) < 4
    # In a single draw a drift that depends on the state counts as fluctuation: not any more.
    left = ((single.shift[:, 0] - one.drift) ** 2).mean((1, 2))
    assert mean_estimate(left).deviation_from(0.2**2) < 5
    assert single.variance.mean() > 2 * left.mean()


def test_the_estimate_is_without_bias_where_the_regression_is_poor():
    values = []
    for seed in range(40):
        error, states, drift = made(noise=3.0, draws=2, seed=seed)
        found = regress_drift(error, states)
        true = (drift**2 - (drift - found.drift) ** 2).sum(-1).mean()
        values.append(found.explained.value - true)
    mean, spread = np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5
    assert abs(mean) < 4 * spread
    with pytest.raises(ValueError, match=r"expected \(E, T, D\)"):
        regress_drift(error, states[:, 1:])
    with pytest.raises(ValueError, match="folds=1"):
        regress_drift(error, states, folds=1)
