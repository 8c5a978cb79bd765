"""Bounds of rollout divergence in weighted norms: grade "weighted" (S12, S16)."""

from __future__ import annotations

import torch

from sdewm.base.progress import Progress
from sdewm.sde.rates import ConstantJacobians, Rates
from sdewm.sde.system import System
from sdewm.theory.bounds.coefficients import Coefficients
from sdewm.theory.bounds.formulas import log_norm
from sdewm.theory.bounds.jacobian_rates import jacobian_rates
from sdewm.theory.bounds.lanczos import LARGE
from sdewm.theory.bounds.tube import Tube, segments
from sdewm.theory.bounds.weighted_norms import (
    WeightedNorm,
    average_jacobians,
    constant_rates,
    full_noise,
    largest_rates,
    sampled_powers,
    stacked_rates,
    weighted_norms_for,
)

Pairs = list[tuple[WeightedNorm, Rates]]
Norms = dict[str, tuple[torch.Tensor, torch.Tensor]]  # name -> bound and its standard error


def no_weighted_norms(system: System, size: int, proven: bool) -> str:
    """The reason why weighted norms are not computed for a state of this size; "" if they are."""
    if size <= LARGE or (proven and isinstance(system, ConstantJacobians)):
        return ""
    return f"weighted norms are computed up to {LARGE} components; there are {size}."


def weighted(
    system: System, tube: Tube, euclidean: Rates, errors: torch.Tensor, exact: bool, form: str
) -> Norms:
    """The lowest bound of each curve over several weighted norms, at each time.

    With M = S² and s the least eigenvalue of S, |D| ≤ |SD|/s, and S16 holds for SD with the rates
    of S A S⁻¹. Hence E|D_t|^p is at most s^−p E|Se|^p times the factor of grade "log_norm".

    Args:
        system: D components.
        tube: paths on which Jacobians are computed if they are not constant.
        euclidean: the rates in the Euclidean norm, one of the norms considered.
        errors: e, `(P, D)`.
        exact: use the constant Jacobians of the system, not sampled ones.
        form: see `rollout_bounds`.

    Returns:
        name -> (bound, standard error).
    """
    step_size = float(tube.grid[1] - tube.grid[0])
    if exact and isinstance(system, ConstantJacobians):
        drift, columns = (part.to(tube.reference) for part in system.jacobians())
        pairs = constant_rates(drift, columns, step_size, len(tube.grid) - 1)
    else:
        pairs = _sampled(system, tube, step_size, euclidean)
    found: Norms = {}
    for one, rates in pairs:
        lengths = one.back * (errors @ one.root).norm(dim=1)
        for name, factor in log_norm(rates, step_size, form).items():
            moment = lengths**2 if name.endswith("square") else lengths
            same = bool((errors == errors[:1]).all())
            error = 0.0 if same else float(moment.std()) / len(moment) ** 0.5
            bound = factor * float(moment.mean()), factor * error
            if name in found:
                lower, best = bound[0] < found[name][0], found[name]
                bound = torch.where(lower, bound[0], best[0]), torch.where(lower, bound[1], best[1])
            found[name] = bound
    return found


@torch.no_grad()
def _sampled(system: System, tube: Tube, step_size: float, euclidean: Rates) -> Pairs:
    """The largest rates over the tube, in norms adapted to the average reference Jacobians."""
    steps, whole = len(tube.grid) - 1, [slice(0, tube.reference.shape[2])]
    coefficients = Coefficients(system, tube.grid[0], tube.reference[:, 0])
    along = (coefficients.jacobians(tube.grid[n], tube.reference[:, n]) for n in range(steps))
    powers = sampled_powers(tube.reference.shape[2])
    *norms, plain = weighted_norms_for(*average_jacobians(along), powers)
    found: list[list[dict[str, torch.Tensor]]] = [[] for _ in norms]
    progress = Progress("rates in weighted norms", steps)
    for n in range(steps):
        progress.update(n)
        drift, noise = coefficients.jacobians(tube.grid[n], segments(tube, n))
        for one, rates in zip(norms, found, strict=True):
            moved = None if noise is None else one.transformed(full_noise(noise))
            now = jacobian_rates(one.transformed(drift), moved, step_size, whole)
            rates.append(largest_rates(now))
    progress.close()
    pairs = [(one, stacked_rates(rates)) for one, rates in zip(norms, found, strict=True)]
    return [*pairs, (plain, euclidean)]
