"""The table of open-loop accuracy: every metric against the horizon, and its growth metrics."""

from __future__ import annotations

import numpy as np

from sdewm.base.progress import Progress
from sdewm.base.records import Row
from sdewm.open_loop.bootstrap import RESAMPLES, Interval, episode_bootstrap, episodes_needed
from sdewm.open_loop.effective_rank import effective_rank
from sdewm.open_loop.error_growth import horizon_growth
from sdewm.open_loop.metrics import open_loop_metrics
from sdewm.open_loop.physical_states import constant_components, coverage_level
from sdewm.open_loop.predictions import OpenLoop
from sdewm.open_loop.scoring import Measured
from sdewm.open_loop.training_rows import TrainingRows

STEPS, PER_STEP = "policy_steps", "1/policy_step"
CONSTANT = "components of the physical state"  # series of the row that says which are left out
RANK_RESAMPLES = 200  # few, because each needs a singular value decomposition


def open_loop_rows(
    found: OpenLoop,
    training: TrainingRows,
    *,
    theta: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> list[Row]:
    """Curves, reference lines and growth metrics of all metrics, with 95 % intervals.

    Intervals are over episodes. Errors are those of single samples, averaged over samples, see
    `sdewm.open_loop.scoring`. Rows have the keys

        panel    the metric
        kind     "curve", "reference", "metric", "setting" or "left out"
        series   "model"; "copy_last", "data_mean", "one_step", "unrelated" (the same k of another
                 episode), "shuffled" (any step of any training episode: the ceiling),
                 "observed" (the probe on the row itself), "nominal"; a name of
                 `error_growth.GROWTH_METRICS` or "effective_rank"; the name of a setting; a field
                 of `Predictions` that was left out, or CONSTANT
        horizon  k in policy steps after the last observation, None for metrics and settings
        value, low, high
        unit     of the value; the reason why a field was left out

    Growth metrics are those of the mean error curve relative to the ceiling at each k. The
    ceiling is treated as known: the intervals do not include its sampling error. There are no
    growth metrics for PSNR, spread, coverage and CRPS, nor where the ceiling is 0 at some k
    (constant rewards). For SSIM they are those of 1 − SSIM. The effective rank is that of the
    posterior latents of the evaluated rows, sample 0.

    Args:
        found: result of `open_loop` on held-out episodes; at least 8, because "unrelated" compares
            pairs and intervals need 4 units.
        training: result of `training_rows` for the same model.
        theta: fraction of the ceiling that ends the predictability horizon.
        seed: seed of pairing and resampling.
        resamples: as in `episode_bootstrap`.

    Raises:
        ValueError: fewer than 8 episodes or 3 horizons, or as `open_loop_metrics`.
    """
    episodes, horizon = found.rewards.shape
    if episodes < 2 * episodes_needed():
        raise ValueError(
            f"episodes: E = {episodes}; expected at least {2 * episodes_needed()}, because "
            "unrelated episodes are compared in pairs."
        )
    if (there := training.rewards.shape[1]) < horizon:
        raise ValueError(f"training episodes of {there} rows: expected at least H = {horizon}.")
    metrics = open_loop_metrics(found, training, seed=seed)
    settings = {
        "context": found.context,
        "episodes": episodes,
        "samples": len(found.latents),
        "theta": theta,
        "coverage_level": coverage_level(len(found.latents)),
    }
    rows = [_row("settings", "setting", name, None, value) for name, value in settings.items()]
    rows += [
        _row("left out", "left out", name, None, None, reason)
        for name, reason in found.left_out.items()
    ]
    if (still := constant_components(training)).any():
        which = ", ".join(map(str, np.flatnonzero(still)))
        reason = f"constant in the reference episodes: components {which} of the observations"
        rows.append(_row("left out", "left out", CONSTANT, None, None, reason))
    progress = Progress("intervals", len(metrics))
    try:
        for done, metric in enumerate(metrics, start=1):
            rows += _curves(metric, seed, resamples)
            rows += _growth_metrics(metric, theta, seed, resamples)
            progress.update(done, metric.panel)
    finally:
        progress.close()
    return [*rows, _rank(found, seed)]


def _curves(metric: Measured, seed: int, resamples: int) -> list[Row]:
    """The model's curve and the reference lines, with an interval at each k."""
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


def _growth_metrics(metric: Measured, theta: float, seed: int, resamples: int) -> list[Row]:
    """Growth metrics; no rows where they are not defined."""
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
    panel: str,
    kind: str,
    series: str,
    horizon: int | None,
    found: Interval | float | None,
    unit: str = "",
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
