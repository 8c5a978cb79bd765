"""Enclosure of the rollouts of one path from a ball of initial states (statement S34).

Let F_k be the step of a model under given inputs and noise, in exact arithmetic with the weights,
inputs and noise as they are stored, and X_k(e) the rollout from x0 + A e, |e|₂ ≤ 1. The sets 𝒳_k
computed here contain X_k(e) for all e. The rollout from x0 itself is one of them, but its place in
𝒳_k is known only up to rounding. It is enclosed by sets 𝒳⁰_k of its own, with p = 0. So for every e

    |X_k(e) − X_k(0)| ≤ sup |𝒳_k − c_k| + |c_k − c⁰_k| + sup |𝒳⁰_k − c⁰_k|,

where c_k and c⁰_k are the computed centres. The last two terms are of the size of rounding errors.
The bound holds as well for rollouts computed in float64 operation by operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sdewm.certificates.enclosure.execution import EnclosedTensor, SetExecution, Unbounded, enclosed
from sdewm.certificates.enclosure.reduction import reduced
from sdewm.certificates.enclosure.taylor_set import Symbols, TaylorSet, rounded, upward
from sdewm.certificates.interval import above
from sdewm.certificates.norms import spectral_norm

Step = Callable[[int, Tensor], Tensor]  # number of the step, state (1, D) -> next state (1, D)
Entry = Callable[[Tensor], Tensor]  # what the error is in, (1, n) -> state (1, D)
VACUOUS = 10.0  # times the norm of the linear part, from which on a bound is not given
REFERENCE_COLUMNS = 400


@dataclass(frozen=True)
class PathEnclosure:
    """Bounds of |X_k(e) − X_k(0)| on one path, k = 0 … N.

    Attributes:
        bounds: (N + 1,); ∞ from the step on at which the enclosure abstains.
        linear: (N + 1,), the norm of the linear part A_k, e ↦ A_k e; nan from that step on.
        readout: (N + 1,), bounds of |φ(X_k(e)) − φ(X_k(0))| for the function φ given; ∞ from that
            step on, where the set of φ is unbounded, and without a function.
        abstains: that step, or None.
        reason: why it abstains; "".
        symbols: the largest number of symbols within a step.
    """

    bounds: Tensor
    linear: Tensor
    readout: Tensor
    abstains: int | None
    reason: str
    symbols: int


def start_set(x0: Tensor, directions: Tensor, radius: float, order: int) -> TaylorSet:
    """The set of all x0 + radius · directions e, (1, D), and of these sums rounded to float64."""
    ball = TaylorSet.ball(x0, radius * directions.double(), order)
    ball = rounded(ball, directions.shape[1], ball.size)
    return TaylorSet(*(part[None] for part in ball.parts))


def propagate(
    step: Step, start: TaylorSet, steps: int, columns: int, entry: Entry | None = None
) -> Iterator[TaylorSet]:
    """The sets 𝒳_0 … 𝒳_N, as they are computed; 𝒳_0 is the image of `start` under `entry`.

    Raises:
        ValueError: the step uses a function that is not supported.
        Unbounded: a set became unbounded.
    """
    here = start if entry is None else _image(entry, start, columns)
    yield here
    for n in range(steps):
        here = _image(partial(step, n), here, columns)
        yield here


def _image(function: Entry, values: TaylorSet, columns: int) -> TaylorSet:
    symbols = Symbols(values.symbols)
    with torch.no_grad(), SetExecution(symbols, values):
        found = function(enclosed(values))
    if not isinstance(found, EnclosedTensor):
        raise ValueError("the next state does not depend on the state: expected a step of it.")
    return reduced(symbols.latest(found.taylor), columns)


def radius_of(values: TaylorSet) -> tuple[float, float]:
    """Upper bounds of |x − c|₂ over the set, and of its linear part |M e|₂.

    The quadratic part is at most the norm of Q as a matrix (D, p²), as |e ⊗ e|₂ ≤ 1. The rest is at
    most the 2-norm of its component-wise bounds, and the whole at most that of all.
    """
    flat = [part.reshape(values.centre.numel(), -1) for part in values.parts[1:4]]
    linear = spectral_norm(flat[0])
    bends = min(_length(values.bends), spectral_norm(flat[1]) if flat[1].numel() else 0.0)
    whole = above(linear + bends + _length(values.spread))
    return min(whole, _length(values.reach)), linear


def _length(parts: Tensor) -> float:
    return float(upward(torch.linalg.vector_norm(parts)))


def enclose_path(
    step: Step,
    x0: Tensor,
    directions: Tensor,
    radius: float,
    *,
    steps: int,
    order: int,
    columns: int,
    entry: Entry | None = None,
    readout: Entry | None = None,
) -> PathEnclosure:
    """Bounds on one path; see the head of the module.

    The enclosure abstains at the first step at which its bound exceeds `VACUOUS` times the norm of
    its own linear part (the error to first order), or a set becomes unbounded.

    Args:
        step: F_k, written in torch.
        x0: (D,).
        directions: A / radius, (D, p).
        radius: of the ball of e.
        steps: N.
        order: 1 or 2, the order in e that is kept.
        columns: symbols kept from step to step.
        entry: the first state as a function of what the error is in (an observation), which is x0
            then; None: the error is in the state x0 itself.
        readout: φ, states (1, D) -> (1,) or (1, m).
    """
    exact_start, start = (
        start_set(x0, directions[:, :0], 0.0, 2),
        start_set(x0, directions, radius, order),
    )
    reference = propagate(step, exact_start, steps, REFERENCE_COLUMNS, entry)
    sets = propagate(step, start, steps, columns, entry)
    bounds, read = torch.full((2, steps + 1), math.inf, dtype=torch.float64)
    linear = torch.full_like(bounds, math.nan)
    most = 0
    for k in range(steps + 1):
        try:
            here, exact = next(sets), next(reference)
        except Unbounded as problem:
            return PathEnclosure(bounds, linear, read, k, str(problem), most)
        most = max(most, here.symbols)
        bound, first = _distance(here, exact)
        if not bound <= VACUOUS * first:
            reason = (
                f"the bound {bound:.3g} exceeds {VACUOUS:g} times the error to first order, "
                f"{first:.3g}"
            )
            return PathEnclosure(bounds, linear, read, k, reason, most)
        bounds[k], linear[k] = bound, first
        if readout is not None:
            with suppress(Unbounded):
                parts = (_image(readout, part, columns) for part in (here, exact))
                read[k] = _distance(*parts)[0]
    return PathEnclosure(bounds, linear, read, None, "", most)


def _distance(here: TaylorSet, exact: TaylorSet) -> tuple[float, float]:
    """Upper bounds of |x − x0| for x of a set and x0 of that of the reference; of |M e|."""
    size, first = radius_of(here)
    shift = _length(upward((here.centre - exact.centre).abs()))
    return above(size + shift + radius_of(exact)[0]), first
