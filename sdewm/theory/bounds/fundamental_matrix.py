"""Growth of the stochastic fundamental matrix: measured, exact and bounded (section 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from sdewm.base.checks import (
    check_choice,
    check_count,
    check_device,
    check_float_dtype,
    check_interval,
)
from sdewm.sde.contract import require_constant_jacobians, require_contract
from sdewm.sde.linear_moments import moment_path
from sdewm.sde.monte_carlo import accumulate, tile_size
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import CERTIFICATE, ESTIMATE, ConstantJacobians
from sdewm.sde.solve import solve_path
from sdewm.sde.system import StepCoefficients, StepSystem, System, check_drivers
from sdewm.theory.bounds.bound import GradeBound
from sdewm.theory.bounds.formulas import FORMS
from sdewm.theory.bounds.fundamental_matrix_bounds import GrowthConstants, growth_bounds
from sdewm.theory.curve import Curve, NormCurves
from sdewm.theory.flow.flow_variation import FlowVariation
from sdewm.theory.flow.initial_error import initial_states
from sdewm.theory.flow.rollout_divergence import norm_curves, path_quantities, path_tile
from sdewm.theory.origin import Origin

_RECORD_FROM = 50  # evaluations of the variation step from which recording it pays


@dataclass(frozen=True, eq=False)
class Growth(NormCurves):
    """Result of `fundamental_matrix`: `growth[name]` for the four norms, over all grid times.

    Attributes:
        curves: "mean" E‖Φ_t‖_F, "mean_square" E‖Φ_t‖_F², "sup" E sup_{s ≤ t}‖Φ_s‖_F, "sup_square"
            E sup_{s ≤ t}‖Φ_s‖_F², measured; standard errors from batch means.
        exact: E‖Φ_t‖_F² of the scheme if the Jacobians are constant; else None.
        exact_limit: E‖Φ_t‖_F² of the equation if the Jacobians are constant; else None.
        bounds: grade -> GradeBound; empty for a system given by its step that has no `jacobians()`.
        constants: α, β, λ, ρ, κ; None if there are no bounds.
        kurtosis: kurtosis of ‖Φ‖_F² at the end; 3 for a normal law, nan for zero variance. If it
            is large, the standard errors of squares are unreliable (rule 7).
        paths: number of paths.
    """

    exact: Curve | None
    exact_limit: Curve | None
    bounds: Mapping[str, GradeBound]
    constants: GrowthConstants | None
    kurtosis: float
    paths: int


def fundamental_matrix(
    system: System | StepSystem,
    x0: torch.Tensor,
    *,
    t1: float,
    steps: int,
    paths: int = 1000,
    seed: int = 0,
    t0: float = 0.0,
    form: str = "step",
    kind: str | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    chunk: int | None = None,
) -> Growth:
    """Growth of the fundamental matrix Φ along the paths from x0, measured, exact and bounded.

    dΦ = A Φ dt + Σ_k A_k Φ dB^k, Φ_0 = I, with A = Df and A_k = Dg_k on the path. Measurement: the
    derivative of the Euler–Maruyama step propagates the D columns of Φ (S5b). The running supremum
    is taken over the grid, see `rollout_divergence`. Bounds, with D = ‖Φ_0‖_F²:

        gronwall   3D exp(3 ∫(Tα² + 4β²)) on E sup‖Φ‖_F²                                      (S9)
        log_norm   D e^{2∫λ} on E‖Φ‖_F², which may contract, and its supremum           (S10, S11)
        weighted   log_norm in norms (xᵀMx)^½, times tr M/λ_min(M): the lowest at each time over
                   several M between the Euclidean norm and the norm of rate ρ               (S12)

    "mean" and "sup" are bounded by the root of the bound of the square. The bound is a certificate
    if the system has `jacobians()` (affine coefficients) or, except for grade "weighted",
    `certified_rates`. Otherwise the constants are suprema over sampled paths, and the bound is an
    estimate.

    Args:
        system: an Itô system with D components, given by f and g or by its step.
        x0: initial state `(D,)` or one per path `(paths, D)`.
        t1: end time.
        steps: number N of steps of the scheme.
        paths: number of sample paths, at least 2 (one has no standard error); on each, a step costs
            about 2D steps of the system.
        seed: root seed.
        t0: start time.
        form: "step": bounds of the scheme, for any step size; "sde": bounds of the equation.
        kind: "certificate": raise an error if no rates are proven; "estimate": do not use proven
            rates; default: use proven rates if available.
        dtype: dtype of the simulation and of sampled Jacobians, torch.float64 or torch.float32.
        device: device of the computation; default: the CPU.
        chunk: paths between two updates of progress; does not change the result.

    Returns:
        A Growth: `growth["mean_square"]` …, `.exact`, `.bounds["log_norm"]["sup_square"]`,
        `.constants`.

    Raises:
        ValueError: an argument is invalid; the message gives its name, value and allowed values.
        FloatingPointError: a trajectory is not finite.

    >>> from sdewm.sde.examples import LinearFlow
    >>> case = LinearFlow()
    >>> growth = fundamental_matrix(case, case.x0, t1=1.5, steps=30, paths=2000, form="sde")
    >>> growth.exact_limit.last.value, growth.bounds["log_norm"]["mean_square"].last.value
    (1.2823094145, 2.678512)
    >>> growth.mean_square.last.deviation_from(growth.exact.last.value) < 5
    True
    """
    check_choice("form", form, FORMS)
    if kind is not None:
        check_choice("kind", kind, (CERTIFICATE, ESTIMATE))
    check_float_dtype("dtype", dtype)
    start, end = check_interval(t0, t1)
    steps, paths = check_count("steps", steps), check_count("paths", paths, minimum=2)
    states = initial_states(x0, paths).to(check_device(device), dtype)
    drivers = check_drivers(system, states.new_tensor(start), states[:2])
    path = require_contract(system, states, (start, end), steps)
    noise = GaussianNoise(drivers=drivers, steps=steps, t0=start, t1=end, seed=seed)
    if isinstance(system, ConstantJacobians):
        whole = system if isinstance(system, System) else StepCoefficients(system, drivers)
        require_constant_jacobians(whole, noise.grid(dtype, states.device), path)
    exact, exact_limit = _exact(system, noise)
    states = states.expand(paths, -1)
    origin = Origin.of(system, states, None, noise)
    bounds, constants = growth_bounds(system, states, noise, form, kind)
    bounds = {grade: replace(bound, origin=origin) for grade, bound in bounds.items()}
    curves, kurtosis = _measure(system, states, noise, chunk)
    return Growth(curves, exact, exact_limit, bounds, constants, kurtosis, paths, origin=origin)


class MatrixFlow:
    """The joint system of a path and the columns of its fundamental matrix, `(B, D + D²)`.

    One batched derivative of the step propagates all columns of all paths.

    Args:
        system: D components.
        fused: see `FlowVariation`.
    """

    noise_type, sde_type = "general", "ito"

    def __init__(self, system: System | StepSystem, fused: bool) -> None:
        self.flow = FlowVariation(system, order=1, fused=fused)

    def initial(self, x0: torch.Tensor) -> torch.Tensor:
        """The stacked initial state (x0, I) of starts `(B, D)`."""
        self.variations = [f"the derivative along axis {axis}" for axis in range(x0.shape[1])]
        identity = torch.eye(x0.shape[1], dtype=x0.dtype, device=x0.device).flatten()
        return torch.cat((x0, identity.expand(len(x0), -1)), dim=1)

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stacked drift and stacked noise increment `(B, D + D²)`."""
        batch, size = len(y), math.isqrt(y.shape[1])
        x, columns = y[:, :size], y[:, size:].reshape(-1, size)  # rows (path, column)
        rows = torch.cat((x.repeat_interleave(size, dim=0), columns), dim=1)
        parts = self.flow.f_and_g_prod(t, rows, v.repeat_interleave(size, dim=0))
        stacked = [
            torch.cat((part[::size, :size], part[:, size:].reshape(batch, -1)), dim=1)
            for part in parts
        ]
        return stacked[0], stacked[1]


