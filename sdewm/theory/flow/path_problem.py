"""Noise paths of a system as chains of steps that can be enclosed or attacked (S34)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from sdewm.certificates.enclosure.attack import attack_path, leading_directions
from sdewm.certificates.enclosure.memory import bytes_needed
from sdewm.certificates.enclosure.rollout import Entry, Reference, Step, follow
from sdewm.certificates.enclosure.slabs import slab_sets, start_sets
from sdewm.certificates.enclosure.taylor_set import MixedRows, TaylorSet
from sdewm.certificates.enclosure.tubes import PathEnclosure, Tubes
from sdewm.sde.system import ObservedSystem, PathSystem, StepSystem, System, repeated, step_of

# Symbols of the remainders that are kept from step to step: of a ball, and of a line.
COLUMNS, LINE_COLUMNS = 2500, 1000
SYMBOLS = 10_000  # of all paths or slabs that are enclosed at a time
ORDERS = {"first": 1, "second": 2}
MOST_BYTES = 4 << 30


@dataclass(frozen=True)
class Request:
    """What is enclosed: errors A e, |e|₂ ≤ 1, for some steps.

    Attributes:
        directions: A, one for each path (P, n, p).
        steps: N.
        order: 1 or 2, the order in e that is kept.
        readout: a function of states whose change is bounded, or None.
    """

    directions: Tensor
    steps: int
    order: int
    readout: Entry | None = None

    def of(self, paths: slice | Tensor) -> Request:
        """That of some paths."""
        return replace(self, directions=self.directions[paths])


@dataclass(frozen=True, eq=False)
class PathProblem:
    """Some paths of a system: their states, and the noise that they follow.

    Attributes:
        system: a `PathSystem`, or an Itô system with its Euler–Maruyama steps.
        states: (P, D), at time t0.
        noise: the increments (P, N, M).
        t0: the first time.
        step_size: of the steps.
        seen: the observation (n,) that follows the states and has the error; None: the states do.
    """

    system: System | StepSystem
    states: Tensor
    noise: Tensor
    t0: float
    step_size: float
    seen: Tensor | None = None

    def of(self, paths: slice | Tensor) -> PathProblem:
        """That of some paths."""
        return replace(self, states=self.states[paths], noise=self.noise[paths])

    @cached_property
    def start(self) -> Tensor:
        """What the error is in, (P, n)."""
        if self.seen is None:
            return self._chain[0]
        return self.seen.double().expand(len(self.states), -1)

    @property
    def step(self) -> Step:
        """(n, x) -> the states after step n, of sets or of rows x; see `PathSystem`."""
        return self._chain[1] if self.seen is None else partial(_shifted, self._chain[1])

    @cached_property
    def entry(self) -> Entry | None:
        """Maps the observation to the states after step 1; None where the states have the error.

        Raises:
            ValueError: the system does not see observations, or this is none.
        """
        if self.seen is None:
            return None
        if not isinstance(self.system, ObservedSystem):
            raise ValueError("observation: expected a world model as_system(…).")
        if self.seen.dim() != 1 or not bool(torch.isfinite(self.seen).all()):
            raise ValueError(
                f"observation has shape {tuple(self.seen.shape)}: expected finite numbers (n,)."
            )
        return self.system.posterior_entry(self._chain[0], self.noise[:, 0])

    @cached_property
    def _chain(self) -> tuple[Tensor, Step]:
        """The first states and the steps of the system.

        Raises:
            ValueError: it has no steps that can be enclosed.
        """
        system, states = self.system, self.states
        if isinstance(system, PathSystem):
            return system.path_steps(states, self.noise, self.t0, self.step_size)
        return states, partial(_euler_step, system, self.noise, self.t0, self.step_size)

    def enclosed(self, asked: Request) -> list[PathEnclosure]:
        """The bounds on each path."""

        def some(paths: slice) -> Tubes:
            part, own = self.of(paths), asked.of(paths)
            sets = start_sets(part.start, own.directions, own.order)
            return part._followed(own, sets, part._reference(own))

        tubes = _in_groups(len(self.states), self._rows(asked), some)
        return [self._later(one.row(i)) for one in tubes for i in range(len(one.bounds))]

    def cut(self, asked: Request, found: PathEnclosure, slabs: int) -> PathEnclosure:
        """The bounds on the only path, `found`, improved.

        The ball of e is cut into slabs across the direction that is stretched most. A bound is the
        smaller one of that of the ball and the largest of the slabs.
        """
        last = asked.steps if found.abstains is None else found.abstains
        errors, reference = asked.directions[0], self._reference(asked)
        along = torch.ones(1, dtype=torch.float64)
        if errors.shape[1] > 1:
            along = self.leading(errors, last)[-1]

        def some(numbers: slice) -> Tubes:
            places = range(slabs)[numbers]
            sets = slab_sets(self.start[0], errors, along, places, slabs, asked.order)
            return self._followed(asked, sets, reference)

        tubes: list[Tubes] = []
        for one in _in_groups(slabs, self._rows(asked), some):
            tubes.append(one)
            end = self._later(one).abstains
            if end is not None and end <= (found.abstains or 0):
                return found  # no further than the ball itself
        return found.improved(self._later(Tubes.joined(tubes)))

    def _rows(self, asked: Request) -> int:
        return self.rows_at_a_time(asked.directions.shape[2], asked.order)

    def _reference(self, asked: Request) -> Reference:
        return Reference(self.step, self.start, self._chain_steps(asked.steps), self.entry)

    def _followed(self, asked: Request, sets: TaylorSet, reference: Reference) -> Tubes:
        return follow(
            self.step,
            sets,
            reference,
            paths=repeated(torch.arange(len(self.states)), len(sets.centre)),
            steps=self._chain_steps(asked.steps),
            columns=_columns(asked.directions.shape[2]),
            entry=self.entry,
            readout=self._of_whole_states(asked.readout),
        )

    def _of_whole_states(self, readout: Entry | None) -> Entry | None:
        """The readout as a function of the states of the chain, which lack what is constant."""
        rest = self.states[:, self._chain[0].shape[1] :].double()
        if readout is None or not rest.shape[1]:
            return readout
        return lambda x: readout(torch.cat([x, repeated(rest, len(x))], 1))

    def _later(self, tubes: Tubes) -> PathEnclosure:
        found = tubes.largest()
        return found if self.seen is None else found.after_zero()

    def _chain_steps(self, steps: int) -> int:
        """The steps of the chain; the first one of an observation is the posterior's."""
        return steps - (self.seen is not None)

    def leading(self, directions: Tensor, steps: int) -> Tensor:
        """The unit vectors e that each X_k of the only path stretches most, (N + 1, p)."""
        steps = self._chain_steps(steps)
        return leading_directions(self.step, self.entry, self.start[0], directions, steps)

    def reference(self, steps: int) -> Tensor:
        """The rollouts X_k(0) and, where observations have the error, the states before: (P, K).

        Path by path, so that a step that mixes rows is followed as well.
        """
        rows = []
        for i in range(len(self.states)):
            one = self.of(slice(i, i + 1))
            x = one.start if one.entry is None else one.entry(one.start)
            visited = [one.start, x]
            for n in range(self._chain_steps(steps)):
                visited.append(x := one.step(n, x))
            rows.append(torch.cat(visited, 1))
        return torch.cat(rows)

    def attacked(self, directions: Tensor, steps: int, seed: int) -> Tensor:
        """The largest distances that a search finds on the only path, (N + 1,)."""
        found = attack_path(
            self.step,
            self.start[0],
            directions,
            steps=self._chain_steps(steps),
            seed=seed,
            entry=self.entry,
        )
        return found if self.seen is None else torch.cat([found.new_zeros(1), found])

    def checked_memory(self, errors: int, order: int) -> int:
        """About the bytes that one row takes with p errors.

        Raises:
            ValueError: they are more than 4 GiB.
        """
        one = replace(self.of(slice(1)), seen=None)
        memory = bytes_needed(one.step, one.start[0], errors, order, _columns(errors))
        if memory > MOST_BYTES:
            advice = (
                "give fewer directions, or order='first'" if errors > 1 else "the model is too wide"
            )
            raise ValueError(
                f"directions has p = {errors} columns: the sets would take about "
                f"{memory / 2**30:.1f} GiB, and at most {MOST_BYTES >> 30} are allowed; {advice}."
            )
        return memory

    def rows_at_a_time(self, errors: int, order: int) -> int:
        """The number of rows, so that all of them take at most 4 GiB."""
        most = MOST_BYTES // self.checked_memory(errors, order)
        return max(1, min(SYMBOLS // _columns(errors), most))


def _columns(errors: int) -> int:
    return COLUMNS if errors > 1 else LINE_COLUMNS


def _in_groups(count: int, size: int, evaluate: Callable[[slice], Tubes]) -> Iterator[Tubes]:
    """The rows 0 … count − 1 in groups; one by one where the step mixes rows."""
    for first in range(0, count, size):
        last = min(first + size, count)
        try:
            yield evaluate(slice(first, last))
        except MixedRows:
            for i in range(first, last):
                yield evaluate(slice(i, i + 1))


def _shifted(step: Step, n: int, x: Tensor) -> Tensor:
    """Step n + 1: the first one has taken place."""
    return step(n + 1, x)


def _euler_step(
    system: System | StepSystem, noise: Tensor, t0: float, step_size: float, n: int, x: Tensor
) -> Tensor:
    """One Euler–Maruyama step, x + f(x) Δ + g(x) ΔB."""
    time = torch.tensor(t0 + n * step_size, dtype=torch.float64)
    drift, moved = step_of(system)(time, x, repeated(noise[:, n], len(x)))
    return x + drift * step_size + moved
