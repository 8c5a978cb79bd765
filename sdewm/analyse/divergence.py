"""How far a wrong initial latent carries imagination: measured, bounded, and the bias of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdewm.analyse.subject import Part, PerturbedSettings, Subject
from sdewm.base.checks import check_count
from sdewm.base.records import Row
from sdewm.evaluate.divergence_rows import divergence_rows, value_rows
from sdewm.evaluate.model_divergence import diverge_on_model
from sdewm.evaluate.model_value import value_bias_on_model
from sdewm.latent_sde.losses import value
from sdewm.latent_sde.system import LatentSystem, mean_policy
from sdewm.plots.divergence_plots import model_divergence
from sdewm.plots.tables import estimate_text, text_table


@dataclass(frozen=True)
class Settings(PerturbedSettings):
    """Divergence: imagination from the clean state and from one that a wrong encoder gave."""

    horizon: int = 50
    """Policy steps imagined."""
    episodes: int | None = 6
    """Episodes; the bounds of each take long."""


def rows(subject: Subject, settings: Settings, seed: int) -> list[Row]:
    """Divergence and bounds under recorded actions and, if learnt, with policy and value."""
    check_count("horizon", settings.horizon)
    perturbation = settings.checked_perturbation()
    episodes = subject.episodes(settings.start + 1 + settings.horizon, settings.episodes, seed)
    grid: dict[str, Any] = {
        **{name: getattr(settings, name) for name in ("start", "horizon", "copies", "paths")},
        "seed": seed,
    }
    panel = "recorded actions"
    model, behaviour = subject.model, subject.agent.behaviour
    found = divergence_rows(panel, diverge_on_model(model, episodes, perturbation, **grid))
    if not subject.has_policy:
        return found

    def critic(system: LatentSystem) -> Any:
        return value(system, behaviour.critic)

    def biases(panel: str, **policy: Any) -> list[Row]:
        bias = value_bias_on_model(model, episodes, perturbation, critic, **policy, **grid)
        return value_rows(panel, bias)

    policy = mean_policy(behaviour.actor)
    closed = diverge_on_model(model, episodes, perturbation, policy=policy, **grid)
    panels = ("recorded actions", "policy in the loop")
    return [
        *found,
        *biases(panels[0]),
        *divergence_rows(panels[1], closed),
        *biases(panels[1], policy=policy),
    ]


def summary(found: Sequence[Any]) -> str:
    """The distance at the end, every bound of it, and the bias with its second order."""
    lines = []
    for panel in dict.fromkeys(row["panel"] for row in found):
        own = [row for row in found if row["panel"] == panel]
        end = max(row["horizon"] for row in own if row["kind"] == "mean")
        for row in own:
            if row["kind"] == "mean" and row["horizon"] in (0.0, end):
                lines.append(_line(panel, f"E|D| at k = {row['horizon']:g}", row))
        lines += [
            _line(panel, f"{row['kind']} ({row['series']})", row)
            for row in own
            if row["kind"] in ("range", "bias term", "bias order", "bias range")
        ]
        lines += [[panel, row["series"], "left out", row["label"]] for row in own if _left_out(row)]
    return text_table(["panel", "quantity", "value", "series"], lines)


def _line(panel: str, figure: str, row: Any) -> list[str]:
    what = " ".join(filter(None, [row["series"], row["label"]]))
    return [panel, figure, estimate_text(row["value"], row["standard_error"]), what]


def _left_out(row: Any) -> bool:
    return row["kind"] == "left out"


PART = Part("fig_model_divergence", Settings, rows, model_divergence, summary)
