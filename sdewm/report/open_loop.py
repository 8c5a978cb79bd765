"""Open-loop accuracy over the horizon, with reference lines and growth metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdewm.base.checks import check_count
from sdewm.base.records import Row
from sdewm.data.recorded_episodes import Episodes
from sdewm.open_loop.bootstrap import episodes_needed
from sdewm.open_loop.predictions import open_loop
from sdewm.open_loop.table import CONSTANT, open_loop_rows
from sdewm.open_loop.training_rows import training_rows
from sdewm.plots.open_loop_plots import open_loop_accuracy
from sdewm.plots.tables import number_text, text_table
from sdewm.report.analysis import Analysis
from sdewm.report.subject import Subject

FEWEST = 4 * episodes_needed()  # the scored half is compared in pairs of unrelated episodes
SHOWN = ("growth_rate", "saturation_level", "saturation_time", "predictability_horizon")


@dataclass(frozen=True)
class Settings:
    """Open-loop accuracy: rollouts of the prior under recorded actions, compared with the records.

    The first half of the episodes, each of at least context + horizon rows, provides the reference
    data of the metrics (probe, mean, scale, ceiling). The second half is scored.
    """

    episodes: int | None = None
    """Number of recorded episodes; None uses all."""
    context: int = 20
    """Number of rows observed before the rollout."""
    horizon: int = 50
    """Number of predicted policy_steps."""
    samples: int = 19
    """Number of rollouts from each observed context."""
    theta: float = 0.5
    """Fraction of the ceiling, the error of random rows, that ends the predictability horizon."""

    @property
    def window(self) -> int:
        """Number of rows of each window."""
        return self.context + self.horizon


def check(subject: Subject, settings: Settings, seed: int) -> Episodes:
    """The episodes, after a check of all settings."""
    check_count("context", settings.context)
    check_count("horizon", settings.horizon)
    check_count("samples", settings.samples, minimum=2)
    return subject.episodes(settings.window, settings.episodes, seed, FEWEST)


def rows(subject: Subject, settings: Settings, seed: int) -> list[Row]:
    """Curves, reference lines and growth metrics of all panels."""
    episodes = check(subject, settings, seed)
    fitted, scored = halves(episodes)
    found = open_loop(
        subject.model,
        scored,
        context=settings.context,
        horizon=settings.horizon,
        samples=settings.samples,
        seed=seed,
    )
    reference = subject.source.whole(len(fitted.rewards), settings.window, seed)
    training = training_rows(subject.model, reference, seed=seed)
    return open_loop_rows(found, training, theta=settings.theta, seed=seed)


def halves(episodes: Episodes) -> tuple[Episodes, Episodes]:
    """The first and the second half of the episodes."""
    middle = len(episodes.rewards) // 2
    parts = (slice(0, middle), slice(middle, None))
    first, second = (
        Episodes(
            episodes.observations[part], episodes.previous_actions[part], episodes.rewards[part]
        )
        for part in parts
    )
    return first, second


def summary(found: Sequence[Any]) -> str:
    """Errors after the first and the last step, and growth metrics, with intervals."""
    last = max(row["horizon"] for row in found if row["horizon"] is not None)
    lines = []
    for panel in dict.fromkeys(row["panel"] for row in found if row["kind"] == "curve"):
        own = {(row["series"], row["horizon"]): row for row in found if row["panel"] == panel}
        ends = [_interval(own["model", horizon]) for horizon in (1, last)]
        growth = [_interval(own[name, None]) if (name, None) in own else "–" for name in SHOWN]
        lines.append([panel, *ends, *growth])
    header = ["metric", "k = 1", f"k = {last:g}", *(name.replace("_", " ") for name in SHOWN)]
    left_out = [
        f"Left out: {row['series']} that are {row['unit']}."
        for row in found
        if row["series"] == CONSTANT
    ]
    return "\n".join([text_table(header, lines), *left_out])


def _interval(row: Any) -> str:
    value, low, high = (number_text(row[name], 3) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


ANALYSIS = Analysis(
    "fig_open_loop",
    "How accurate are predictions over the horizon, compared with baselines?",
    Settings,
    check,
    rows,
    open_loop_accuracy,
    summary,
    {"observations": "decoder", "rewards": "reward", "latent KL": "kl"},
)
