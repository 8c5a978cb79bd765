"""What was found of rollouts, values and remainders on a model, as rows of a table.

Every row has the columns panel, kind, series, horizon (step k), epsilon (scale of the error),
value, standard_error (over episodes) and label: of a bound "certificate", "estimate" or
"recalled"; of an order its verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdewm.base.records import Row
from sdewm.base.stats import Estimate
from sdewm.model_theorems.divergence import ModelDivergence
from sdewm.model_theorems.value_bias import ModelValueBias, second_order_reach
from sdewm.theory.curve import NORMS, Curve
from sdewm.theory.order import RemainderOrder

VALUE_SCALES = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
ORDER_SCALES = (0.125, 0.0625, 0.03125, 0.015625)


def divergence_rows(panel: str, found: ModelDivergence) -> list[Row]:
    """The norms measured, predicted and bounded by step, quantiles, remainders, ranges, constants.

    Kinds: the NORMS (series "measured", "prediction" and the grades), "quantile" (series its
    level in percent), "remainder" ("first", "second", "bend"), "ratio" (prediction over measured
    at each epsilon), "size" (E|e|), "range" ("stated", "measured"), "constant" (series
    "grade: name") and "left out" (series the grade, label why).
    """
    rows: list[Row] = []
    for norm in NORMS:
        rows += _curve(panel, norm, "measured", found[norm])
        rows += _curve(panel, norm, "prediction", found.prediction[norm])
        for grade, bound in found.bounds.items():
            if norm in bound.curves:
                rows += _curve(panel, norm, grade, bound[norm], label=bound.kind)
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
    """The bias of Q by scale, its terms, the order of its remainder, and how far it reaches.

    Kinds: "bias" (series "measured", "first", "second"), "bias remainder" ("mean", "absolute"),
    "bias term", "bias order", and "bias range", up to which second order is within a tenth.
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
    rows.append(order_row(panel, "bias order", "absolute", found.expansion.order(order_scales)))
    reach = Estimate(second_order_reach(measured), 0.0)
    rows.append(_row(panel, "bias range", "second", reach, label=found.label))
    return rows


def order_row(panel: str, kind: str, series: str, order: RemainderOrder) -> Row:
    """The slope, and the verdict as label."""
    return _row(panel, kind, series, Estimate(order.slope, 0.0), label=str(order.verdict))


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
