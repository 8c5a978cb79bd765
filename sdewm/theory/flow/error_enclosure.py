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
from sdewm.theory.flow.path_problem import ORDERS, PathEnclosure, PathProblem, Request

PARTS = (8, 32)  # of the line s e, tried while a bound is not CLOSE
CLOSE = 1.5  # times the error to first order


class NoEnclosure(ValueError):
    """A system whose rollouts cannot be enclosed; the message says why."""


def enclose_errors(
    system: System | StepSystem,
    states: Tensor,
    errors: Tensor,
    noise: GridNoise,
    *,
    first: int = 0,
    steps: int | None = None,
    step_rates: Tensor | None = None,
    readout: Entry | None = None,
) -> Tensor:
    """Bounds of |X_k(s e) − X_k(0)| for all |s| ≤ 1, path by path: (P, N + 1).

    They are infinite from the step on at which the path abstains. Later paths are enclosed only up
    to there, because the mean over all paths is infinite then. Where a bound
    is loose, the path is tried again with the line of its s e cut into parts.

    Args:
        system: see `enclose_rollouts`.
        states: (P, D), where the paths start.
        errors: e of each path, (P, D).
        noise: the increments; row i is path number first + i.
        first: number of the first path.
        steps: how many of the steps are enclosed; later bounds are infinite. None: all.
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
    moved = errors.double().any(1)
    bounds[~moved] = 0.0  # both rollouts are one
    last, work = noise.steps if steps is None else steps, moved.nonzero()[:, 0]
    if not len(work):
        return bounds
    try:
        problem = PathProblem(system, states.double(), increments, noise.t0, noise.step_size)
        directions = errors.double()[:, : problem.start.shape[1], None]
        rows = problem.rows_at_a_time(1, ORDERS["second"])
        for some in counted("enclosure", work.split(rows), -(-len(work) // rows)):
            asked = Request(directions, last, ORDERS["second"], readout).of(some)
            found = _cut_where_needed(problem.of(some), asked)
            for i, one in zip(some, found, strict=True):
                bounds[i, : last + 1] = one.bounds if readout is None else one.readout
                if step_rates is not None and readout is None:
                    bounds[i] = _continued(bounds[i], above(float(errors[i].norm())), step_rates)
            if step_rates is None or readout is not None:
                ends = (one.abstains for one in found)
                last = min([last, *(max(0, k - 1) for k in ends if k is not None)])
    except ValueError as reason:
        raise NoEnclosure(str(reason)) from None
    return bounds


def _cut_where_needed(problem: PathProblem, asked: Request) -> list[PathEnclosure]:
    """The bounds on each path, with more parts of its line as long as they are loose."""
    found = problem.enclosed(asked)
    for i in range(len(found)):
        only = slice(i, i + 1)
        for parts in PARTS:
            if not bool((found[i].bounds <= CLOSE * found[i].linear).all()):
                found[i] = problem.of(only).cut(asked.of(only), found[i], parts)
    return found


def _continued(bounds: Tensor, start: float, rates: Tensor) -> Tensor:
    """The smaller of each bound and the one before times the Lipschitz constant of the step."""
    better = [min(float(bounds[0]), start)]
    for bound, rate in zip(bounds[1:], rates, strict=True):
        better.append(min(float(bound), above(float(rate) * better[-1])))
    return bounds.new_tensor(better)
