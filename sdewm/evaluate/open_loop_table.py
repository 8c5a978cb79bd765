"""The table of open-loop accuracy: every metric against the horizon, and how fast it is lost."""

from __future__ import annotations

import numpy as np

from sdewm.base.progress import Progress
from sdewm.base.records import Row
from sdewm.evaluate.effective_rank import effective_rank
from sdewm.evaluate.episode_bootstrap import (
    RESAMPLES,
    Interval,
    episode_bootstrap,
    episodes_needed,
)
from sdewm.evaluate.horizon_growth import horizon_growth
from sdewm.evaluate.open_loop import OpenLoop
from sdewm.evaluate.open_loop_metrics import open_loop_metrics
from sdewm.evaluate.sampled_quantities import coverage_level
from sdewm.evaluate.scored_metrics import Measured, TrainingRows

STEPS, PER_STEP = "policy_steps", "1/policy_step"
RANK_RESAMPLES = 200  # a singular value decomposition each


def open_loop_rows(
    found: OpenLoop,
    training: TrainingRows,
    *,
    theta: float,
    seed: int,
    physics: np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> list[Row]:
    """Curves, reference lines and figures of all metrics, with intervals of 95 % over episodes.

    The error of a single sample is scored, see `scored_metrics`. Rows have the keys

        panel    the metric
        kind     "curve", "reference", "metric" or "setting"
        series   "model"; "copy_last", "data_mean", "one_step", "unrelated" (the same step of
                 another episode), "shuffled" (any step of any training episode: the ceiling),
                 "observed" (the probe on the row itself), "nominal"; a name of
                 `horizon_growth.FIGURES` or "effective_rank"; the name of a setting
        horizon  k in policy steps after the last observation, None for metrics and settings
        value, low, high
        unit

    Figures of growth are those of the mean error curve under the ceiling at each k, taken as given:
    their intervals do not hold the sampling of the ceiling. There are none for PSNR, spread,
    coverage and CRPS, and none where the ceiling is 0 at some k (rewards that are all equal there).
    Those of SSIM are of 1 − SSIM. The effective rank is that of the posterior latents of the
    evaluated rows, sample 0.

    Args:
        found: from `open_loop`, of held-out episodes; at least 8, as "unrelated" is of pairs and
            intervals need 4.
        training: from `training_rows` of the same model.
        theta: share of the ceiling that ends the predictability horizon.
        seed: of pairing and resampling.
        physics: see `open_loop_metrics`.
        resamples: as in `episode_bootstrap`.

    Raises:
        ValueError: fewer than 8 episodes or 3 horizons, or as `open_loop_metrics`.
    """
    episodes, horizon = found.rewards.shape
    if episodes < 2 * episodes_needed():
        raise ValueError(
            f"episodes: E = {episodes}; expected at least {2 * episodes_needed()}, as "
            "unrelated episodes are compared in pairs."
        )
    if (there := training.rewards.shape[1]) < horizon:
        raise ValueError(f"training episodes of {there} rows: expected at least H = {horizon}.")
    metrics = open_loop_metrics(found, training, physics=physics, seed=seed)
    settings = {
        "context": found.context,
        "episodes": episodes,
        "samples": len(found.latents),
        "theta": theta,
        "coverage_level": coverage_level(len(found.latents)),
    }
    rows = [_row("settings", "setting", name, None, value) for name, value in settings.items()]
    progress = Progress("intervals", len(metrics))
    try:
        for done, metric in enumerate(metrics, start=1):
            rows += _curves(metric, seed, resamples)
            rows += _figures(metric, theta, seed, resamples)
            progress.update(done, metric.panel)
    finally:
        progress.close()
    return [*rows, _rank(found, seed)]


def _curves(metric: Measured, seed: int, resamples: int) -> list[Row]:
    """The model's curve and the reference lines, an interval at each k."""
    lines = {"model": metric.errors} | metric.references
    rows = []
    for series, errors in lines.items():
        band = episode_bootstrap(metric.reduce, errors, seed=seed, resamples=resamples)
        kind = "curve" if series == "model" else "reference"
        rows += [
            _row(metric.panel, kind, series, k + 1, band.at(k), metric.unit)
            for k in range(errors.shape[1])
        ]
    return rows


def _figures(metric: Measured, theta: float, seed: int, resamples: int) -> list[Row]:
    """Growth figures, none where they are not defined."""
    if metric.growth is None:
        return []
    ceiling = metric.growth(metric.references["shuffled"]).mean(axis=0)
    if (ceiling <= 0).any():
        return []
    growth = horizon_growth(
        metric.growth(metric.errors), ceiling, theta=theta, seed=seed, resamples=resamples
    )
    units = {
        **dict.fromkeys(("saturation_time", "predictability_horizon", "relaxation_time"), STEPS),
        **dict.fromkeys(("growth_rate", "equilibrium_rate"), PER_STEP),
        **dict.fromkeys(("power_exponent", "akaike_difference"), "1"),
        "equilibrium_source": f"{metric.unit}; {PER_STEP}",
    }
    return [
        _row(metric.panel, "metric", name, None, found, units.get(name, metric.unit))
        for name, found in growth.items()
    ]


def _rank(found: OpenLoop, seed: int) -> Row:
    def rank(latents: np.ndarray) -> float:
        return effective_rank(latents.reshape(-1, latents.shape[2]))

    band = episode_bootstrap(rank, found.latents[0], seed=seed, resamples=RANK_RESAMPLES)
    return _row("latents", "metric", "effective_rank", None, band.at(), "directions")


def _row(
    panel: str, kind: str, series: str, horizon: int | None, found: Interval | float, unit: str = ""
) -> Row:
    value, low, high = (
        (found.value, found.low, found.high) if isinstance(found, Interval) else (found, None, None)
    )
    return {
        "panel": panel,
        "kind": kind,
        "series": series,
        "horizon": horizon,
        "value": value,
        "low": low,
        "high": high,
        "unit": unit,
    }
