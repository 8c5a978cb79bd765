"""The bootstrap over episodes: coverage, units, ends, refusals."""

import math

import numpy as np
import pytest

from sdewm.base.stats import half_width
from sdewm.open_loop.bootstrap import episode_bootstrap, episodes_needed


def band_of_mean(errors, **how):
    """The interval of the mean over episodes at each horizon."""
    return episode_bootstrap(lambda part: part.mean(axis=0), errors, **how)


def autoregressive_episodes(generator, episodes, steps, memory=0.95):
    """Errors around the curve 1 + k/10, an AR(1) of variance 1 in each episode."""
    noise = generator.normal(size=(episodes, steps))
    for k in range(1, steps):
        noise[:, k] = memory * noise[:, k - 1] + math.sqrt(1 - memory**2) * noise[:, k]
    return 1 + 0.1 * np.arange(1, steps + 1) + noise


def covered(units):
    """Share of the intervals that contain the mean over all steps, for a choice of units."""
    generator, steps, hits, rounds = np.random.default_rng(0), 30, 0, 120
    truth = 1 + 0.1 * np.arange(1, steps + 1).mean()
    for seed in range(rounds):
        rows = units(autoregressive_episodes(generator, 40, steps))
        band = episode_bootstrap(np.mean, rows, seed=seed, resamples=100)
        hits += band.low <= truth <= band.high
    return hits / rounds


def test_interval_of_dependent_steps_covers_if_episodes_are_the_units():
    assert 0.90 <= covered(lambda errors: errors) <= 0.98


def test_interval_of_dependent_steps_fails_if_steps_are_the_units():
    assert covered(lambda errors: errors.reshape(-1, 1)) < 0.6


def test_band_covers_pointwise():
    generator, hits = np.random.default_rng(1), []
    truth = 1 + 0.1 * np.arange(1, 6)
    for seed in range(150):
        errors = autoregressive_episodes(generator, 40, 5)
        band = band_of_mean(errors, seed=seed, resamples=100, level=0.8)
        hits.append((band.low <= truth) & (truth <= band.high))
    share = np.mean(hits, axis=0)
    assert share.shape == (5,)
    assert (np.abs(share - 0.8) < 0.08).all(), share


def test_ends_are_the_order_statistics_of_a_slow_bootstrap():
    errors = np.random.default_rng(2).normal(size=(7, 2))
    band = band_of_mean(errors, seed=3, resamples=101, level=0.9)
    generator = np.random.default_rng(3)
    means = []
    for _ in range(101):
        picks = [int(pick) for pick in generator.integers(7, size=7)]
        means.append(sum(errors[pick] for pick in picks) / 7)
    ordered = np.sort(means, axis=0)
    np.testing.assert_allclose(band.low, ordered[1], rtol=1e-12)
    np.testing.assert_allclose(band.high, ordered[99], rtol=1e-12)
    np.testing.assert_allclose(band.value, errors.mean(axis=0), rtol=1e-12)
    assert (band.level, band.episodes) == (0.9, 7)
    assert band.at(1).low == band.low[1] and band.at(1).high == band.high[1]


def test_same_seed_gives_the_same_band_and_another_seed_another():
    errors = np.random.default_rng(4).normal(size=(9, 3))
    first, second, other = (band_of_mean(errors, seed=seed, resamples=200) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.low, second.low)
    assert (first.low != other.low).any()


def test_arrays_are_resampled_together():
    first = np.random.default_rng(5).normal(size=(8, 4))
    band = episode_bootstrap(lambda a, b: (a - b).mean(), first + 2.0, first, seed=0, resamples=200)
    assert float(band.high - band.low) < 1e-12
    assert float(band.value) == pytest.approx(2.0)


def test_infinite_values_reach_the_end_and_undefined_ones_open_it():
    marks = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])

    def first_episode_drawn(value):
        return lambda part: value if part.any() else 1.0

    endless = episode_bootstrap(first_episode_drawn(math.inf), marks, seed=0, resamples=1000)
    assert (endless.low, endless.high) == (1.0, math.inf)
    unknown = episode_bootstrap(first_episode_drawn(math.nan), marks, seed=0, resamples=1000)
    assert (unknown.low, unknown.high) == (-math.inf, math.inf)
    assert float(unknown.undefined) == pytest.approx(1 - (5 / 6) ** 6, abs=0.04)
    assert math.isnan(unknown.value)


def test_few_undefined_resamples_leave_the_ends_finite():
    marks = np.arange(1.0, 8.0)
    band = episode_bootstrap(  # 7⁻⁶ of the resamples
        lambda part: part.mean() if np.ptp(part) else math.nan, marks, seed=0, resamples=2000
    )
    assert np.isfinite([band.low, band.high]).all()


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_fewest_episodes_make_a_repeated_one_rarer_than_the_tail(level):
    least = episodes_needed(level)
    assert least**-least <= (1 - level) / 2
    assert least == 2 or (least - 1) ** -(least - 1) > (1 - level) / 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"errors": np.ones((3, 2))}, "3 episodes; an interval of level 0.95 needs at least 4"),
        ({"errors": np.ones((5, 0))}, "no axis empty"),
        ({"errors": np.array([[1.0, 2.0], [np.nan, 1.0]])}, r"arrays\[0\]: nan at \[1, 0\]"),
        ({"errors": np.array([[1.0, np.inf]])}, r"arrays\[0\]: inf at \[0, 1\]"),
        ({"errors": np.ones((5, 2), dtype=int)}, r"arrays\[0\]: dtype int64"),
        ({"level": 1.0}, "level=1.0"),
        ({"seed": None}, "seed=None: expected a whole number of at least 0"),
        ({"seed": -1}, "seed=-1: expected a whole number of at least 0"),
        ({"resamples": 39}, "resamples=39: expected a whole number of at least 40"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"errors": np.ones((5, 2)), "seed": 0, "resamples": 40} | change
    with pytest.raises(ValueError, match=message):
        band_of_mean(given.pop("errors"), **given)


def test_arrays_of_different_episodes_are_refused():
    with pytest.raises(ValueError, match=r"\[5, 6\] episodes"):
        episode_bootstrap(lambda a, b: 0.0, np.ones((5, 1)), np.ones((6, 1)), seed=0)
    with pytest.raises(ValueError, match="none given"):
        episode_bootstrap(lambda: 0.0, seed=0)


def test_the_limits_of_a_mean_are_about_those_of_students_t():
    errors = np.random.default_rng(6).normal(size=12)
    band = episode_bootstrap(np.mean, errors, seed=0, resamples=20_000)
    half = half_width(errors.std(ddof=1) / 12**0.5, 12)
    assert float(band.high - band.low) / 2 == pytest.approx(half, rel=0.1)
    plain = 1.96 * errors.std() / 12**0.5  # of the percentiles at 2.5 and 97.5 %
    assert float(band.high - band.low) / 2 > 1.1 * plain
