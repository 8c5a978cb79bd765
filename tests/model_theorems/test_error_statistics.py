"""Drift and diffusion from draws of an error: known ones come back, noise is not called drift."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sdewm.model_theorems.error_statistics import ErrorStatistics

E, K, T, Z = 40, 16, 30, 3


def measured(drift, spread, rho=0.0, episodes=E, draws=K, steps=T, seed=0, std=0.5, reference=0.4):
    """Draws with a given drift (E, T, Z), a spread (Z,) and an AR(1) correlation in time."""
    rng = np.random.default_rng(seed)
    size = len(spread)
    noise = rng.standard_normal((episodes, draws, steps, size))
    zeta = np.empty_like(noise)
    zeta[:, :, 0] = noise[:, :, 0]
    for t in range(1, steps):
        zeta[:, :, t] = rho * zeta[:, :, t - 1] + math.sqrt(1 - rho**2) * noise[:, :, t]
    shift = drift[:, None] + np.asarray(spread) * zeta
    stds = np.full(shift.shape, std)
    return ErrorStatistics(shift, stds, np.full((episodes, steps, size), reference))


def no_drift(episodes=E, steps=T, size=Z):
    return np.zeros((episodes, steps, size))


def test_a_known_drift_and_diffusion_come_back_within_their_intervals():
    rng = np.random.default_rng(1)
    drift = np.array([0.3, -0.1, 0.0]) + 0.2 * rng.standard_normal((E, T, Z))
    spread = np.array([0.5, 0.2, 1.0])
    found = measured(drift, spread, rho=0.6)
    for estimate, truth in zip(found.mean_drift(), drift.mean((0, 1)), strict=True):
        # The interval is for the law that episodes come from: conditionally on them it is wide.
        assert estimate.deviation_from(truth) < 4 and 0 < estimate.standard_error < 0.1
    assert found.squared_drift().deviation_from((drift**2).sum(-1).mean()) < 4
    assert np.allclose(found.variance.mean((0, 1)), spread**2, rtol=0.05)
    assert np.allclose(found.same_driver, 0.1) and np.allclose(found.variance_change, 0.09)
    for j, rho in enumerate(found.autocorrelation(3), start=1):
        assert rho.deviation_from(0.6**j) < 4 and rho.standard_error < 0.05
    time, whole = found.correlation_time
    assert abs(time - 1.6 / 0.4) < 0.4 and not whole
    assert np.allclose(found.independent**2, found.variance * time)


def test_error_bars_of_the_drift_cover_as_often_as_they_say():
    truth, inside = 0.2, 0
    for seed in range(200):
        found = measured(
            np.full((12, 5, 1), truth), [1.0], rho=0.6, episodes=12, draws=2, steps=5, seed=seed
        )
        estimate = found.mean_drift()[0]
        inside += estimate.deviation_from(truth) < stats.t.ppf(0.975, 11)
    assert 0.90 < inside / 200 < 0.99
    # Steps counted as independent would make the interval too short by about 2 (S28).


@pytest.mark.parametrize("size", [2, 14])
def test_pure_noise_is_called_drift_at_the_stated_rate_and_drift_is_found(size):
    called = 0
    for seed in range(150):
        found = measured(
            no_drift(12, 3, size), [1.0] * size, rho=0.5, episodes=12, draws=2, steps=3, seed=seed
        )
        called += found.zero_drift_test().p_value < 0.1
    low, high = stats.binom.ppf([0.001, 0.999], 150, 0.1)
    assert low <= called <= high
    drift = np.full((27, 3, size), 2.0)
    found = measured(drift, [1.0] * size, episodes=27, draws=4, steps=3)
    assert 0 < found.zero_drift_test().p_value < 0.001  # no number of flips gives zero


def of_episode_means(rows):
    shift = rows[:, None, None, :]
    return ErrorStatistics(shift, np.ones(shift.shape), np.ones((len(rows), 1, rows.shape[1])))


def test_the_p_value_is_the_share_of_all_signs():
    rows = np.random.default_rng(5).standard_normal((8, 3)) + 0.8
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=8)))
    sizes = ((signs @ rows / 8) ** 2).sum(1)
    exact = (sizes >= (rows.mean(0) ** 2).sum() * (1 - 1e-12)).mean()
    assert 0.01 < exact < 0.3
    found = of_episode_means(rows).zero_drift_test()
    assert abs(found.p_value - exact) < 5 * math.sqrt(exact * (1 - exact) / 9999)
    assert found.statistic == pytest.approx((rows.mean(0) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize("episodes", [2, 3, 5, 6])
def test_the_largest_drift_has_the_least_p_value(episodes):
    test = of_episode_means(np.full((episodes, 2), 100.0)).zero_drift_test()
    assert test.least_p_value == 2.0 ** (1 - episodes)
    error = math.sqrt(test.least_p_value / 9999)
    assert abs(test.p_value - test.least_p_value) < 5 * error


def test_skewed_means_without_drift_are_rejected_about_as_often_as_stated():
    called = hotelling = 0
    for seed in range(300):
        rows = np.random.default_rng(seed).exponential(size=(12, 4)) - 1.0
        called += of_episode_means(rows).zero_drift_test(seed).p_value <= 0.05
        mean, covariance = rows.mean(0), np.cov(rows, rowvar=False)
        square = 12 * mean @ np.linalg.solve(covariance, mean)
        hotelling += stats.f.sf(square * 8 / (4 * 11), 4, 8) <= 0.05
    most = stats.binom.ppf(0.999, 300, 0.06)
    assert called <= most < hotelling


@pytest.mark.parametrize("draws", [1, 2, 16])
def test_the_squared_drift_is_not_inflated_by_noise(draws):
    estimates = [
        measured(no_drift(10, 4), [1.0] * 3, episodes=10, draws=draws, steps=4, seed=s)
        for s in range(60)
    ]
    values = np.array([found.squared_drift().value for found in estimates])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(60)
    naive = np.mean([(found.drift**2).sum(-1).mean() for found in estimates])
    assert naive > values.mean() + 4 * values.std() / math.sqrt(60)
    constant = measured(no_drift() + np.array([0.3, 0.0, 0.4]), [0.5] * 3, draws=draws)
    assert constant.squared_drift().deviation_from(0.25) < 4


def test_with_one_draw_the_error_of_the_squared_drift_counts_every_episode_twice():
    values, errors = [], []
    for seed in range(100):
        found = measured(np.full((20, 2, 1), 1.0), [1.0], episodes=20, draws=1, steps=2, seed=seed)
        estimate = found.squared_drift()
        values.append(estimate.value)
        errors.append(estimate.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


def test_the_share_of_drift_is_one_without_noise_and_zero_without_drift():
    rng = np.random.default_rng(2)
    drift = rng.standard_normal((E, T, Z))
    pure = measured(drift, [0.0] * Z, std=0.4)
    assert pure.drift_fraction().value == pytest.approx(1.0)
    assert pure.correlation_time == (1.0, False)
    noise = measured(no_drift(), [1.0] * Z, std=0.4)
    assert noise.drift_fraction().deviation_from(0.0) < 4
    half = measured(drift, [1.0] * Z, std=0.4)
    assert half.drift_fraction().deviation_from(0.5) < 5
    surer = measured(no_drift(), [0.1] * Z, std=0.1)  # the spread of the model has shrunk
    assert math.isnan(surer.drift_fraction().value) and np.allclose(surer.same_driver, -0.3)


def test_the_error_of_the_share_is_that_of_repetitions():
    values, errors = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        drift = np.repeat(rng.standard_normal((30, 1, 1)), 3, 1)  # episodes differ
        found = measured(drift, [1.0], episodes=30, draws=4, steps=3, seed=seed, std=0.4)
        values.append(found.drift_fraction().value)
        errors.append(found.drift_fraction().standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_what_lasts_an_episode_is_no_diffusion():
    rng = np.random.default_rng(3)
    shift = np.repeat(rng.standard_normal((E, K, 1, Z)), T, 2)
    found = ErrorStatistics(shift, np.ones(shift.shape), np.ones((E, T, Z)))
    time, whole = found.correlation_time
    assert whole and time == pytest.approx(1 + 2 * (T // 2))
    assert not measured(no_drift(), [1.0] * Z).correlation_time[1]


def test_one_draw_gives_a_constant_drift_and_what_is_left():
    drift = no_drift() + np.array([0.3, -0.2, 0.0])
    found = measured(drift, [0.5, 1.0, 2.0], draws=1)
    assert np.ptp(found.drift, axis=(0, 1)).max() == 0
    assert np.allclose(found.variance[0, 0], [0.25, 1.0, 4.0], rtol=0.2)
    assert np.allclose(found.drift + found.fluctuation[:, 0], found.shift[:, 0])
    factor = found.factor()[0, 0]
    assert np.allclose(factor @ factor.T, np.diag(found.independent[0, 0] ** 2))


def test_the_factor_is_that_of_the_covariance_across_components():
    rng = np.random.default_rng(4)
    mixing = np.array([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 0.5]])
    shift = rng.standard_normal((4, 50, 5, 3)) @ mixing.T
    found = ErrorStatistics(shift, np.ones(shift.shape), np.ones((4, 5, 3)))
    factor, time = found.factor(), found.correlation_time[0]
    slow = np.cov(shift[2, :, 3], rowvar=False) * time
    assert np.allclose(factor[2, 3] @ factor[2, 3].T, slow)
    assert slow[0, 1] > 0.3


def test_the_factor_of_few_draws_is_that_of_their_covariance():
    shift = np.random.default_rng(5).standard_normal((4, 3, 5, 8))
    found = ErrorStatistics(shift, np.ones(shift.shape), np.ones((4, 5, 8)))
    factor = found.factor()
    assert factor.shape == (4, 5, 8, 3)
    slow = np.cov(shift[1, :, 2], rowvar=False) * found.correlation_time[0]
    np.testing.assert_allclose(factor[1, 2] @ factor[1, 2].T, slow, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shift": np.zeros((2, 3, 4))}, r"shift \(2, 3, 4\)"),
        ({"std": np.zeros((2, 3, 4, 1))}, "expected the same"),
        ({"reference_std": np.zeros((2, 3, 5))}, r"expected \(E, T, Z\) = \(2, 4, 5\)"),
        ({"shift": np.full((2, 3, 4, 5), np.nan)}, "shift contains values that are not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    arrays = {
        "shift": np.zeros((2, 3, 4, 5)),
        "std": np.zeros((2, 3, 4, 5)),
        "reference_std": np.zeros((2, 4, 5)),
    }
    with pytest.raises(ValueError, match=message):
        ErrorStatistics(**(arrays | change))
    one = np.zeros((1, 3, 4, 5))
    with pytest.raises(ValueError, match="expected at least 2"):
        ErrorStatistics(one, one, one[:, 0])
    with pytest.raises(ValueError, match="lags=4"):
        ErrorStatistics(**arrays).autocorrelation(4)


@pytest.mark.parametrize("draws", [1, 4])
def test_error_bars_of_the_fraction_know_that_episodes_differ_in_their_fluctuation(draws):
    """With one draw the fluctuation of all episodes was taken as known: 2.5 times too short."""
    values, errors = [], []
    for seed in range(200):
        sizes = np.exp(0.4 * np.random.default_rng(1000 + seed).standard_normal((20, 1, 1, 1)))
        found = measured(np.full((20, 15, 2), 1.0), [1.0, 1.0], 0, 20, draws, 15, seed)
        shift = 1.0 + sizes * (found.shift - 1.0)
        fraction = ErrorStatistics(shift, found.std, found.reference_std).drift_fraction()
        values.append(fraction.value)
        errors.append(fraction.standard_error)
    assert np.std(values) / np.sqrt(np.mean(np.square(errors))) == pytest.approx(1.0, abs=0.2)


def test_the_fraction_with_one_draw_is_that_of_the_pooled_fluctuation():
    found = measured(np.full((10, 15, 2), 1.0), [1.0, 0.5], episodes=10, draws=1, steps=15)
    square = found.squared_drift().value
    spread = float((found.variance + found.variance_change).sum(-1).mean())
    assert found.drift_fraction().value == pytest.approx(square / (square + spread), rel=1e-12)
