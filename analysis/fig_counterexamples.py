"""Counterexamples to statements as recalled: R ≥ 0 for convex L, a missing term, L only C²."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import sdewm
from sdewm.base.stats import Estimate
from sdewm.plots.expansion_plots import counterexamples
from sdewm.scripts.theory_figure import FigureScript
from sdewm.sde import examples
from sdewm.theory.expansion.expand import Expansion

DEFAULTS = {"system": "OrnsteinUhlenbeck", "paths": 100_000, "steps": 16}
SIZES = [0.1, 0.2, 0.3, 0.4, 0.5]
BOTH = [-0.6, -0.45, -0.3, -0.15, 0.15, 0.3, 0.45, 0.6]
Curve = Callable[[float], float]


def measure(options: Any) -> list[dict[str, Any]]:
    """The four cases."""
    rows: list[dict[str, Any]] = []
    for panel, case in (
        ("sign", examples.CurvatureCounterexample()),
        ("cascade", examples.QuadraticCascade()),
    ):
        result = _expand(options, case, drift=False)
        rows += _change(panel, result, SIZES, first_order=True)
        rows += _square(panel, "second_order", [0.0, *SIZES], result.terms["c2"])
        rows += _square(panel, "half_S", [0.0, *SIZES], _scaled(0.5, result.terms["S"]))
    result = _expand(options, options.case, drift=True)
    c2, lost = result.terms["c2"], _scaled(0.5, result.terms["S_drift"])
    rest = Estimate(c2.value - lost.value, c2.standard_error + lost.standard_error)
    rows += _change("dropped", result, BOTH, first_order=False)
    dense = [size / 20 for size in range(-12, 13)]
    rows += _square("dropped", "c2", dense, c2)
    rows += _square("dropped", "without_half_S_drift", dense, rest)
    return rows + _regularity(options)


def _scaled(factor: float, estimate: Estimate) -> Estimate:
    return Estimate(factor * estimate.value, factor * estimate.standard_error)


def _expand(options: Any, case: Any, drift: bool) -> Expansion:
    diffusion = getattr(case, "independent_error_diffusion", case.error_diffusion)
    error = sdewm.Perturbation(
        drift=case.error_drift if drift else None, diffusion=diffusion, driver="independent"
    )
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
    )


def _change(
    panel: str, result: Expansion, sizes: list[float], first_order: bool
) -> list[dict[str, Any]]:
    """R(ε), or R(ε) − ε c1: on coupled paths the sum of the terms and the remainder.

    The standard errors are added, an upper bound.
    """
    c1, c2 = result.terms["c1"], result.terms["c2"]
    rows = []
    for row in result.measure(sizes):
        assert isinstance(row.epsilon, float)
        size = row.epsilon
        value = size**2 * c2.value + row.remainder.value
        error = size**2 * c2.standard_error + row.remainder.standard_error
        if first_order:
            value += size * c1.value
            error += abs(size) * c1.standard_error
        rows.append(_row(panel, "measured", size, value, error))
    return rows


def _regularity(options: Any) -> list[dict[str, Any]]:
    case = examples.RegularityCounterexample()
    sizes = [0.025, 0.05, 0.1, 0.2, 0.4]
    rows = [
        _row("regularity", "measured", row.epsilon, row.measured.value, row.measured.standard_error)
        for row in _expand(options, case, drift=False).measure(sizes)
    ]
    rows += _curve("regularity", "exact", sizes, case.exact_loss)
    last = case.exact_loss(sizes[-1]) / sizes[-1] ** 3
    return rows + _curve("regularity", "cubic", sizes, lambda e: last * e**3)


def _square(panel: str, series: str, sizes: list[float], term: Estimate) -> list[dict[str, Any]]:
    """ε² times a term; for a range that begins at 0 at 21 sizes in it."""
    if sizes[0] == 0.0:
        sizes = [sizes[-1] * k / 20 for k in range(21)]
    return [
        _row(panel, series, size, term.value * size**2, term.standard_error * size**2)
        for size in sizes
    ]


def _curve(panel: str, series: str, sizes: list[float], curve: Curve) -> list[dict[str, Any]]:
    return [_row(panel, series, size, curve(size), 0.0) for size in sizes]


def _row(panel: str, series: str, size: Any, value: float, error: float) -> dict[str, Any]:
    return {
        "panel": panel,
        "series": series,
        "epsilon": size,
        "value": value,
        "standard_error": error,
    }


SCRIPT = FigureScript(
    "fig_counterexamples", examples, DEFAULTS, measure, counterexamples, panels=lambda options: 4
)
main = partial(SCRIPT.run, __doc__ or "")

if __name__ == "__main__":
    main()
