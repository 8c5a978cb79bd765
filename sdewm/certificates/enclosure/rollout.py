"""Enclosure of the rollouts from balls of initial states, on several paths (statement S34).

Let F_k be the step of a model under given inputs and noise, in exact arithmetic with the weights,
inputs and noise as they are stored, and X_k(e) the rollout from x0 + A e, |e|₂ ≤ 1. The sets 𝒳_k
computed here contain X_k(e) for all e of a ball, or of a slab of it. The rollout from x0 itself is
one of them, but its place in 𝒳_k is known only up to rounding. It is enclosed by sets 𝒳⁰_k of its
own, with p = 0. With the computed centres c_k and c⁰_k and d = c_k − c⁰_k, for every e of the ball
or slab

    |X_k(e) − X_k(0)| ≤ sup |d + M e| + sup |𝒳_k − c_k − M e| + sup |𝒳⁰_k − c⁰_k|,
    |d + M e|² ≤ |d|² + 2 |Mᵀ d| + |M|₂².

Of a ball, d and the last term are of the size of rounding errors. The bound holds as well for
rollouts computed in float64 operation by operation. Paths and slabs are rows of one computation;
the reference of a path serves all its slabs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from sdewm.certificates.enclosure.execution import EnclosedTensor, SetExecution, Unbounded, enclosed
from sdewm.certificates.enclosure.members import Followed
from sdewm.certificates.enclosure.reduction import reduced
from sdewm.certificates.enclosure.slabs import start_sets
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet, upward
from sdewm.certificates.enclosure.tubes import VACUOUS, Tubes
from sdewm.certificates.interval import above, gamma
from sdewm.certificates.norms import spectral_norm

Step = Callable[[int, Tensor], Tensor]  # number of the step, states (R, D) -> next states (R, D)
Entry = Callable[[Tensor], Tensor]  # what the error is in, (R, n) -> states (R, D)
REFERENCE_COLUMNS = 400


class Propagation:
    """The sets 𝒳_0 … 𝒳_N as they are computed; 𝒳_0 is the image of `start` under `entry`.

    Iterating raises ValueError if the step uses a function that is not supported, `MixedRows` if it
    mixes rows, `NotEnclosed` if a rollout leaves its set, and `Unbounded` once all sets are
    unbounded.

    Attributes:
        unbounded: the rows that became unbounded, with the reason; what their sets hold then means
            nothing.
    """

    def __init__(
        self, step: Step, start: TaylorSet, steps: int, columns: int, entry: Entry | None = None
    ) -> None:
        self._step, self._start, self._entry = step, start, entry
        self._steps, self._columns = steps, columns
        self.unbounded: dict[int, str] = {}

    def __iter__(self) -> Iterator[Followed]:
        here = Followed.start(self._start)
        if self._entry is not None:
            here = self._next(self._entry, here)
        yield here
        for n in range(self._steps):
            here = self._next(partial(self._step, n), here)
            yield here

    def _next(self, function: Entry, here: Followed) -> Followed:
        found, bad = image(function, here, self._columns, "the step")
        if found.values.centre.dim() != 2:
            raise ValueError(
                f"the step makes {tuple(found.values.shape)} of states {tuple(here.values.shape)}; "
                "expected (B, D)."
            )
        self.unbounded = bad | self.unbounded
        if len(self.unbounded) == len(found.values.centre):
            raise Unbounded(next(iter(bad.values())))
        return found.without(self.unbounded)


def image(
    function: Entry, here: Followed, columns: int, name: str
) -> tuple[Followed, dict[int, str]]:
    """The sets of the function's values, and the rows that became unbounded."""
    values = here.values
    alone = here.alone(function)  # before the sets: what the model keeps are numbers then
    symbols = Symbols(values.symbols)
    try:
        with torch.no_grad(), SetExecution(symbols, values) as run:
            found = function(enclosed(values, run))
    except RuntimeError as problem:
        raise ValueError(
            f"{name} fails for sets of states ({str(problem).strip()}): expected torch functions "
            "called from Python, not from TorchScript."
        ) from problem
    if not isinstance(found, EnclosedTensor):
        raise ValueError(
            f"{name} returns {type(found).__name__}: expected one tensor that depends on the state."
        )
    if found.shape[:1] != values.shape[:1]:
        raise ValueError(
            f"{name} makes {tuple(found.shape)} of states {tuple(values.shape)}; expected the same "
            "first axis, also where it is 1."
        )
    there = here.after(function, reduced(symbols.latest(found.taylor), columns), name)
    bounded = [row for row in range(len(values.centre)) if row not in run.unbounded]
    there.require_inside(bounded, alone, name)
    return there, run.unbounded


def row_of(values: TaylorSet, row: int) -> TaylorSet:
    """The set of one row, with the first axis kept."""
    return TaylorSet(*(part[row : row + 1] for part in values.parts))


