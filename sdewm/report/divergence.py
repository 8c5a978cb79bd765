"""Divergence of imagination from a perturbed initial latent, its bounds, and the bias of values.

Every row has the columns panel, kind, series, horizon (step k), epsilon (scale of the error),
value, standard_error (over episodes), label and episodes (their number). The label of a bound is
"certificate", "estimate" or "recalled"; that of an order is its verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdewm.base.checks import check_count
from sdewm.base.records import Row
from sdewm.base.stats import Estimate
from sdewm.data.recorded_episodes import Episodes
from sdewm.latent_sde.inputs import LatentPolicy
from sdewm.latent_sde.losses import value
from sdewm.model_theorems.divergence import ModelDivergence, diverge_on_model
from sdewm.model_theorems.value_bias import ModelValueBias, second_order_reach, value_bias_on_model
from sdewm.plots.model_divergence_plots import model_divergence
from sdewm.plots.tables import estimate_text, text_table
from sdewm.report.analysis import Analysis, PerturbedSettings, order_estimate, with_episodes
from sdewm.report.subject import Subject
from sdewm.theory.bounds.rollout_bounds import ENCLOSURE
from sdewm.theory.curve import NORMS, Curve
from sdewm.theory.flow.error_enclosure import NoEnclosure
from sdewm.theory.remainder_order import RemainderOrder

NEEDED_PANEL = "policy in the loop"
VALUE_SCALES = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
ORDER_SCALES = (0.125, 0.0625, 0.03125, 0.015625)


@dataclass(frozen=True)
class Settings(PerturbedSettings):
    """Divergence of imagination from a perturbed initial latent, with bounds and value bias."""

    horizon: int = 50
    """Number of imagined policy_steps."""
    episodes: int | None = 6
    """Number of recorded episodes; None uses all, but the bounds of each take long."""
    slow_bounds: bool = True
    """Whether to compute the bounds that take minutes per episode for large errors (enclosures)
    and those in weighted norms."""

    @property
    def window(self) -> int:
        """Number of rows of each window."""
        return self.start + 1 + self.horizon


def check(subject: Subject, settings: Settings, seed: int) -> Episodes:
    """The episodes, after a check of all settings."""
    check_count("horizon", settings.horizon)
    perturbation = settings.checked_perturbation()
    if subject.part("critic") is not None:
        settings.check_pairs()
    found = subject.episodes(settings.window, settings.episodes, seed)
    return subject.perturbable(found, perturbation)


def rows(subject: Subject, settings: Settings, seed: int) -> list[Row]:
    """Divergence and bounds under recorded actions and, if subject, the policy; value bias."""
    episodes = check(subject, settings, seed)
    perturbation = settings.checked_perturbation()
    grid: dict[str, Any] = {
        **{name: getattr(settings, name) for name in ("start", "horizon", "copies", "paths")},
        "seed": seed,
    }
    model, policy, critic = subject.model, *map(subject.part, ("policy", "critic"))
    found: list[Row] = []
    grades = "all" if settings.slow_bounds else None
    policies: dict[str, LatentPolicy | None] = {"recorded actions": None}
    if policy is not None:
        policies[NEEDED_PANEL] = policy
    for panel, actor in policies.items():
        given = {"policy": actor, **grid}
        distances = diverge_on_model(model, episodes, perturbation, grades=grades, **given)
        found += divergence_rows(panel, distances)
        if critic is not None:
            bias = value_bias_on_model(model, episodes, perturbation, value, **given)
            found += value_rows(panel, bias)
            found += enclosed_rows(panel, bias) if settings.slow_bounds else []
    return with_episodes(found, episodes)


def summary(found: Sequence[Any]) -> str:
    """Distances at the first and last step, ranges, value bias, and the bounds left out."""
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
    return text_table(["panel", "quantity", "value", "label"], lines)


def divergence_rows(panel: str, found: ModelDivergence) -> list[Row]:
    """Rows of a divergence: norms by step, quantiles, remainders, ranges and constants.

    The kinds are the NORMS (series "measured", "prediction", the grades and, with an enclosure,
    "measured on its paths"), "quantile" (series: level in percent), "remainder" ("first", "second",
    "bend"), "ratio" (prediction over measured at each epsilon), "size" (E|e|), "range" ("stated",
    "measured"), "constant" (series "grade: name") and "left out" (series: the grade, label: the
    reason).
    """
    rows: list[Row] = []
    for norm in NORMS:
        rows += _curve(panel, norm, "measured", found[norm])
        rows += _curve(panel, norm, "prediction", found.prediction[norm])
        for grade, bound in found.bounds.items():
            if norm in bound.curves:
                rows += _curve(panel, norm, grade, bound[norm], label=bound.kind)
        if ENCLOSURE in found.bounds:
            rows += _curve(panel, norm, "measured on its paths", found.enclosed[norm])
    for level, curve in found.quantiles.items():
        rows += _curve(panel, "quantile", f"{100 * level:g} %", curve)
    for name, curve in found.remainders.items():
        rows += _curve(panel, "remainder", name, curve)
    for scale, curve in found.ratios.items():
        rows += _curve(panel, "ratio", "prediction", curve, epsilon=scale)
    rows.append(_row(panel, "size", "error", found.error_size, label=found.label))
    for name in ("stated", "measured"):
        reach = getattr(found, f"{name}_range")
        rows.append(_row(panel, "range", name, Estimate(reach, 0.0)))
    for grade, bound in found.bounds.items():
        for name, number in bound.constants.items():
            rows.append(_row(panel, "constant", f"{grade}: {name}", Estimate(number, 0.0)))
    for grade, reason in found.left_out.items():
        rows.append(_row(panel, "left out", grade, None, label=reason))
    return rows


def value_rows(
    panel: str,
    found: ModelValueBias,
    scales: Sequence[float] = VALUE_SCALES,
    order_scales: Sequence[float] = ORDER_SCALES,
) -> list[Row]:
    """Rows of a value bias: the bias of Q by scale, its terms, and the order of its remainder.

    The kinds are "bias" (series "measured", "first", "second"), "bias remainder" ("mean",
    "absolute"), "bias term", "bias order", and "bias range", the scale up to which the second order
    is within a tenth of the measured bias.
    """
    rows: list[Row] = []
    terms, measured = found.expansion.terms, found.expansion.measure(scales)
    for row in measured:
        first = Estimate(
            row.scale * terms["first"].value, row.scale * terms["first"].standard_error
        )
        series = {"measured": row.measured, "first": first, "second": row.predicted}
        rows += [_row(panel, "bias", n, e, epsilon=row.scale) for n, e in series.items()]
        sizes = {"mean": row.remainder, "absolute": row.absolute_remainder}
        rows += [_row(panel, "bias remainder", n, e, epsilon=row.scale) for n, e in sizes.items()]
    rows += [_row(panel, "bias term", name, terms[name]) for name in terms]
    order = found.expansion.order(order_scales)
    rows.append(order_row(panel, "bias order", "absolute", order, terms["first"].units))
    reach = Estimate(second_order_reach(measured), 0.0)
    rows.append(_row(panel, "bias range", "second", reach, label=found.label))
    return rows


def enclosed_rows(panel: str, found: ModelValueBias) -> list[Row]:
    """Rows of kind "value change": proven bounds on |Q(X_k(e)) − Q(X_k(0))|, and what is measured.

    The series are "enclosure", "measured on its paths" and "bias on its paths"; or there is one row
    of kind "left out", with the reason.
    """
    try:
        one = found.enclosed()
    except NoEnclosure as reason:
        return [_row(panel, "left out", "enclosure of the value", None, label=str(reason))]
    return [
        *_curve(panel, "value change", ENCLOSURE, one.bound, label=one.kind),
        *_curve(panel, "value change", "measured on its paths", one.change),
        *_curve(panel, "value change", "bias on its paths", one.bias),
    ]


def order_row(
    panel: str, kind: str, series: str, order: RemainderOrder, units: int | None = None
) -> Row:
    """A row with the fitted order, its error over `units` episodes; its label is the verdict."""
    return _row(panel, kind, series, order_estimate(order, units), label=str(order.verdict))


def _curve(
    panel: str,
    kind: str,
    series: str,
    curve: Curve,
    *,
    epsilon: float = 1.0,
    label: str | None = None,
) -> list[Row]:
    return [
        _row(panel, kind, series, curve.at(t), horizon=float(t), epsilon=epsilon, label=label)
        for t in curve.times
    ]


def _row(
    panel: str,
    kind: str,
    series: str,
    estimate: Estimate | None,
    *,
    horizon: float | None = None,
    epsilon: float | None = None,
    label: str | None = None,
) -> Row:
    value, error = (None, None)
    if estimate is not None:
        value, error = estimate.value, estimate.standard_error
    numbers = {"horizon": horizon, "epsilon": epsilon, "value": value, "standard_error": error}
    return {"panel": panel, "kind": kind, "series": series, **numbers, "label": label}


def _line(panel: str, quantity: str, row: Any) -> list[str]:
    what = " ".join(filter(None, [row["series"], row["label"]]))
    return [panel, quantity, estimate_text(row["value"], row["standard_error"]), what]


def _left_out(row: Any) -> bool:
    return row["kind"] == "left out"


ANALYSIS = Analysis(
    "fig_model_divergence",
    "How far does imagination from a wrong latent diverge, under every grade of "
    "bound, and how biased is the value?",
    Settings,
    check,
    rows,
    model_divergence,
    summary,
    {NEEDED_PANEL: "policy", "bias of the value": "critic"},
)
