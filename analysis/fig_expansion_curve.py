"""E L(x^ε) measured on coupled paths, and the expansion with and without each correction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

import sdewm
from sdewm.base.stats import Estimate
from sdewm.plots.expansion_plots import expansion_curve
from sdewm.scripts.theory_figure import read_options, write_figure
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, compare and plot."""
    options = read_options(__doc__ or "", examples, DEFAULTS, arguments)
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
    corrections = {"first_order": (0.0, -terms["c2"])}  # added to (c1, c2)
    if terms["S_drift"] != 0.0:
        corrections["without_half_S_drift"] = (0.0, -0.5 * terms["S_drift"])
    if options.driver == "same":
        correction = ito_correction(case, error)
        start = case.x0.repeat(2, 1)
        if correction(torch.zeros((), dtype=start.dtype), start).abs().max() > 0:
            dropped = expand(sdewm.Perturbation(drift=correction)).terms["P_drift"].value
            corrections["without_ito_correction"] = (dropped, 0.0)
    curvature = terms["Q"] + terms["Q_drift"]
    if _is_clear(result.terms["Q"]) or _is_clear(result.terms["Q_drift"]):
        corrections["without_Q"] = (0.0, -curvature)
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
        for size in np.linspace(SIZES[0], SIZES[-1], 61).round(6).tolist():
            full = terms["c0"] + size * terms["c1"] + size**2 * terms["c2"]
            difference = size * first + size**2 * second
            rows.append(
                {
                    "series": name,
                    "epsilon": size,
                    "loss": full + difference,
                    "loss_error": 0.0,
                    "difference": difference,
                    "difference_error": 0.0,
                }
            )
    title = f"{options.system}, {options.driver} driver, {options.paths} paths"
    write_figure(expansion_curve(rows, title), rows, options, "fig_expansion_curve")


def _is_clear(estimate: Estimate) -> bool:
    return abs(estimate.value) > 5 * estimate.standard_error


if __name__ == "__main__":
    main()
