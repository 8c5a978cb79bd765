"""Growth of the fundamental matrix: measured, exact, bounded, and for scaled Jacobians."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import sdewm
from sdewm.plots.fundamental_matrix_plots import growth_of_matrix
from sdewm.scripts.theory_figure import FigureScript
from sdewm.sde import examples
from sdewm.sde.rates import ConstantJacobians

DEFAULTS = {"system": "LinearFlow", "paths": 2000, "steps": 120}
BESIDE = "TanhWorldModel"
LONGER = 4  # the horizon above is this multiple of the case's t1, that below is t1 itself
SCALES = (0.25, 0.4, 0.6, 0.8, 1.0)


class Scaled:
    """The step map x + f of unit step scaled by s, and the noise: s(f + x) − x and s g.

    The effect of a penalty on the Jacobian of a recurrent step; the relaxation −x is unchanged.
    """

    sde_type = "ito"

    def __init__(self, case: Any, scale: float) -> None:
        self.case, self.scale, self.noise_type = case, scale, case.noise_type

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, D)."""
        return self.scale * (self.case.f(t, y) + y) - y

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, D) or (B, D, M)."""
        return self.scale * self.case.g(t, y)


class ScaledAffine(Scaled):
    """The same for a system whose Jacobians are constant."""

    def jacobians(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A (D, D) and the A_k (M, D, D)."""
        drift, noise = self.case.jacobians()
        identity = torch.eye(len(drift), dtype=drift.dtype)
        return self.scale * (drift + identity) - identity, self.scale * noise


def measure(options: Any) -> list[dict[str, Any]]:
    """The matrix measured, exact and bounded, over the horizon and as the step is scaled."""
    cases = {options.system: options.case, BESIDE: getattr(examples, BESIDE)()}
    rows: list[dict[str, Any]] = []
    for column, (name, case) in enumerate(cases.items()):
        growth = _growth(case, case, options, LONGER)
        titles = {"column": column, "system": name}
        for row in _curves(growth):
            rows.append({"panel": "horizon", **titles, **row})
        make = ScaledAffine if isinstance(case, ConstantJacobians) else Scaled
        for scale in SCALES:
            scaled = make(case, scale)
            growth = _growth(scaled, case, options, 1)
            norm = scale * _jacobian_norm(case)
            for row in _curves(growth):
                if row["time"] == growth.times[-1] and row["quantity"] == "mean_square":
                    rows.append({"panel": "scaling", **titles, **row, "x": norm})
    return rows


def _growth(system: Any, case: Any, options: Any, times: int) -> Any:
    return sdewm.fundamental_matrix(
        system,
        case.x0,
        t1=times * case.t1,
        steps=max(1, options.steps * times // LONGER),
        paths=max(2, options.paths * times // LONGER),
        seed=options.seed,
        device=options.device,
    )


def _curves(growth: Any) -> Iterator[dict[str, Any]]:
    """One row per series, quantity and time."""
    series = [("measured", "", name, growth[name]) for name in ("mean_square", "sup_square")]
    if growth.exact is not None:
        series.append(("exact", "", "mean_square", growth.exact))
    for grade, bound in growth.bounds.items():
        for name in ("mean_square", "sup_square"):
            series.append((grade, bound.kind, name, bound[name]))
    for name, kind, quantity, curve in series:
        for time, value, error in zip(
            curve.times, curve.values, curve.standard_errors, strict=True
        ):
            yield {
                "series": name,
                "kind": kind,
                "quantity": quantity,
                "time": float(time),
                "x": float(time),
                "value": float(value),
                "standard_error": float(error),
            }


def _jacobian_norm(case: Any) -> float:
    """(‖I + A‖_F² + Σ ‖A_k‖_F²)^½ at x0."""
    t, x0 = torch.zeros((), dtype=torch.float64), case.x0.to(torch.float64)
    step = torch.func.jacfwd(lambda x: x + case.f(t, x[None])[0])(x0)
    noise = torch.func.jacfwd(lambda x: case.g(t, x[None])[0])(x0)
    return float((step.square().sum() + noise.square().sum()).sqrt())


SCRIPT = FigureScript(
    "fig_fundamental_matrix",
    examples,
    DEFAULTS,
    measure,
    growth_of_matrix,
    panels=lambda options: 3 * len({options.system, BESIDE}),
)
main = partial(SCRIPT.run, __doc__ or "")

if __name__ == "__main__":
    main()
