"""Metrics of open-loop predictions that were made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.models import RSSMModel
from sdewm.latent_sde.posterior_paths import clean_paths
from sdewm.model.world_model import WorldModel
from sdewm.open_loop.errors import psnr
from sdewm.open_loop.metrics import open_loop_metrics
from sdewm.open_loop.physical_states import coverage_level, physical_states, sample_metrics
from sdewm.open_loop.table import open_loop_rows
from sdewm.open_loop.training_rows import training_rows
from sdewm.report.open_loop import summary
from tests.model.small_models import A, D, make_model, randn
from tests.open_loop.open_loop_cases import READ, SHIFT, E, F, H, N, T, made


def by_panel(found, training, **settings):
    metrics = open_loop_metrics(found, training, **({"seed": 0} | settings))
    return {metric.panel: metric for metric in metrics}


def test_errors_of_vectors_are_those_of_single_samples_not_of_their_mean():
    found, training = made()
    metrics = by_panel(found, training)
    assert [*metrics] == [
        *("observation error", "reward error", "return error", "physical state error"),
        *("latent KL", "latent distance", "sample spread of the physical state"),
        *("coverage of the physical state", "CRPS of the physical state"),
    ]
    square = np.mean((SHIFT @ READ) ** 2)
    np.testing.assert_allclose(metrics["observation error"].errors, square)  # of the mean: 0
    np.testing.assert_allclose(metrics["observation error"].references["one_step"], square / 100)
    scale = training.observations.reshape(-1, 2).std(axis=0)
    relative = np.mean((SHIFT @ READ / scale) ** 2)
    np.testing.assert_allclose(metrics["physical state error"].errors, relative, rtol=5e-3)
    assert metrics["physical state error"].references["observed"].max() < 1e-4
    variance = training.latents.reshape(-1, F).var(axis=0).sum()
    np.testing.assert_allclose(metrics["latent distance"].errors, SHIFT @ SHIFT / variance)


def test_rewards_and_returns_and_divergences_are_averaged_over_samples():
    found, training = made((1.0, -1.0, 2.0))
    metrics = by_panel(found, training)
    gap = found.rollout.rewards - found.rewards
    np.testing.assert_allclose(metrics["reward error"].errors, np.abs(gap).mean(axis=0))
    total = np.abs(np.cumsum(gap, axis=2)).mean(axis=0)
    np.testing.assert_allclose(metrics["return error"].errors, total)
    divergence = metrics["latent KL"]
    np.testing.assert_allclose(divergence.errors, found.rollout.kl.mean(axis=0))
    np.testing.assert_allclose(divergence.references["one_step"], found.one_step.kl.mean(axis=0))
    np.testing.assert_allclose(divergence.references["shuffled"], found.shuffled_kl.mean(axis=0))
    assert set(divergence.references) == {"one_step", "shuffled"}


def test_constant_references_copy_the_last_row_and_the_mean_of_training():
    found, training = made()
    lines = by_panel(found, training)["observation error"].references
    copied = np.mean((found.observations - found.last_observation[:, None]) ** 2, axis=2)
    np.testing.assert_allclose(lines["copy_last"], copied)
    mean = training.observations.reshape(-1, 2).mean(axis=0)
    centred = np.mean((found.observations - mean) ** 2, axis=2)
    np.testing.assert_allclose(lines["data_mean"], centred)
    lines = by_panel(found, training)["physical state error"].references
    scale = training.observations.reshape(-1, 2).std(axis=0)
    gap = (found.observations - found.last_observation[:, None]) / scale
    np.testing.assert_allclose(lines["copy_last"], np.mean(gap**2, axis=2))
    rewards = by_panel(found, training)["reward error"].references
    np.testing.assert_allclose(
        rewards["data_mean"], np.abs(found.rewards - training.rewards.mean())
    )


def test_the_ceiling_is_of_windows_of_training_rows():
    found, training = made(tuple(np.linspace(-1, 1, 40)))
    metrics = by_panel(found, training)
    ceiling = metrics["latent distance"].references["shuffled"]
    windows = np.stack([*training.windows(training.latents, 40, E, H, seed=0)])
    variance = training.latents.reshape(-1, F).var(axis=0).sum()
    expected = np.square(windows - found.latents).sum(axis=3).mean(axis=0) / variance
    np.testing.assert_allclose(ceiling, expected)
    assert ceiling.mean() == pytest.approx(2.0, abs=0.3)  # two independent draws of one law
    scale = training.observations.reshape(-1, 2).std(axis=0)
    gap = (windows @ READ - found.observations) / scale
    np.testing.assert_allclose(
        metrics["physical state error"].references["shuffled"], np.square(gap).mean(axis=(0, 3))
    )
    assert metrics["latent distance"].references["unrelated"].shape == (E // 2, H)
    constant = replace(training, rewards=np.full((N, T), 3.0))
    lines = by_panel(found, constant)["return error"].references
    for name in ("shuffled", "data_mean"):
        np.testing.assert_allclose(lines[name], np.abs(np.cumsum(3.0 - found.rewards, axis=1)))


def test_windows_are_consecutive_rows_of_one_episode_and_the_same_for_every_array():
    _, training = made()
    place = 100.0 * np.arange(N)[:, None] + np.arange(T)
    windows = np.stack([*training.windows(place, 50, E, H, seed=3)])
    assert windows.shape == (50, E, H)
    np.testing.assert_array_equal(np.diff(windows, axis=2), 1.0)
    first = windows[..., 0] % 100
    assert first.min() == 0 and first.max() == T - H
    assert set(np.unique(windows[..., 0] // 100)) == set(range(N))
    again = np.stack([*training.windows(-place, 50, E, H, seed=3)])
    np.testing.assert_array_equal(again, -windows)
    whole = np.stack([*training.windows(place[:, :H], 3, E, H, seed=0)])
    np.testing.assert_array_equal(whole[..., 0] % 100, 0)


def test_samples_are_judged_in_standard_deviations_of_the_physical_state():
    found, training = made((-2.0, -1.0, 1.0, 2.0))
    metrics = by_panel(found, training)
    scale = training.observations.reshape(-1, 2).std(axis=0)
    unit = np.abs(SHIFT @ READ) / scale
    spread = metrics["sample spread of the physical state"]
    expected = np.std([-2, -1, 1, 2], ddof=1) * unit.mean()
    np.testing.assert_allclose(spread.errors, expected, rtol=5e-3)
    np.testing.assert_allclose(spread.references["one_step"], expected / 10, rtol=5e-3)
    hits = metrics["coverage of the physical state"]
    np.testing.assert_array_equal(hits.errors, 1.0)
    np.testing.assert_array_equal(hits.references["nominal"], coverage_level(4))
    aside = by_panel(*made((1.0, 2.0, 3.0, 4.0)))["coverage of the physical state"]
    assert aside.errors.max() == 0.0
    score = metrics["CRPS of the physical state"]
    pairs = np.mean([abs(a - b) for a in (-2, -1, 1, 2) for b in (-2, -1, 1, 2) if a != b])
    np.testing.assert_allclose(score.errors, (1.5 - pairs / 2) * unit.mean(), rtol=0.02)
    normal = 2 / np.sqrt(np.pi) - 1 / np.sqrt(np.pi)  # E|X − y| − ½ E|X − X'|, all N(0, 1)
    assert score.references["shuffled"].mean() == pytest.approx(normal, abs=0.1)
    for metric in (spread, hits, score):
        assert metric.growth is None


def test_images_have_psnr_and_ssim_and_the_reward_for_samples():
    found, training = made(shape="image")
    metrics = by_panel(found, training)
    assert [*metrics] == [
        *("observation error", "PSNR", "SSIM", "reward error", "return error", "latent KL"),
        *("latent distance", "sample spread of the reward", "coverage of the reward"),
        "CRPS of the reward",
    ]
    square = metrics["observation error"]
    gap = found.rollout.observations - found.observations
    np.testing.assert_allclose(square.errors, np.square(gap).mean(axis=(0, 3, 4, 5)))
    noise = metrics["PSNR"]
    expected = psnr(square.errors.mean(axis=0), peak=1.0)
    np.testing.assert_allclose(noise.reduce(noise.errors), expected)
    similar = metrics["SSIM"]
    assert (similar.errors < similar.references["one_step"]).mean() > 0.9
    np.testing.assert_allclose(similar.growth(similar.errors), 1 - similar.errors)
    lines = square.references
    mean = training.observations.mean(axis=(0, 1)) / 255
    expected = np.square(found.observations - mean).mean(axis=(2, 3, 4))
    np.testing.assert_allclose(lines["data_mean"], expected)
    assert 1.5 < lines["shuffled"].mean() / lines["data_mean"].mean() < 2.6
    assert similar.references["shuffled"].max() <= 1  # windows are scaled to [0, 1]
    spread = metrics["sample spread of the reward"].errors
    np.testing.assert_allclose(spread, found.rollout.rewards.std(axis=0, ddof=1))


def test_constant_components_are_no_part_of_the_physical_state():
    """They have no standard deviation; the others are scored as if they stood alone."""
    found, training = made()
    still = training.observations.copy()
    still[..., 1] = 0.1
    training = replace(training, observations=still)
    metrics = by_panel(found, training)
    alone = {"observations": found.observations[..., :1]}
    alone |= {"last_observation": found.last_observation[..., :1]}
    alone |= {
        part: replace(getattr(found, part), observations=getattr(found, part).observations[..., :1])
        for part in ("rollout", "one_step")
    }
    first = by_panel(replace(found, **alone), replace(training, observations=still[..., :1]))
    for panel in ("physical state error", "CRPS of the physical state"):
        np.testing.assert_array_equal(metrics[panel].errors, first[panel].errors)
    rows = open_loop_rows(found, training, theta=0.5, seed=0, resamples=40)
    assert summary(rows).endswith("reference episodes: components 1 of the observations.")
    nothing = by_panel(found, replace(training, observations=0 * still))
    assert "observation error" in nothing and "physical state error" not in nothing
    assert "CRPS of the reward" in nothing


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("rewards", lambda x: x * np.nan, r"rewards: nan at \[0, 0\]"),
        ("rewards", lambda x: x[:, :4], r"observations \(6, 30, 2\): expected .N, T. = .6, 4."),
        ("observations", lambda x: x * np.inf, "observations: -?inf at"),
        ("observations", lambda x: x[1:], r"observations \(5, 30, 2\): expected .N, T. = .6, 30."),
        ("latents", lambda x: 0 * x + 0.1, "all rows are equal"),
        ("latents", lambda x: x[..., 0], r"expected \(N, T, F\)"),
    ],
)
def test_training_rows_that_do_not_fit_are_refused(name, change, message):
    _, training = made()
    with pytest.raises(ValueError, match=message):
        replace(training, **{name: change(getattr(training, name))})


def test_training_rows_are_the_posterior_and_what_was_recorded():
    model = RSSMModel(make_model("gaussian"))
    episodes = Episodes(randn(3, 5, D), torch_actions(3, 5), randn(3, 5, seed=2))
    rows = training_rows(model, episodes, seed=1)
    np.testing.assert_array_equal(rows.latents, clean_paths(model, episodes, 1).states)
    np.testing.assert_array_equal(rows.observations, episodes.observations)
    np.testing.assert_array_equal(rows.rewards, episodes.rewards)
    np.testing.assert_allclose(rows.mean_observation(), episodes.observations.mean((0, 1)))


def test_training_rows_of_images_are_bytes_with_a_mean_between_0_and_1():
    world_model: WorldModel = make_model("gaussian", (64, 64, 3), image_encoder="patches")
    pixels = (randn(2, 3, 64, 64, 3).abs() * 90).clamp(0, 255).byte()
    episodes = Episodes(pixels, torch_actions(2, 3), randn(2, 3))
    rows = training_rows(RSSMModel(world_model), episodes, seed=0)
    assert rows.observations.dtype == np.uint8
    mean = pixels.double().mean((0, 1)).numpy() / 255
    np.testing.assert_allclose(rows.mean_observation(), mean)


def torch_actions(count, steps):
    return randn(count, steps, A, seed=4).tanh()


def test_coverage_counts_what_the_probe_leaves():
    # The state is the latent plus noise that no probe can read: a perfect model samples the latent.
    rng = np.random.default_rng(0)
    found, training = made((-1.0, 1.0))
    unread = rng.standard_normal(training.observations.shape)
    noisy = replace(training, observations=training.observations + unread)
    states, _ = physical_states(found, noisy, seed=0)
    count, size = 19, 400
    truth = rng.standard_normal((size, 3, 2)) * states.residuals.std(axis=0)
    sure = np.zeros((count, size, 3, 2))
    perfect = replace(
        states, rollout=sure, one_step=sure, truth=truth, last=truth[:, 0], shuffled=sure
    )
    hits = {m.panel: m for m in sample_metrics(perfect, seed=0)}["coverage of the physical state"]
    assert hits.errors.mean() == pytest.approx(coverage_level(count), abs=0.03)
    without = replace(perfect, residuals=None)
    hits = {m.panel: m for m in sample_metrics(without, seed=0)}["coverage of the physical state"]
    assert hits.errors.mean() == 0.0
    scale = noisy.observations.reshape(-1, 2).std(axis=0)
    assert states.residuals.std(axis=0) * scale == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("shape", ["vector", "image"])
def test_metrics_of_what_a_model_lacks_are_left_out(shape):
    found, training = made(shape=shape)
    nothing = {"observations": np.empty(0), "rewards": np.empty(0), "kl": np.empty(0)}
    reasons = dict.fromkeys(nothing, "the model has none")
    bare = replace(
        found,
        rollout=replace(found.rollout, **nothing),
        one_step=replace(found.one_step, **nothing),
        shuffled_kl=np.empty(0),
        left_out=reasons,
    )
    whole, kept = by_panel(found, training), by_panel(bare, training)
    names = ["spread", "coverage", "CRPS"] if shape == "vector" else []
    state = ["physical state error"] if shape == "vector" else []
    assert [name.split(" of the ")[0].replace("sample ", "") for name in kept] == [
        *state,
        "latent distance",
        *names,
    ]
    for name, one in kept.items():
        np.testing.assert_array_equal(one.errors, whole[name].errors)
    rows = open_loop_rows(bare, training, theta=0.5, seed=0, resamples=60)
    told = [(row["series"], row["unit"]) for row in rows if row["kind"] == "left out"]
    assert told == [*reasons.items()]
