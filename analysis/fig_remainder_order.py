"""Remainder of the expansion against ε, with all terms and with one term omitted."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import sdewm
from sdewm.plots.remainder_plots import remainder_order
from sdewm.scripts.theory_figure import FigureScript
from sdewm.sde import examples
from sdewm.theory.expansion.expand import Expansion

# Two-point increments, all sign patterns: the remainder at order 4 is far below any sampling error.
DEFAULTS = {
    "system": "EnumerationWorldModel",
    "paths": 100_000,
    "steps": 3,
}
LARGEST_EXPONENT = 18  # sign patterns are enumerated up to 2^18, else sampled
SIZES = [0.2, 0.1, 0.05, 0.025]


def measure(options: Any) -> list[dict[str, Any]]:
    """The remainders and their slopes."""
    rows: list[dict[str, Any]] = []
    for driver in ("same", "independent"):
        for drift in (True, False):
            if drift and options.case.error_drift is None:
                continue
            result = _expand(options, driver, drift)
            measured = result.measure(SIZES)
            name = driver if drift else f"{driver}_zero_drift"
            values = [row.remainder.value for row in measured]
            errors = [row.remainder.standard_error for row in measured]
            rows += _rows(
                "full", name, values, errors, 4 if name.endswith("dent_zero_drift") else 3
            )
            if driver == "same" and (drift or options.case.error_drift is None):
                rows += _dropped(result, values, errors)
    return rows


def _expand(options: Any, driver: str, drift: bool) -> Expansion:
    case = options.case
    diffusion = case.error_diffusion
    if driver == "independent":
        diffusion = getattr(case, "independent_error_diffusion", diffusion)
    error = sdewm.Perturbation(
        drift=case.error_drift if drift else None, diffusion=diffusion, driver=driver
    )
    y = case.x0.reshape(1, -1)
    count = [
        value.shape[-1] for value in (case.g(y.new_zeros(()), y), diffusion(y.new_zeros(()), y))
    ]
    drivers = count[0] if driver == "same" else sum(count)
    enumerated = drivers * options.steps <= LARGEST_EXPONENT
    return sdewm.expand(
        case,
        error,
        case.loss,
        case.x0,
        t1=case.t1,
        steps=options.steps,
        paths=options.paths,
        seed=options.seed,
        device=options.device,
        increments="enumerate" if enumerated else "gaussian",
    )


def _dropped(result: Expansion, values: list[float], errors: list[float]) -> list[dict[str, Any]]:
    """The remainders of a prediction that lacks ½ S_drift or P."""
    terms = {name: term.value for name, term in result.terms.items()}
    rows = []
    for name, power, lost in (
        ("without_half_S_drift", 2, 0.5 * terms["S_drift"]),
        ("without_P", 1, terms["P"]),
    ):
        if lost != 0.0:
            larger = [v + size**power * lost for v, size in zip(values, SIZES, strict=True)]
            rows += _rows("dropped", name, larger, errors, power)
    return rows


def _rows(
    panel: str, series: str, values: list[float], errors: list[float], reference: int
) -> list[dict[str, Any]]:
    logs = np.log(np.abs(values[-3:]))
    slope = float(np.polyfit(np.log(SIZES[-3:]), logs, 1)[0])
    return [
        {
            "panel": panel,
            "series": series,
            "epsilon": size,
            "remainder": abs(value),
            "standard_error": error,
            "slope": slope,
            "reference": reference,
        }
        for size, value, error in zip(SIZES, values, errors, strict=True)
    ]


SCRIPT = FigureScript(
    "fig_remainder_order", examples, DEFAULTS, measure, remainder_order, panels=lambda options: 2
)
main = partial(SCRIPT.run, __doc__ or "")

if __name__ == "__main__":
    main()
