"""Bias of Q due to an error in the initial state: measured, first and second order, remainders."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch

import sdewm
from sdewm.base.stats import Estimate
from sdewm.plots.value_plots import value_expansion
from sdewm.scripts.theory_figure import FigureScript
from sdewm.sde import examples
from sdewm.theory.flow.value_expansion import ValueExpansion, ValueRow

DEFAULTS = {"system": "CubicFlow", "paths": 8_000, "steps": 16}
BESIDE = ("TanhWorldModel", "CubicFlow")  # the first that is not the system chosen is drawn beside
SIZES = [round(size, 3) for size in np.linspace(-0.6, 0.6, 13).tolist()]
SCALES = [0.2, 0.1, 0.05, 0.025]
RARE = [0.08, 0.02, 0.005, 0.00125]
Key = tuple[str, str, str]  # panel, system, series
ROUNDING = 1e-14  # remainders below this, relative to 1 + |value|, are not drawn


def measure(options: Any) -> list[dict[str, Any]]:
    """The bias of two systems, its remainders, and those of two laws of the error."""
    rows: list[dict[str, Any]] = []
    remainders: list[dict[str, Any]] = []
    compared = next(name for name in BESIDE if name != options.system)
    for name, case in (
        (options.system, options.case),
        (compared, getattr(examples, compared)()),
    ):
        result = _expand(options, case)
        measured = result.measure([*SIZES, *SCALES, *RARE])
        rows += _bias(name, result, measured[: len(SIZES)])
        remainders += _orders(name, result, measured[len(SIZES) : -len(RARE)])
        if case is options.case:
            for law, some, order in (
                ("scaled", measured[-len(RARE) :], 3),
                ("rare", result.measure(RARE, "rare"), 1),
            ):
                kept = [(row.scale, row.absolute_remainder) for row in some]
                remainders += _remainders(("law", name, law), result, kept, order)
    return rows + remainders


def _expand(options: Any, case: Any) -> ValueExpansion:
    """With e = e_1 = (v + ξ/2)/c: v of equal components, |v| = 1, ξ normal, E|e_1| = 1."""
    size = case.x0.shape[-1]
    generator = torch.Generator().manual_seed(options.seed)
    normal = torch.randn(options.paths, size, dtype=torch.float64, generator=generator)
    error = (1.0 + 0.5 * normal) / size**0.5
    return sdewm.value_expansion(
        case,
        case.loss,
        case.x0,
        error / error.norm(dim=1).mean(),
        t1=case.t1,
        steps=options.steps,
        paths=options.paths,
        seed=options.seed,
        device=options.device,
    )


def _bias(name: str, result: ValueExpansion, measured: list[ValueRow]) -> list[dict[str, Any]]:
    """Of second order the standard errors of both terms are added, an upper bound."""
    rows = [_row(("bias", name, "measured"), row.scale, row.measured) for row in measured]
    first, second = result.terms["first"], result.terms["second"]
    for series, curvature in (("first", Estimate(0.0, 0.0)), ("second", second)):
        for size in np.linspace(SIZES[0], SIZES[-1], 49).round(6).tolist():
            value = size * first.value + size**2 * curvature.value
            error = abs(size) * first.standard_error + size**2 * curvature.standard_error
            rows.append(_row(("bias", name, series), size, Estimate(value, error)))
    return rows


def _orders(name: str, result: ValueExpansion, measured: list[ValueRow]) -> list[dict[str, Any]]:
    """Both orders kept: the mean absolute remainder; the second dropped: the mean remainder."""
    kept = [(row.scale, row.absolute_remainder) for row in measured]
    second = result.terms["second"].value
    lost = [
        (
            row.scale,
            Estimate(row.remainder.value + row.scale**2 * second, row.remainder.standard_error),
        )
        for row in measured
    ]
    rows = _remainders(("order", name, "both_orders"), result, kept, 3)
    return rows + _remainders(("order", name, "first_order"), result, lost, 2)


def _remainders(
    key: Key,
    result: ValueExpansion,
    remainders: list[tuple[float, Estimate]],
    reference: int,
) -> list[dict[str, Any]]:
    """One row per remainder; none where they are rounding errors, as for a linear system."""
    sizes, values = zip(*((size, abs(rest.value)) for size, rest in remainders), strict=True)
    if min(values) <= ROUNDING * (1.0 + abs(result.terms["value"].value)):
        return []
    slope = float(np.polyfit(np.log(sizes[-3:]), np.log(values[-3:]), 1)[0])
    return [
        _row(key, size, Estimate(abs(rest.value), rest.standard_error), slope, reference)
        for size, rest in remainders
    ]


def _row(
    key: Key,
    size: float,
    estimate: Estimate,
    slope: float = math.nan,
    reference: int = 0,
) -> dict[str, Any]:
    return {
        **dict(zip(("panel", "system", "series"), key, strict=True)),
        "size": size,
        "value": estimate.value,
        "standard_error": estimate.standard_error,
        "slope": slope,
        "reference": reference,
    }


SCRIPT = FigureScript(
    "fig_value_expansion", examples, DEFAULTS, measure, value_expansion, panels=lambda options: 4
)
main = partial(SCRIPT.run, __doc__ or "")

if __name__ == "__main__":
    main()
