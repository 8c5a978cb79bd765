"""One noise path of a system as a chain of steps that can be enclosed or attacked (S34)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sdewm.certificates.enclosure.attack import attack_path
from sdewm.certificates.enclosure.memory import bytes_needed
from sdewm.certificates.enclosure.rollout import Entry, PathEnclosure, Step, enclose_path
from sdewm.sde.system import ObservedSystem, PathSystem, StepSystem, System, step_of

COLUMNS = 2500  # symbols of the remainders that are kept from step to step
ORDERS = {"first": 1, "second": 2}
MOST_BYTES = 4 << 30


@dataclass(frozen=True, eq=False)
class PathProblem:
    """One path: where the error is, the steps, and the first state if this is an observation.

    Attributes:
        start: the state (D,), or the observation (n,), that has the error.
        step: (n, x) -> the state after step n, of sets or of rows x.
        entry: maps an observation to the state after step 1; None where the state has the error.
    """

    start: Tensor
    step: Step
    entry: Entry | None

    def enclosed(
        self,
        directions: Tensor,
        radius: float,
        steps: int,
        order: int,
        readout: Entry | None = None,
    ) -> PathEnclosure:
        """The bounds on the path; of an observation, from step 1 on, and 0 at step 0."""
        found = enclose_path(
            self.step,
            self.start,
            directions,
            radius,
            steps=steps - (self.entry is not None),
            order=order,
            columns=COLUMNS,
            entry=self.entry,
            readout=readout,
        )
        if self.entry is None:
            return found
        later = None if found.abstains is None else found.abstains + 1
        return replace(
            found,
            bounds=_after_zero(found.bounds),
            linear=_after_zero(found.linear),
            readout=_after_zero(found.readout),
            abstains=later,
        )

    def attacked(self, directions: Tensor, steps: int, seed: int) -> Tensor:
        """The largest distances that a search finds, (N + 1,)."""
        if self.entry is None:
            return attack_path(self.step, self.start, directions, steps=steps, seed=seed)
        found = attack_path(
            self.step, self.start, directions, steps=steps - 1, seed=seed, entry=self.entry
        )
        return _after_zero(found)


def _after_zero(values: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.float64), values])


def entered(
    system: System | StepSystem, one: PathProblem, noise: Tensor, seen: Tensor
) -> PathProblem:
    """The problem of an error in the observation (n,) that follows the state of `one`.

    Raises:
        ValueError: the system does not see observations, or this is none.
    """
    if not isinstance(system, ObservedSystem):
        raise ValueError("observation: expected a world model as_system(…).")
    if seen.dim() != 1 or not bool(torch.isfinite(seen).all()):
        raise ValueError(
            f"observation has shape {tuple(seen.shape)}: expected finite numbers (n,)."
        )
    entry = system.posterior_entry(one.start, noise[0])
    return PathProblem(seen.double(), partial(_shifted, one.step), entry)


def _shifted(step: Step, n: int, x: Tensor) -> Tensor:
    """Step n + 1: the first one has taken place."""
    return step(n + 1, x)


def path_problem(
    system: System | StepSystem, state: Tensor, noise: Tensor, t0: float, step_size: float
) -> PathProblem:
    """The steps of one path from a state (D,), on increments (N, M) from time t0 on.

    Raises:
        ValueError: the system has no steps that can be enclosed.
    """
    if isinstance(system, PathSystem):
        return PathProblem(*system.path_steps(state, noise, t0, step_size), None)
    return PathProblem(state, partial(_euler_step, system, noise, t0, step_size), None)


def _euler_step(
    system: System | StepSystem, noise: Tensor, t0: float, step_size: float, n: int, x: Tensor
) -> Tensor:
    """One Euler–Maruyama step, x + f(x) Δ + g(x) ΔB."""
    time = torch.tensor(t0 + n * step_size, dtype=torch.float64)
    drift, moved = step_of(system)(time, x, noise[n].expand(len(x), -1))
    return x + drift * step_size + moved


def checked_memory(problem: PathProblem, errors: int, order: int) -> int:
    """About the bytes that the enclosure of a path with p errors takes.

    Raises:
        ValueError: they are more than 4 GiB.
    """
    memory = bytes_needed(problem.step, problem.start, errors, order, COLUMNS)
    if memory > MOST_BYTES:
        advice = (
            "give fewer directions, or order='first'" if errors > 1 else "the model is too wide"
        )
        raise ValueError(
            f"directions has p = {errors} columns: the sets would take about "
            f"{memory / 2**30:.1f} GiB, and at most {MOST_BYTES >> 30} are allowed; {advice}."
        )
    return memory
