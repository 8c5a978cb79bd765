"""Rates from Jacobians in a sampled tube: on the reference path, the perturbed path and in between.

A maximum over samples is below the supremum, so these rates give estimates, never certificates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sdewm.base.progress import Progress
from sdewm.sde.monte_carlo import tile_size
from sdewm.sde.noise import GridNoise
from sdewm.sde.rates import Rates
from sdewm.sde.solve import solve_path
from sdewm.sde.system import System
from sdewm.theory.bounds.coefficients import Coefficients
from sdewm.theory.bounds.formulas import Reference, linearised
from sdewm.theory.bounds.jacobian_rates import (
    jacobian_rates,
    largest_eigenvalue,
    largest_singular_value,
    transition_norms,
)
from sdewm.theory.bounds.lanczos import LARGE, RateIteration
from sdewm.theory.flow.flow_variation import FlowVariation
from sdewm.theory.flow.initial_error import CoupledSystem

_BETWEEN = (0.0, 0.5, 1.0)  # where on the segment from X⁰ to X^e
_MOST_NORMS = 2**26  # of transition matrices: 512 MiB


@dataclass(frozen=True)
class Tube:
    """Reference and perturbed paths with their variations, `(J, N + 1, D)`, on the same noise.

    Attributes:
        grid: times `(N + 1,)`.
        reference: X⁰.
        difference: D = X^e − X⁰.
        first: y, the first variation along e.
        second: w, the second variation along e.
    """

    grid: torch.Tensor
    reference: torch.Tensor
    difference: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor


def sample_tube(
    system: System,
    states: torch.Tensor,
    errors: torch.Tensor,
    noise: GridNoise,
    first: int = 0,
) -> Tube:
    """The tube of the paths from `states` and from `states + errors`, each `(J, D)`.

    Row j follows path `first` + j of the noise.
    """
    grid = noise.grid(states.dtype, states.device)
    times = grid.tolist()
    with torch.no_grad():
        pair = torch.cat((states, states + errors), dim=1)
        try:
            both = solve_path(CoupledSystem(system), pair, noise, times=times, first=first)
        except FloatingPointError:
            for start in (states, states + errors):  # names the path and the component
                solve_path(system, start, noise, first=first)
            raise
        x, shifted = both.chunk(2, dim=2)
        flow = FlowVariation(system, order=2, fused=False)
        try:
            path = solve_path(flow, flow.initial(states, errors), noise, times=times, first=first)
        except FloatingPointError as problem:
            raise FloatingPointError(
                f"the derivatives along the path (x, y, w): {problem}"
            ) from None
        _, variation, second = path.chunk(3, dim=2)
    return Tube(grid, x, shifted - x, variation, second)


def first_variation(
    system: System, states: torch.Tensor, errors: torch.Tensor, noise: GridNoise
) -> torch.Tensor:
    """|y| `(P, N + 1)` on the paths from states `(P, D)`, y the first variation along `errors`."""
    size = states.shape[1]
    flow, rows = FlowVariation(system, order=1, fused=size > LARGE), []
    stored = max(1, 2**24 // (size * (noise.steps + 1)))
    tile = min(len(states), stored, tile_size(states.device, size))
    times = noise.grid(torch.float64).tolist()
    for first in range(0, len(states), tile):
        part = slice(first, first + tile)
        start = flow.initial(states[part], errors[part])
        path = solve_path(flow, start, noise, times=times, first=first)
        rows.append(path[..., size:].norm(dim=2))
    return torch.cat(rows)


def sampled_rates(
    system: System, tube: Tube, step_size: float, blocks: Sequence[slice]
) -> tuple[Rates, Reference]:
    """The maximal rates over the tube at each step, and the rates on each reference path.

    Curvatures are evaluated along D, the only direction required by S18.
    """
    paths, points, size = tube.reference.shape
    between = len(_BETWEEN)
    coefficients = Coefficients(system, tube.grid[0], tube.reference[:, 0].repeat(between, 1))
    iteration = RateIteration(coefficients.drift, coefficients.diffusion, step_size, blocks)
    largest: list[dict[str, torch.Tensor]] = []
    own: list[tuple[torch.Tensor, ...]] = []
    progress = Progress("rates along the tube", points - 1)
    for n in range(points - 1):
        progress.update(n)
        t, d = tube.grid[n], tube.difference[:, n]
        length = d.norm(dim=1, keepdim=True)
        direction = torch.where(length > 0, d / length, size**-0.5)
        segment = segments(tube, n)
        with torch.no_grad():
            if size > LARGE:
                rates = iteration.rates(t, segment)
            else:
                drift, noise = coefficients.jacobians(t, segment)
                rates = jacobian_rates(drift, noise, step_size, blocks)
                own.append((drift[:paths],))
        if size > LARGE:
            own.append((rates["step"][:paths], rates["log_norm"][1, :paths]))
        bends = coefficients.curvatures(t, segment, direction.repeat(between, 1))
        rates |= dict(zip(("curvature", "noise_curvature"), bends, strict=True))
        largest.append({name: _largest(name, value) for name, value in rates.items()})
    progress.close()
    stacked = {
        name: torch.stack([rates[name] for rates in largest], dim=1 if name == "log_norm" else 0)
        for name in largest[0]
    }
    collected = [torch.stack(part, dim=1) for part in zip(*own, strict=True)]
    rates = Rates(**stacked)
    if size > LARGE:
        reference = _reference(tube, *collected)
    else:
        reference = reference_of_jacobians(tube, collected[0], step_size, needs_transition(rates))
    return rates, reference


def segments(tube: Tube, n: int) -> torch.Tensor:
    """Ends and midpoints of the segments from X⁰ to X^e at the n-th time, `(3J, D)`."""
    return torch.cat([tube.reference[:, n] + share * tube.difference[:, n] for share in _BETWEEN])


def needs_transition(rates: Rates) -> bool:
    """Whether a bound uses the N²/2 norms ‖Φ_{n,k}‖: additive noise and nonzero curvature."""
    return rates.additive and bool(rates.curvature.any())


def missed_kink(tube: Tube, rates: Rates, reference: Reference, step_size: float) -> str:
    """The reason why S18 with sampled curvatures fails on the sampled paths; "" if it holds.

    A kink (ReLU, |x|, clamp) between the sampled states contributes no curvature. If no curvature
    was found, D is compared with y; otherwise, for additive noise, |D| is compared with its bound.
    """
    tiny = 1e-9 * (1.0 + float(tube.reference.abs().max()))
    if not bool(rates.curvature.any() or rates.noise_curvature.any()):
        missed, size = (tube.difference - tube.first).norm(dim=2), tube.first.norm(dim=2)
        failed = missed > 1e-6 * size.cummax(dim=1).values + tiny
    elif rates.additive:
        bound = linearised(reference, rates, step_size, "step")[0]
        failed = tube.difference.norm(dim=2) > (1.0 + 1e-6) * bound + tiny
    else:
        return ""
    if not bool(failed.any()):
        return ""
    return (
        "it fails on the sampled paths, whose curvature is too small to explain their divergence: "
        "f or g has a kink (ReLU, |x|, clamp) or larger curvature between the sampled states."
    )


def exact_reference(
    system: System, tube: Tube, step_size: float, transition: bool = True
) -> Reference:
    """The quantities on the reference paths, by LAPACK for any D, for certificates."""
    coefficients = Coefficients(system, tube.grid[0], tube.reference[:, 0])
    with torch.no_grad():
        jacobians = [
            coefficients.jacobians(tube.grid[n], tube.reference[:, n])[0]
            for n in range(tube.reference.shape[1] - 1)
        ]
    return reference_of_jacobians(tube, torch.stack(jacobians, dim=1), step_size, transition)


def reference_of_jacobians(
    tube: Tube, drift: torch.Tensor, step_size: float, transition: bool = True
) -> Reference:
    """Quantities from the Jacobians A `(J, N, D, D)`; ‖Φ_{n,k}‖ only if they fit in memory."""
    paths, count, size = drift.shape[:3]
    few = size <= LARGE and paths * (count + 1) ** 2 <= _MOST_NORMS
    steps = torch.eye(size, dtype=drift.dtype, device=drift.device) + step_size * drift
    norms = transition_norms(steps) if transition and few else None
    log_norm = largest_eigenvalue(0.5 * (drift + drift.mT))
    return _reference(tube, largest_singular_value(steps), log_norm, norms)


def _reference(
    tube: Tube, step: torch.Tensor, log_norm: torch.Tensor, transition: torch.Tensor | None = None
) -> Reference:
    variation = tube.first.norm(dim=2)
    return Reference(step, log_norm, variation, variation[:, 0], transition)


def _largest(name: str, value: torch.Tensor) -> torch.Tensor:
    if name == "log_norm":
        return value.amax(dim=1)
    return value.amin(dim=0) if name == "least_log_norm" else value.amax(dim=0)
