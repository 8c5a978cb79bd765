"""Reference lines on series whose errors are known."""

import numpy as np
import pytest

from sdewm.open_loop.baselines import copy_last, data_mean, reference_errors, unrelated_pairs
from sdewm.open_loop.errors import squared_error


def test_copy_and_mean_repeat_one_row():
    last = np.random.default_rng(0).normal(size=(4, 2, 3))
    copied = copy_last(last, 5)
    assert copied.shape == (4, 5, 2, 3)
    for k in range(5):
        np.testing.assert_array_equal(copied[:, k], last)
    mean = data_mean(last, episodes=2, horizon=3)
    assert mean.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(mean[1, 2], sum(last) / 4)


def test_the_mean_of_many_rows_in_single_precision_has_all_digits():
    rows = np.full((1_000_000, 2), 0.1, np.float32)
    rows[::2] = 0.3
    expected = (float(np.float32(0.1)) + float(np.float32(0.3))) / 2
    np.testing.assert_allclose(data_mean(rows, 1, 1).ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize("episodes", [2, 5, 8])
def test_pairs_are_of_different_episodes_each_used_once(episodes):
    truth = np.arange(float(episodes))[:, None] + np.zeros((episodes, 3))
    first, second = unrelated_pairs(truth, seed=1)
    used = [*first[:, 0], *second[:, 0]]
    assert first.shape == second.shape == (episodes // 2, 3)
    assert len(set(used)) == len(used) == 2 * (episodes // 2)
    np.testing.assert_array_equal(unrelated_pairs(truth, seed=1)[0], first)


def test_pairing_depends_on_the_seed_and_keeps_steps_together():
    truth = np.random.default_rng(2).normal(size=(10, 6))
    orders = [unrelated_pairs(truth, seed)[0] for seed in range(3)]
    assert not all(np.array_equal(orders[0], other) for other in orders[1:])
    rows = {tuple(row) for row in truth}
    assert all(tuple(row) in rows for pair in unrelated_pairs(truth, 0) for row in pair)


def test_lines_of_an_autoregressive_process_are_its_closed_forms():
    memory, horizon, episodes = 0.8, 6, 40_000
    generator = np.random.default_rng(3)
    last = generator.normal(size=episodes)
    truth, before = np.empty((episodes, horizon)), last
    one_step = np.empty_like(truth)
    for k in range(horizon):
        one_step[:, k] = memory * before
        before = one_step[:, k] + np.sqrt(1 - memory**2) * generator.normal(size=episodes)
        truth[:, k] = before
    lines = reference_errors(
        squared_error, truth, last=last, data=np.array([-1.0, 1.0]), one_step=one_step, seed=0
    )
    k = np.arange(1, horizon + 1)
    expected = {
        "copy_last": 2 * (1 - memory**k),  # Var(x_k − x_0)
        "data_mean": np.ones(horizon),
        "one_step": np.full(horizon, 1 - memory**2),
        "unrelated": np.full(horizon, 2.0),
    }
    assert lines.keys() == expected.keys()
    for name, errors in lines.items():
        np.testing.assert_allclose(errors.mean(axis=0), expected[name], rtol=0.05, err_msg=name)
