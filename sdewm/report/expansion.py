"""Change of a model's losses under its encoder's error: measured and predicted (S2, S4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.base.records import Row
from sdewm.base.stats import Estimate
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.losses import reconstruction_loss, reward_loss, value
from sdewm.latent_sde.system import LatentSystem
from sdewm.model_theorems.expansion import MakeLoss, ModelExpansion, expand_on_model
from sdewm.model_theorems.value_bias import SECOND_ORDER_WITHIN
from sdewm.plots.representation_error_plots import loss_changes
from sdewm.plots.tables import estimate_text, text_table
from sdewm.report.analysis import Analysis, PerturbedSettings, order_estimate, with_episodes
from sdewm.report.subject import Subject

SIZES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
ORDER_SIZES = (0.2, 0.1, 0.05)
REPORTED_TERMS = ("c0", "P", "Q", "S", "P_drift", "Q_drift", "S_cross", "S_drift", "c1", "c2")
FORMS = ("encoder", "measured")
NEEDS = {"reconstruction loss": "decoder", "reward error": "reward", "value": "critic"}


@dataclass(frozen=True)
class Settings(PerturbedSettings):
    """Expansion of the losses in the encoder's error: observations are perturbed after row `start`.

    The loss is taken `horizon` policy_steps later, and the error is scaled from 0 to 1.
    """

    horizon: int = 10
    """Number of perturbed policy_steps, from row `start` to the loss."""
    episodes: int | None = None
    """Number of recorded episodes; None uses all."""

    @property
    def window(self) -> int:
        """Number of rows of each window."""
        return self.start + 1 + self.horizon


def check(subject: Subject, settings: Settings, seed: int) -> Episodes:
    """The episodes, after a check of all settings."""
    check_count("horizon", settings.horizon)
    perturbation = settings.checked_perturbation()
    settings.check_pairs()
    found = subject.episodes(settings.window, settings.episodes, seed)
    return subject.perturbable(found, perturbation)


def rows(subject: Subject, settings: Settings, seed: int) -> list[Row]:
    """Rows for every loss of the model: reconstruction, reward error and value."""
    episodes = check(subject, settings, seed)
    perturbation = settings.checked_perturbation()
    found: list[Row] = []
    for name, make_loss in losses(subject).items():
        expansion = expand_on_model(
            subject.model,
            episodes,
            perturbation,
            make_loss,
            start=settings.start,
            horizon=settings.horizon,
            copies=settings.copies,
            paths=settings.paths,
            seed=seed,
        )
        found += rows_of(name, expansion)
    return with_episodes(found, episodes)


def losses(subject: Subject) -> dict[str, MakeLoss]:
    """The losses that are expanded, by name: those for which the model has a part."""

    def reconstruction(system: LatentSystem, observations: Tensor, rewards: Tensor) -> Any:
        return reconstruction_loss(system, observations)

    def reward(system: LatentSystem, observations: Tensor, rewards: Tensor) -> Any:
        return reward_loss(system, rewards)

    def critic(system: LatentSystem, observations: Tensor, rewards: Tensor) -> Any:
        return value(system)

    found: dict[str, MakeLoss] = {
        "reconstruction loss": reconstruction,
        "reward error": reward,
        "value": critic,
    }
    return {name: loss for name, loss in found.items() if subject.missing(NEEDS[name]) is None}


def rows_of(panel: str, found: ModelExpansion) -> list[Row]:
    """Changes of the loss against ε, remainders and their order, and terms of both expansions."""
    rows: list[Row] = []

    def add(
        kind: str, series: str, epsilon: float | None, estimate: Estimate, verdict: str = ""
    ) -> None:
        numbers = {"value": estimate.value, "standard_error": estimate.standard_error}
        place = {"panel": panel, "kind": kind, "series": series, "epsilon": epsilon}
        rows.append(place | numbers | {"verdict": verdict})

    for form in FORMS:
        expansion = getattr(found, form)
        for row in expansion.measure(SIZES):
            assert isinstance(row.epsilon, float)
            if form == "encoder":
                add("change", "measured, encoder", row.epsilon, row.change)
            add("change", f"predicted, {form}", row.epsilon, row.predicted_change)
            add("remainder", form, row.epsilon, row.remainder)
        for name in REPORTED_TERMS:
            add("term", f"{name}, {form}", None, expansion.terms[name])
        order = expansion.order(ORDER_SIZES)
        slope = order_estimate(order, expansion.terms["c1"].units)
        add("order", form, None, slope, order.verdict.outcome)
    return rows


def summary(found: Sequence[Any]) -> str:
    """Terms of each loss, the range of ε of the second order (`reach`), and the remainder order."""
    lines = []
    for panel in dict.fromkeys(str(row["panel"]) for row in found):
        mine = [row for row in found if row["panel"] == panel]
        for form in FORMS:
            terms = [_only(mine, "term", f"{name}, {form}") for name in ("c1", "c2")]
            order = _only(mine, "order", form)
            lines.append(
                [
                    panel,
                    form,
                    *(estimate_text(row["value"], row["standard_error"]) for row in terms),
                    # The measured form adds sampling noise, so this fraction is not identifiable.
                    f"{reach(mine):g}" if form == "encoder" else "–",
                    f"{estimate_text(order['value'], order['standard_error'])} {order['verdict']}",
                ]
            )
    header = ["loss", "form of error", "c1", "c2", "within 10 % up to ε", "remainder order"]
    return text_table(header, lines)


def reach(rows: Sequence[Any]) -> float:
    """The largest ε up to which the second order deviates by at most a tenth of its terms.

    The deviation is compared with (|ε c1| + |ε² c2|)/10, for the encoder's error. A fraction of
    ε c1 + ε² c2 would be meaningless where the two orders cancel.
    """
    first, second = (abs(_only(rows, "term", f"{c}, encoder")["value"]) for c in ("c1", "c2"))
    reached = 0.0
    for size in SIZES:
        change = _only(rows, "change", "measured, encoder", size)["value"]
        predicted = _only(rows, "change", "predicted, encoder", size)["value"]
        if abs(change - predicted) > SECOND_ORDER_WITHIN * (size * first + size**2 * second):
            break
        reached = size
    return reached


def _only(rows: Sequence[Any], kind: str, series: str, epsilon: float | None = None) -> Any:
    key = (kind, series, epsilon)
    (row,) = (row for row in rows if (row["kind"], row["series"], row["epsilon"]) == key)
    return row


ANALYSIS = Analysis(
    "fig_model_expansion",
    "How do losses and value change with ε, term by term, and of which order is the remainder?",
    Settings,
    check,
    rows,
    loss_changes,
    summary,
    NEEDS,
    all_need_parts=True,
)
