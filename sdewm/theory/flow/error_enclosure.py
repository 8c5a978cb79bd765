"""Proven bounds on the divergence of given errors, path by path: the grade "enclosure" (S34)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdewm.base.progress import counted
from sdewm.certificates.enclosure.rollout import Entry
from sdewm.certificates.interval import above
from sdewm.sde.noise import GridNoise
from sdewm.sde.system import StepSystem, System
from sdewm.theory.flow.path_problem import ORDERS, checked_memory, path_problem


class NoEnclosure(ValueError):
    """A system whose rollouts cannot be enclosed; the message says why."""


def enclose_errors(
    system: System | StepSystem,
    states: Tensor,
    errors: Tensor,
    noise: GridNoise,
    *,
    first: int = 0,
    step_rates: Tensor | None = None,
    readout: Entry | None = None,
) -> Tensor:
    """Bounds of |X_k(s e) − X_k(0)| for all |s| ≤ 1, path by path: (P, N + 1).

    They are infinite from the step on at which the path abstains. Later paths are enclosed only up
    to there, because the mean over all paths is infinite then.

    Args:
        system: see `enclose_rollouts`.
        states: (P, D), where the paths start.
        errors: e of each path, (P, D).
        noise: the increments; row i is path number first + i.
        first: number of the first path.
        step_rates: (N,), Lipschitz constants of the steps that are proven for the rollouts with
            s = 0 and 1, under additive noise; the bound of s = 1 at step k + 1 is then at most the
            constant times that at step k, and no path abstains.
        readout: a function φ of states, see `enclose_rollouts`: |φ(X_k(s e)) − φ(X_k(0))| is
            bounded in place of the distance, and `step_rates` do not apply.

    Raises:
        NoEnclosure: a function of the step, or φ, has no enclosure, which the message names; or the
            sets would take more than 4 GiB.
    """
    increments = noise.increments(first, first + len(states)).transpose(0, 1)
    bounds = torch.full((len(states), noise.steps + 1), math.inf, dtype=torch.float64)
    last = noise.steps
    starts = enumerate(zip(states.double(), errors.double(), strict=True))
    for i, (state, error) in counted("enclosure", starts, len(states)):
        if not bool(error.any()):  # both rollouts are one
            bounds[i, : last + 1] = 0.0
            continue
        try:
            problem = path_problem(system, state, increments[i], noise.t0, noise.step_size)
            line = error[: len(problem.start), None]
            checked_memory(problem, 1, ORDERS["second"])
            found = problem.enclosed(line, 1.0, last, ORDERS["second"], readout)
        except ValueError as reason:
            raise NoEnclosure(str(reason)) from None
        bounds[i, : last + 1] = found.bounds if readout is None else found.readout
        if step_rates is not None and readout is None:
            bounds[i] = _continued(bounds[i], above(float(error.norm())), step_rates)
        elif found.abstains is not None:
            last = max(0, found.abstains - 1)
    return bounds


def _continued(bounds: Tensor, start: float, rates: Tensor) -> Tensor:
    """The smaller of each bound and the one before times the Lipschitz constant of the step."""
    better = [min(float(bounds[0]), start)]
    for bound, rate in zip(bounds[1:], rates, strict=True):
        better.append(min(float(bound), above(float(rate) * better[-1])))
    return bounds.new_tensor(better)