def _measure(
    system: System | StepSystem, states: torch.Tensor, noise: GaussianNoise, chunk: int | None
) -> tuple[dict[str, Curve], float]:
    """The four curves, and the kurtosis of ‖Φ‖_F² at the end."""
    paths, size = states.shape
    times = noise.grid(torch.float64).tolist()
    kept = path_tile(size * (size + 1), noise.steps, states.device)
    tile = min(paths, kept, max(1, tile_size(states.device) // size))  # a row for each column
    flow = MatrixFlow(system, fused=noise.steps * -(-paths // tile) > _RECORD_FROM)
    squares = np.empty(paths)

    def evaluate(first: int, last: int) -> torch.Tensor:
        index = torch.arange(first, first + tile, device=states.device).clamp_(max=paths - 1)
        start = states[index]  # a whole tile: every step has one batch size
        try:
            path = solve_path(flow, flow.initial(start), noise, times=times, first=first)
        except FloatingPointError as problem:
            solve_path(system, start, noise, first=first)
            raise FloatingPointError(f"fundamental matrix: {problem}") from None
        norms = path[: last - first, :, size:].norm(dim=2)
        squares[first:last] = (norms[:, -1] ** 2).cpu().numpy()
        return path_quantities(norms, "fundamental matrix")

    sums = accumulate(
        evaluate, 4 * len(times), paths, label="fundamental matrix", tile=tile, chunk=chunk
    )
    deviations = squares - squares.mean()
    variance = float((deviations**2).mean())
    settled = variance <= (1e-12 * squares.mean()) ** 2
    kurtosis = math.nan if settled else float((deviations**4).mean()) / variance**2
    return norm_curves(sums, times), kurtosis


def _exact(system: System | StepSystem, noise: GaussianNoise) -> tuple[Curve | None, Curve | None]:
    """E‖Φ_t‖_F² = tr of the second moment from the identity, of scheme and equation (S12)."""
    if not isinstance(system, ConstantJacobians):
        return None, None
    drift, columns = (part.to("cpu", torch.float64) for part in system.jacobians())
    identity, grid = torch.eye(len(drift), dtype=torch.float64), noise.grid(torch.float64).numpy()
    scheme, equation = (
        moment_path(drift, columns, identity, noise.step_size, noise.steps, scheme=scheme)
        for scheme in (True, False)
    )
    traces = (path.diagonal(dim1=1, dim2=2).sum(1).numpy() for path in (scheme, equation))
    of_scheme, of_equation = (Curve(grid, trace, np.zeros(len(grid))) for trace in traces)
    return of_scheme, of_equation