def distance(here: TaylorSet, exact: TaylorSet) -> tuple[float, float]:
    """Upper bounds of |x − x0| for x of a set and x0 of that of the reference; of |d + M e|.

    The quadratic part is at most the norm of Q as a matrix (D, p²), as |e ⊗ e|₂ ≤ 1. The rest is at
    most the 2-norm of its component-wise bounds, and the whole at most that of all.
    """
    apart = (here.centre - exact.centre).reshape(-1)
    linear, form = (part.reshape(len(apart), -1) for part in here.parts[1:3])
    first = _first_order(linear, apart)
    bends = min(_length(here.bends), spectral_norm(form) if form.numel() else 0.0)
    whole = above(first + bends + _length(here.spread))
    gap = upward(apart.abs())
    by_entry = _length(upward(gap + here.reach.reshape(-1)))
    return above(min(whole, by_entry) + _length(exact.reach)), first


def _first_order(linear: Tensor, apart: Tensor) -> float:
    """An upper bound of |d + M e| for |e|₂ ≤ 1; d is known up to one rounding."""
    if linear.shape[1] == 0:
        return _length(upward(apart.abs()))
    size, long = spectral_norm(linear), _length(upward(apart.abs()))
    mixed = _length(linear.T @ apart)
    slip = gamma(len(apart) + 1) * _length(torch.linalg.vector_norm(linear, dim=0)) * long
    # Products in place of powers, which raise where they overflow.
    square = above(long * long + 2.0 * above(mixed + above(slip)) + size * size)
    square += 2.0**-500  # underflow
    return min(above(math.sqrt(square)), above(size + long))


def _length(parts: Tensor) -> float:
    return float(upward(torch.linalg.vector_norm(parts)))


class Reference:
    """The sets of the rollouts from x0 themselves, one row a path, computed as far as asked for."""

    def __init__(self, step: Step, x0: Tensor, steps: int, entry: Entry | None) -> None:
        start = start_sets(x0, x0.new_zeros(*x0.shape, 0), 2)
        self._run = Propagation(step, start, steps, REFERENCE_COLUMNS, entry)
        self._rest = iter(self._run)
        self._found: list[tuple[Followed, dict[int, str]]] = []
        self._ended: Unbounded | None = None

    def __getitem__(self, k: int) -> tuple[Followed, dict[int, str]]:
        """The sets after k steps, and the paths that are unbounded, with the reason."""
        while len(self._found) <= k:
            if self._ended is not None:
                raise self._ended
            try:
                here = next(self._rest)
            except Unbounded as problem:
                self._ended = problem
                raise
            self._found.append((here, self._run.unbounded))
        return self._found[k]


def follow(
    step: Step,
    start: TaylorSet,
    reference: Reference,
    *,
    paths: Tensor,
    steps: int,
    columns: int,
    entry: Entry | None = None,
    readout: Entry | None = None,
) -> Tubes:
    """Bounds for each row of `start`; see the head of the module.

    It stops when the bound of every row exceeds `VACUOUS` times its error to first
    order, or is infinite.

    Args:
        step: F_k, written in torch, of all rows at a time.
        start: the sets of what the error is in, (R, n).
        reference: of the paths.
        paths: (R,), the row of the reference that belongs to each row.
        steps: N.
        columns: symbols kept from step to step.
        entry: the first state as a function of what the error is in (an observation); None: the
            error is in the state itself.
        readout: φ, states (R, D) -> (R,) or (R, m).
    """
    rows = len(start.centre)
    bounds, read = torch.full((2, rows, steps + 1), math.inf, dtype=torch.float64)
    first = torch.full_like(bounds, math.nan)
    run = Propagation(step, start, steps, columns, entry)
    sets, reasons = iter(run), run.unbounded
    for k in range(steps + 1):
        try:
            here, (exact, lost) = next(sets), reference[k]
        except Unbounded as problem:
            reasons = dict.fromkeys(range(rows), str(problem)) | run.unbounded
            break
        reasons = {row: lost[int(i)] for row, i in enumerate(paths) if int(i) in lost}
        reasons |= run.unbounded
        alive = [row for row in range(rows) if row not in reasons]
        for row in alive:
            own = row_of(exact.values, int(paths[row]))
            bounds[row, k], first[row, k] = distance(row_of(here.values, row), own)
        if not alive or not bool((bounds[alive, k] <= VACUOUS * first[alive, k]).any()):
            break
        if readout is not None:
            _read(read[:, k], alive, here, exact, paths, readout, columns)
    texts = [reasons.get(row, "") for row in range(rows)]
    return Tubes(bounds, first, read, reasons=texts)


def _read(
    read: Tensor,
    alive: list[int],
    here: Followed,
    exact: Followed,
    paths: Tensor,
    readout: Entry,
    columns: int,
) -> None:
    """Bounds of the change of a function, where its set is bounded."""
    with suppress(Unbounded):
        (changed, bad), (fixed, lost) = (
            image(readout, part, columns, "the readout") for part in (here, exact)
        )
        there, own = changed.values, fixed.values
        for row in set(alive) - set(bad):
            if int(paths[row]) not in lost:
                read[row] = distance(row_of(there, row), row_of(own, int(paths[row])))[0]
