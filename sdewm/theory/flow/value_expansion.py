"""The bias of a value function under a wrong initial state, to second order (S20, S14)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from sdewm.base.checks import (
    check_choice,
    check_count,
    check_device,
    check_finite_number,
    check_float_dtype,
    check_interval,
)
from sdewm.base.stats import BatchSums, Estimate
from sdewm.sde.monte_carlo import check_groups
from sdewm.sde.noise import EnumeratedNoise, GaussianNoise, TwoPointNoise
from sdewm.sde.system import StepSystem, System, check_drivers
from sdewm.theory.flow.initial_error import InitialError, draw_errors, initial_states
from sdewm.theory.flow.path_values import LAWS, QUANTITIES, QFunction, ValueProblem
from sdewm.theory.remainder_order import RemainderOrder, remainder_order
from sdewm.theory.variation_step import StateFunction

INCREMENTS = {"gaussian": GaussianNoise, "two_point": TwoPointNoise, "enumerate": EnumeratedNoise}
VALUE_TERMS = {
    "value": ("value",),
    "first": ("first",),
    "second_flow": ("second_flow",),
    "second_curvature": ("second_curvature",),
    "second": ("second_flow", "second_curvature"),
    "bias": ("first", "second_flow", "second_curvature"),
}
PLACE = {name: place for place, name in enumerate(QUANTITIES)}


@dataclass(frozen=True)
class ValueRow:
    """The bias at one scale s, all estimates on the same paths.

    Attributes:
        scale: s.
        measured: E[Q(x^{e_s}) − Q(x⁰)].
        predicted: s·first + s²·second.
        remainder: measured − predicted, formed path by path before averaging.
        absolute_remainder: mean of its absolute value.
    """

    scale: float
    measured: Estimate
    predicted: Estimate
    remainder: Estimate
    absolute_remainder: Estimate


class ValueExpansion:
    """Result of `value_expansion`.

    Attributes:
        terms: estimates by name, see `value_expansion`.
        error_moments: E|e|, E|e|², E|e|³.
    """

    def __init__(self, problem: ValueProblem) -> None:
        self._problem = problem
        sums = problem.average([1.0], "scaled")
        self.terms: dict[str, Estimate] = {
            name: problem.estimate(sums, {PLACE[part]: 1.0 for part in parts})
            for name, parts in VALUE_TERMS.items()
        }
        row = _row(problem, sums, [1.0], 0)
        self.terms["measured"], self.terms["remainder"] = row.measured, row.remainder
        self.terms["absolute_remainder"] = row.absolute_remainder
        self.error_moments = tuple(
            problem.estimate(sums, {PLACE[name]: 1.0}) for name in ("e1", "e2", "e3")
        )
        self._magnitude = problem.estimate(sums, {PLACE["magnitude"]: 1.0}).value

    def measure(self, scales: Sequence[float], law: str = "scaled") -> list[ValueRow]:
        """The bias, its prediction s·first + s²·second and the remainder for errors e_s.

        E|e_s| = s E|e| in both laws, so that the prediction is that in powers of δ = E|e_s|:

            "scaled"   e_s = s e: the law keeps its shape. The remainder is O(s³).
            "rare"     e_s = e with probability s, else 0. The bias is then exactly s times that
                       of e, so that the remainder s·(measured − first) − s²·second is of order s
                       as soon as measured ≠ first: what S14 says of an expansion in E|e| alone.

        Under "rare" the choice between e and 0 is averaged out exactly on every path.

        Raises:
            ValueError: scales that are not finite numbers, or that are no probabilities under
                "rare"; an unknown law.
        """
        given = _check_scales(scales, law)
        sums = self._problem.average(given, law)
        return [_row(self._problem, sums, given, i) for i in range(len(given))]

    def order(
        self, scales: Sequence[float] = (1.0, 0.5, 0.25, 0.125), law: str = "scaled"
    ) -> RemainderOrder:
        """Order in s of the mean absolute remainder, with a verdict on "it is O(s³)" (rule c).

        The absolute value keeps what cancels in the mean: for a symmetric law of e the mean of the
        remainder is of higher order than the remainder of a path. With `groups` the order is the
        mean of the groups' own (see `remainder_order`).

        Raises:
            ValueError: see `measure`; fewer than three scales, or scales that are not positive and
                decreasing.
        """
        given, problem = _check_scales(scales, law), self._problem
        falling = all(b < a for a, b in zip(given, given[1:], strict=False))
        if len(given) < 3 or not falling or given[-1] <= 0:
            raise ValueError(f"scales={given}: expected at least three, positive and decreasing.")
        sums = problem.average(given, law)
        size = self._magnitude + sum(abs(self.terms[name].value) for name in ("first", "second"))
        return remainder_order(
            given,
            [_row(problem, sums, given, i).absolute_remainder for i in range(len(given))],
            None if problem.exact else sums.replicates()[:, len(QUANTITIES) + 2 :: 3],
            expected=3,
            scale=size,
            rounding=torch.finfo(problem.states.dtype).eps,
            by_group=problem.grouped,
        )


def value_expansion(
    system: System | StepSystem,
    q_function: QFunction,
    x0: torch.Tensor,
    error: InitialError,
    *,
    t1: float,
    steps: int,
    paths: int = 100_000,
    seed: int = 0,
    t0: float = 0.0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    increments: str = "gaussian",
    chunk: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    groups: int | None = None,
) -> ValueExpansion:
    """How a wrong initial state biases Q at time t1, for the Euler scheme (S20, Cor. 4.2).

    x⁰ starts at x0 and x^e at x0 + e, along the same Brownian path; e does not depend on it. With y
    and w the first and second derivative of the flow along e (`FlowVariation`) and Q's derivatives
    at x⁰, path by path Q(x^e) − Q(x⁰) = ∇Q·y + ½(∇Q·w + yᵀ∇²Q y) + O(|e|³), and on average

        value = E Q(x⁰)                      first = E[∇Q·y]
        second_flow = ½ E[∇Q·w]              second_curvature = ½ E[yᵀ ∇²Q y]
        second = second_flow + second_curvature          bias = first + second
        measured = E[Q(x^e) − Q(x⁰)]         remainder = measured − bias, path by path
        absolute_remainder = E|Q(x^e) − Q(x⁰) − ∇Q·y − ½(∇Q·w + yᵀ∇²Q y)|.

    All are estimated on the same paths and include their ½. If E e = 0, the mean of the first order
    is 0, and the second is ½ tr(Σ_e E[∂φᵀ∇²Q ∂φ + ∇Q·∂²φ]), φ the flow and Σ_e the covariance.

    Args:
        system: D components, in the Itô reading: any object that torchsde accepts, or one given by
            its step (`f_and_g_prod`) with its number of drivers as `drivers`.
        q_function: Q(x) `(B, D)` -> `(B,)`, row by row, twice differentiable; the action is held
            fixed inside it. If it is recomputed, pass x -> Q(x, π(x)).
        x0: initial state `(D,)`, `(1, D)` or one per path `(paths, D)`.
        error: e, a vector `(D,)`; samples `(B, D)`, path i taking row i mod B; or a sampler (count,
            generator) -> `(count, D)`, called once.
        t1: end time.
        steps: number of Euler–Maruyama steps.
        paths: number of sample paths; ignored under enumeration.
        seed: root seed; the result is a function of the arguments and of it only.
        t0: start time.
        dtype: torch.float64 (theory) or torch.float32.
        device: where to compute; default the CPU.
        increments: "gaussian"; "two_point" (±√Δ); "enumerate": every sign pattern with every row
            of `error` once, so that nothing is sampled.
        chunk: paths between two updates of progress and checkpoint; changes no digit of the result.
        checkpoint: folder for the sums of a long run; when interrupted, the same call goes on from
            there.
        groups: equal groups of consecutive paths that are the units of all standard errors, such as
            episodes with initial states of their own; default: paths are independent.

    Returns:
        A ValueExpansion: `.terms`, `.error_moments`, `.measure(scales)`, `.order(scales)`.

    Raises:
        ValueError: names the argument, what was given and what is allowed.
        FloatingPointError: trajectories leave the finite numbers.

    >>> from sdewm.sde.examples import CubicFlow
    >>> case, error = CubicFlow(), torch.tensor([[0.1], [-0.1]], dtype=torch.float64)
    >>> result = value_expansion(case, case.loss, case.x0, error, t1=case.t1, steps=70,
    ...                          paths=1000)
    >>> {name: round(result.terms[name].value, 8) for name in ("first", "bias", "measured")}
    {'first': 0.0, 'bias': -0.00211636, 'measured': -0.00211481}
    >>> [result.order(law=law).verdict.outcome for law in ("scaled", "rare")]
    ['holds', 'fails']
    """
    check_choice("increments", increments, INCREMENTS)
    check_float_dtype("dtype", dtype)
    start, end = check_interval(t0, t1)
    steps, paths = check_count("steps", steps), check_count("paths", paths)
    where = check_device(device)
    states = initial_states(x0, paths).to(where, dtype)
    if not callable(q_function):
        raise ValueError(f"q_function={q_function!r}: expected a function (B, D) -> (B,).")
    drivers = check_drivers(system, torch.tensor(start, dtype=dtype, device=where), states[:2])
    noise = INCREMENTS[increments](drivers=drivers, steps=steps, t0=start, t1=end, seed=seed)
    if noise.paths_limit is not None and (callable(error) or len(states) > 1):
        name = "error is a sampler" if callable(error) else "x0 has one row per path"
        raise ValueError(f"{name}; increments='enumerate' takes a single x0 and a tensor error.")
    samples = isinstance(error, torch.Tensor) and error.dim() == 2
    rows = max(len(error), 1) if samples else paths if callable(error) else 1  # type: ignore[arg-type]
    errors = draw_errors(error, rows, states, seed)
    batches = check_groups(groups, paths, sampled=noise.paths_limit is None)
    paths = paths if noise.paths_limit is None else noise.paths_limit * len(errors)
    problem = ValueProblem(
        system,
        StateFunction("q_function", q_function),
        states,
        errors,
        noise,
        paths,
        chunk,
        checkpoint,
        batches,
        grouped=groups is not None,
    )
    problem.q_function(states[:2])  # checks it before any work
    return ValueExpansion(problem)


def _row(problem: ValueProblem, sums: BatchSums, scales: Sequence[float], i: int) -> ValueRow:
    s, start = scales[i], len(QUANTITIES) + 3 * i
    predicted = {"first": s, "second_flow": s * s, "second_curvature": s * s}
    weights = ({start: 1.0}, {PLACE[n]: w for n, w in predicted.items()}, {start + 1: 1.0})
    estimates = [problem.estimate(sums, each) for each in (*weights, {start + 2: 1.0})]
    return ValueRow(s, *estimates)


def _check_scales(scales: object, law: object) -> list[float]:
    check_choice("law", law, LAWS)
    if not isinstance(scales, Iterable) or isinstance(scales, str):
        raise ValueError(f"scales={scales!r}: expected a sequence of numbers, such as [1.0, 0.5].")
    given = [check_finite_number("scales contains a value", scale) for scale in scales]
    if not given:
        raise ValueError("scales=[]: expected at least one scale.")
    if law == "rare" and not all(0 <= scale <= 1 for scale in given):
        raise ValueError(f"scales={given}: law='rare' takes probabilities, between 0 and 1.")
    return given
