"""The table of open-loop accuracy on predictions whose errors are known."""

from dataclasses import replace

import numpy as np
import pytest

from sdewm.base.records import read_table, write_table
from sdewm.open_loop.effective_rank import effective_rank
from sdewm.open_loop.error_growth import GROWTH_METRICS
from sdewm.open_loop.table import open_loop_rows
from tests.open_loop.open_loop_cases import E, F, H, made

SETTINGS = {"theta": 0.25, "seed": 0, "resamples": 60}


def select(rows, **wanted):
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_every_curve_has_a_row_per_horizon_with_its_interval(tmp_path):
    random = np.random.default_rng(1)
    found, training = made()
    noisy = found.rollout.rewards + random.normal(size=(2, E, H))
    found = replace(found, rollout=replace(found.rollout, rewards=noisy))
    rows = open_loop_rows(found, training, **SETTINGS)
    curve = select(rows, panel="reward error", kind="curve", series="model")
    assert [row["horizon"] for row in curve] == list(range(1, H + 1))
    errors = np.abs(noisy - found.rewards).mean(axis=0)
    np.testing.assert_allclose([row["value"] for row in curve], errors.mean(axis=0))
    assert all(row["low"] < row["value"] < row["high"] for row in curve)
    for name in ("copy_last", "data_mean", "one_step", "unrelated", "shuffled"):
        line = select(rows, panel="reward error", kind="reference", series=name)
        assert [row["horizon"] for row in line] == list(range(1, H + 1))
    assert not select(rows, kind="curve", series="shuffled")
    settings = {row["series"]: row["value"] for row in select(rows, kind="setting")}
    assert settings.pop("coverage_level") == pytest.approx(1 / 3)
    assert settings == {"context": 4, "episodes": E, "samples": 2, "theta": 0.25}
    write_table(tmp_path / "rows.csv", rows, {})
    again, _ = read_table(tmp_path / "rows.csv")
    assert len(again) == len(rows) and again[-1]["series"] == "effective_rank"


def test_growth_is_that_of_the_curve_under_the_shuffled_ceiling():
    found, training = made(growth=0.3 * np.exp(0.2 * np.arange(1, H + 1)))
    rows = open_loop_rows(found, training, **SETTINGS)
    summaries = {row["series"]: row for row in select(rows, panel="latent distance", kind="metric")}
    assert set(summaries) == set(GROWTH_METRICS)
    assert summaries["growth_rate"]["value"] == pytest.approx(0.4)  # of the square
    curve, ceiling, mean = (
        np.array([row["value"] for row in select(rows, panel="latent distance", series=series)])
        for series in ("model", "shuffled", "data_mean")
    )
    lost, sooner = (np.flatnonzero(curve > 0.25 * line)[0] + 1 for line in (ceiling, mean))
    assert summaries["predictability_horizon"]["value"] == lost > sooner
    early = SETTINGS | {"theta": 0.999 * curve[3] / ceiling[3]}
    rows = open_loop_rows(found, training, **early)
    horizon = select(rows, panel="latent distance", series="predictability_horizon")[0]
    assert horizon["value"] <= 4 and horizon["unit"] == "policy_steps"
    assert summaries["growth_rate"]["unit"] == "1/policy_step"


def test_figures_are_given_where_they_mean_something():
    rows = open_loop_rows(*made(), **SETTINGS)
    panels = {row["panel"] for row in select(rows, kind="metric")}
    assert panels == {
        *("observation error", "reward error", "return error", "physical state error"),
        *("latent KL", "latent distance", "latents"),
    }
    found, training = made()
    still = replace(found, rewards=np.zeros((E, H)))
    sparse = open_loop_rows(still, replace(training, rewards=np.zeros((6, 30))), **SETTINGS)
    assert select(sparse, panel="reward error", kind="curve")
    assert not select(sparse, panel="reward error", kind="metric")


def test_images_have_growth_of_their_dissimilarity_and_psnr_of_the_mean_error():
    found, training = made(shape="image")
    rows = open_loop_rows(found, training, **SETTINGS)
    similar, noise, square = (
        [row["value"] for row in select(rows, panel=panel, kind="curve")]
        for panel in ("SSIM", "PSNR", "observation error")
    )
    np.testing.assert_allclose(noise, -10 * np.log10(square))
    level = select(rows, panel="SSIM", series="saturation_level")[0]["value"]
    assert level == pytest.approx(np.mean(1 - np.array(similar)), rel=0.3)
    assert not select(rows, panel="PSNR", kind="metric")


def test_effective_rank_is_of_the_posterior_of_the_evaluated_rows():
    found, training = made()
    (row,) = select(open_loop_rows(found, training, **SETTINGS), series="effective_rank")
    assert row["value"] == pytest.approx(effective_rank(found.latents[0].reshape(-1, F)))
    assert row["low"] < row["high"] <= F and row["panel"] == "latents"


@pytest.mark.parametrize(
    ("found", "training", "message"),
    [
        (lambda x: replace(x, rewards=x.rewards[:7]), lambda x: x, "E = 7; expected at least 8"),
        (
            lambda x: x,
            lambda x: replace(x, rewards=x.rewards[:, : H - 1]),
            "training episodes of 11 rows",
        ),
    ],
)
def test_too_little_data_is_refused(found, training, message):
    predictions, rows = made()
    with pytest.raises(ValueError, match=message):
        open_loop_rows(found(predictions), training(rows), **SETTINGS)
