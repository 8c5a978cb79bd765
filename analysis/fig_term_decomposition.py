"""Stacked terms of c1 and c2 for same and independent driver, zero and nonzero error drift."""

from __future__ import annotations

from functools import partial
from typing import Any

import sdewm
from sdewm.base.stats import Estimate
from sdewm.plots.expansion_plots import term_decomposition
from sdewm.scripts.theory_figure import FigureScript
from sdewm.sde import examples

DEFAULTS = {"system": "CircleDiffusion", "paths": 100_000, "steps": 16}
SIZE = 0.05  # at which E L is measured for the points
FACTORS = {  # what each term contributes to the coefficient: (coefficient, term, factor)
    "P": ("c1", "P", 1.0),
    "P_drift": ("c1", "P_drift", 1.0),
    "Q": ("c2", "Q", 1.0),
    "half_S": ("c2", "S", 0.5),
    "Q_drift": ("c2", "Q_drift", 1.0),
    "S_cross": ("c2", "S_cross", 1.0),
    "half_S_drift": ("c2", "S_drift", 0.5),
}


def measure(options: Any) -> list[dict[str, Any]]:
    """Expand with the same and an independent driver, without and with drift."""
    rows: list[dict[str, Any]] = []
    for driver in ("same", "independent"):
        for drift in (False, True):
            if drift and options.case.error_drift is None:
                continue
            rows += _case(options, driver, drift)
    return rows


def _case(options: Any, driver: str, drift: bool) -> list[dict[str, Any]]:
    case = options.case
    diffusion = case.error_diffusion
    if driver == "independent":
        diffusion = getattr(case, "independent_error_diffusion", diffusion)
    result = sdewm.expand(
        case,
        sdewm.Perturbation(
            drift=case.error_drift if drift else None, diffusion=diffusion, driver=driver
        ),
        case.loss,
        case.x0,
        t1=case.t1,
        steps=options.steps,
        paths=options.paths,
        seed=options.seed,
        device=options.device,
    )
    series = driver if drift else f"{driver}_zero_drift"
    rows = []
    for name, (coefficient, term, factor) in FACTORS.items():
        estimate = result.terms[term]
        rows.append(_row(coefficient, series, name, estimate, factor))
    plus, minus = (row.remainder for row in result.measure([SIZE, -SIZE]))
    for coefficient, sign, power in (("c1", -1.0, 1), ("c2", 1.0, 2)):
        # The part of E L on coupled paths is the coefficient plus that part of the remainder.
        change = (plus.value + sign * minus.value) / (2 * SIZE**power)
        term = result.terms[coefficient]
        rows.append(_row(coefficient, series, "predicted", term, 1.0))
        total = Estimate(term.value + change, term.standard_error)
        rows.append(_row(coefficient, series, "measured", total, 1.0))
    return rows


def _row(
    coefficient: str, series: str, term: str, estimate: Estimate, factor: float
) -> dict[str, Any]:
    return {
        "coefficient": coefficient,
        "series": series,
        "term": term,
        "value": factor * estimate.value,
        "standard_error": factor * estimate.standard_error,
    }


SCRIPT = FigureScript(
    "fig_term_decomposition",
    examples,
    DEFAULTS,
    measure,
    term_decomposition,
    panels=lambda options: 2,
)
main = partial(SCRIPT.run, __doc__ or "")

if __name__ == "__main__":
    main()
