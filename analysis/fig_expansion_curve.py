"""E L(x^ε) measured on coupled paths, and the expansion with and without each correction."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

import sdewm
from sdewm.base.stats import Estimate
from sdewm.plots.expansion_plots import expansion_curve
from sdewm.scripts.theory_figure import FigureScript
from sdewm.sde import examples
from sdewm.theory.expansion.perturbation import ito_correction

# Geometric Brownian motion: the one ready system in which every correction is large.
DEFAULTS = {
    "system": "GeometricBrownianMotion",
    "driver": "same",
    "paths": 100_000,
    "steps": 16,
}
SIZES = [round(size, 3) for size in np.linspace(-0.6, 0.6, 13).tolist()]


def measure(options: Any) -> list[dict[str, Any]]:
    """The loss on coupled paths, and the predictions with and without each correction."""
    case = options.case
    diffusion = case.error_diffusion
    if options.driver == "independent":
        diffusion = getattr(case, "independent_error_diffusion", diffusion)
    expand = partial(
        sdewm.expand,
        case,
        loss=case.loss,
        x0=case.x0,
        t1=case.t1,
        steps=options.steps,
        paths=options.paths,
        seed=options.seed,
        device=options.device,
    )
    error = sdewm.Perturbation(drift=case.error_drift, diffusion=diffusion, driver=options.driver)
    result = expand(error)
    terms = {name: term.value for name, term in result.terms.items()}
    errors = {name: term.standard_error for name, term in result.terms.items()}
    corrections = {"first_order": (0.0, -terms["c2"])}  # added to (c1, c2)
    doubt = {"first_order": (0.0, errors["c2"])}  # their standard errors
    if terms["S_drift"] != 0.0:
        corrections["without_half_S_drift"] = (0.0, -0.5 * terms["S_drift"])
        doubt["without_half_S_drift"] = (0.0, 0.5 * errors["S_drift"])
    if options.driver == "same":
        correction = ito_correction(case, error)
        start = case.x0.repeat(2, 1)
        if correction(torch.zeros((), dtype=start.dtype), start).abs().max() > 0:
            dropped = expand(sdewm.Perturbation(drift=correction)).terms["P_drift"]
            corrections["without_ito_correction"] = (dropped.value, 0.0)
            doubt["without_ito_correction"] = (dropped.standard_error, 0.0)
    curvature = terms["Q"] + terms["Q_drift"]
    if _is_clear(result.terms["Q"]) or _is_clear(result.terms["Q_drift"]):
        corrections["without_Q"] = (0.0, -curvature)
        doubt["without_Q"] = (0.0, errors["Q"] + errors["Q_drift"])
    rows = [
        {
            "series": "measured",
            "epsilon": row.epsilon,
            "loss": row.measured.value,
            "loss_error": row.measured.standard_error,
            "difference": row.remainder.value,
            "difference_error": row.remainder.standard_error,
        }
        for row in result.measure(SIZES)
    ]
    for name, (first, second) in {"full": (0.0, 0.0), **corrections}.items():
        one, two = doubt.get(name, (0.0, 0.0))
        for size in np.linspace(SIZES[0], SIZES[-1], 61).round(6).tolist():
            full = terms["c0"] + size * terms["c1"] + size**2 * terms["c2"]
            difference = size * first + size**2 * second
            error = abs(size) * one + size**2 * two
            rows.append(
                {
                    "series": name,
                    "epsilon": size,
                    "loss": full + difference,
                    "loss_error": result.predict(size).standard_error + error,
                    "difference": difference,
                    "difference_error": error,
                }
            )
    return rows


def _is_clear(estimate: Estimate) -> bool:
    return abs(estimate.value) > 5 * estimate.standard_error


SCRIPT = FigureScript(
    "fig_expansion_curve", examples, DEFAULTS, measure, expansion_curve, panels=lambda options: 2
)
main = partial(SCRIPT.run, __doc__ or "")

if __name__ == "__main__":
    main()
