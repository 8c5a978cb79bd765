"""Measured divergence of two rollouts from different initial states on one noise (section 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch

from sdewm.base.checks import (
    check_count,
    check_device,
    check_float_dtype,
    check_interval,
)
from sdewm.base.stats import BatchSums, kurtosis
from sdewm.sde.contract import require_contract
from sdewm.sde.monte_carlo import accumulate, tile_size
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import StepSystem, System, check_drivers
from sdewm.theory.curve import NORMS, Curve, NormCurves
from sdewm.theory.flow.initial_error import (
    CoupledSystem,
    InitialError,
    check_resolved,
    draw_errors,
    initial_states,
)
from sdewm.theory.origin import Origin

QUANTILES = (0.025, 0.5, 0.975)
_NUMBERS_AT_ONCE = 1 << 24  # of stored paths: 128 MiB in float64


@dataclass(frozen=True, eq=False)
class Divergence(NormCurves):
    """Result of `rollout_divergence`: `divergence[name]` for the four norms, over all grid times.

    Attributes:
        curves: "mean" E|D_t|, "mean_square" E|D_t|², "sup" E sup_{s ≤ t}|D_s|, "sup_square"
            E sup_{s ≤ t}|D_s|²; standard errors from batch means.
        quantiles: level -> quantile of |D_t| over time.
        paths: number of paths.
    """

    quantiles: dict[float, Curve]
    paths: int


def rollout_divergence(
    system: System | StepSystem,
    x0: torch.Tensor,
    error: InitialError,
    *,
    t1: float,
    steps: int,
    paths: int = 10_000,
    seed: int = 0,
    t0: float = 0.0,
    quantiles: Sequence[float] = QUANTILES,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    chunk: int | None = None,
) -> Divergence:
    """Measure D_t = X_t(x0 + e) − X_t(x0) along the same Brownian path, at every grid time.

    The running supremum is taken over the grid. It is below the supremum over all times, for
    diffusive D by O(√(Δ log 1/Δ)). Bounds of the scheme (form "step") bound the supremum over the
    grid. D is a difference of rounded numbers: where it has fallen below about a thousand rounding
    units of X (2e-13 of its size in float64) it is no longer measured, and may be below the truth
    or above a bound.

    The q-quantile is the ⌈nq⌉-th smallest of the n values |D_t|. For independent paths its standard
    error is half the distance between the order statistics one binomial standard deviation,
    √(nq(1 − q)), below and above; it is nan if they lie outside the sample.

    Args:
        system: an Itô system with D components, given by f and g or by its step.
        x0: initial state `(D,)` or one per path `(paths, D)`.
        error: e: a vector `(D,)`; samples `(B, D)`, each as likely as the others, of which path i
            takes row i mod B; or a sampler (count, generator) -> `(count, D)`, independent of the
            Brownian paths.
        t1: end time.
        steps: number N of Euler–Maruyama steps.
        paths: number of sample paths, at least 2 (one has no standard error).
        seed: root seed of the Brownian paths and of the sampler's generator.
        t0: start time.
        quantiles: levels in (0, 1); they take paths·(N + 1) numbers of memory, () takes none.
        dtype: torch.float64 or torch.float32.
        device: device of the computation; default: the CPU.
        chunk: paths between two updates of progress; does not change the result.

    Returns:
        `divergence["mean" | "mean_square" | "sup" | "sup_square"]` and `divergence.quantiles[q]`,
        each a Curve over t_0 … t_N.

    Raises:
        ValueError: an argument is invalid; the message gives its name, value and allowed values.
        FloatingPointError: a trajectory is not finite; the message gives the path.

    >>> from sdewm.sde.examples import OrnsteinUhlenbeck
    >>> case, e = OrnsteinUhlenbeck(), torch.tensor([0.1], dtype=torch.float64)
    >>> measured = rollout_divergence(case, case.x0, e, t1=1.0, steps=4, paths=100)
    >>> measured["mean"].values  # additive noise cancels: 0.1 (1 − 0.8/4)^n
    array([0.1 , 0.08 , 0.064 , 0.0512 , 0.04096])
    """
    check_float_dtype("dtype", dtype)
    start, end = check_interval(t0, t1)
    steps, paths = check_count("steps", steps), check_count("paths", paths, minimum=2)
    levels = _check_levels(quantiles)
    states = initial_states(x0, paths).to(check_device(device), dtype)
    errors = draw_errors(error, paths, states, seed)
    check_resolved(states, errors)
    drivers = check_drivers(system, states.new_tensor(start), states[:2])
    require_contract(system, states, (start, end), steps, derivatives=False)
    noise = GaussianNoise(drivers=drivers, steps=steps, t0=start, t1=end, seed=seed)
    times = noise.grid(torch.float64).tolist()
    kept = np.empty((paths if levels else 0, steps + 1))

    def evaluate(first: int, last: int) -> torch.Tensor:
        x = states.expand(paths, -1)[first:last]
        distance = _distances(system, x, errors[first:last], noise, times, first)
        if levels:
            kept[first:last] = distance.cpu().numpy()
        return path_quantities(distance, "system")

    tile = path_tile(2 * states.shape[1], steps, states.device)
    sums = accumulate(evaluate, 4 * (steps + 1), paths, label="divergence", tile=tile, chunk=chunk)
    kept.sort(axis=0)
    quantile_curves = {q: _quantile(kept, q, times) for q in levels}
    origin = Origin.of(system, states, errors, noise)
    return Divergence(norm_curves(sums, times), quantile_curves, paths, origin=origin)


def path_tile(numbers: int, steps: int, device: torch.device) -> int:
    """Number of paths solved at once if all N + 1 states of `numbers` components are stored."""
    return max(1, min(tile_size(device), _NUMBERS_AT_ONCE // (numbers * (steps + 1))))


def path_quantities(norms: torch.Tensor, name: str) -> torch.Tensor:
    """The four NORMS of each path at each grid time, `(B, 4(N + 1))`, from |D| `(B, N + 1)`.

    Raises:
        FloatingPointError: a square is not finite; the message gives `name`.
    """
    largest = norms.cummax(dim=1).values
    quantities = torch.cat((norms, norms**2, largest, largest**2), dim=1).to(torch.float64)
    if not bool(torch.isfinite(quantities[:, -1]).all()):
        raise FloatingPointError(
            f"{name}: the square of a distance of {float(largest.max()):.3g} is not finite; use a "
            "shorter t1, or dtype=torch.float64."
        )
    return quantities


def norm_curves(sums: BatchSums, times: Sequence[float]) -> dict[str, Curve]:
    """The four NORMS as curves (name -> Curve), from the sums of `path_quantities`."""
    values = sums.means().reshape(len(NORMS), -1)
    errors, tails = np.full_like(values, math.nan), np.full_like(values, math.nan)
    if sums.batches > 1:
        parts = sums.batch_deviations()
        spread = (parts**2).sum(0) * sums.batches / (sums.batches - 1)
        errors = np.sqrt(spread).reshape(values.shape)
        tails = kurtosis(parts).reshape(values.shape)
    grid = np.array(times)
    return {name: Curve(grid, values[i], errors[i], tails[i]) for i, name in enumerate(NORMS)}


def _distances(
    system: System | StepSystem,
    x: torch.Tensor,
    e: torch.Tensor,
    noise: GaussianNoise,
    times: list[float],
    first: int,
) -> torch.Tensor:
    """|D| `(B, N + 1)` of the paths from x and x + e, each `(B, D)`."""
    try:
        with torch.no_grad():
            pair = torch.cat((x, x + e), dim=1)
            path = solve_path(CoupledSystem(system), pair, noise, times=times, first=first)
    except FloatingPointError:
        for name, start in (("x0", x), ("x0 + error", x + e)):
            try:
                solve_path(system, start, noise, first=first)
            except FloatingPointError as problem:
                raise FloatingPointError(f"rollout from {name}: {problem}") from None
        raise
    here, there = path.chunk(2, dim=2)
    return (there - here).norm(dim=2)


def _check_levels(quantiles: object) -> tuple[float, ...]:
    if not isinstance(quantiles, Sequence) or isinstance(quantiles, str):
        raise ValueError(f"quantiles={quantiles!r}: expected a sequence of levels in (0, 1).")
    for level in quantiles:
        if not isinstance(level, Real) or not 0.0 < float(level) < 1.0:
            raise ValueError(f"quantiles contains {level!r}: expected levels in (0, 1).")
    return tuple(float(level) for level in quantiles)


def _quantile(ordered: np.ndarray, level: float, times: Sequence[float]) -> Curve:
    """The quantile of values ordered along the first axis, with its error by order statistics."""
    count = len(ordered)
    spread = math.sqrt(count * level * (1.0 - level))
    # Rounding must not push a whole n q to the next order statistic.
    low, place, high = (math.ceil(count * level + s * spread - 1e-9) - 1 for s in (-1, 0, 1))
    errors = np.full(ordered.shape[1], math.nan)
    if low >= 0 and high < count:
        errors = 0.5 * (ordered[high] - ordered[low])
    return Curve(np.array(times), ordered[place], errors)
