"""Bias of a value function due to an error in the initial state, to second order (S20, S14)."""

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
from sdewm.base.smoothness import rounding_error
from sdewm.base.stats import BatchSums, Estimate
from sdewm.sde.contract import require_contract
from sdewm.sde.monte_carlo import check_groups
from sdewm.sde.noise import EnumeratedNoise, GaussianNoise, TwoPointNoise
from sdewm.sde.system import StepSystem, System, check_drivers
from sdewm.theory.flow.initial_error import InitialError, check_samples, draw_errors, initial_states
from sdewm.theory.flow.path_values import LAWS, QUANTITIES, QFunction, ValueProblem
from sdewm.theory.remainder_order import RemainderOrder, remainder_order
from sdewm.theory.variation_step import StateFunction

INCREMENTS = {"gaussian": GaussianNoise, "two_point": TwoPointNoise, "enumerate": EnumeratedNoise}
FEW = 64  # initial states at which the rounding error of Q is looked at
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
    """Measured and predicted bias at one scale s, all on the same paths.

    Attributes:
        scale: s.
        measured: E[Q(x^{e_s}) − Q(x⁰)].
        predicted: s·first + s²·second.
        remainder: measured − predicted, computed on each path before averaging.
        absolute_remainder: mean of the absolute value of the pathwise remainder.
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
        problem: the checked arguments.
    """

    def __init__(self, problem: ValueProblem) -> None:
        self.problem = problem
        _ = problem.watch  # before anything can change
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

        Both laws have E|e_s| = s E|e|, so the prediction is an expansion in δ = E|e_s|:

            "scaled"   e_s = s e: the law of e is scaled. The remainder is O(s³).
            "rare"     e_s = e with probability s, else 0. The bias is exactly s times that of e.
                       The remainder s·(measured − first) − s²·second is therefore of order s if
                       measured ≠ first. An expansion in E|e| alone is not possible (S14).

        Under "rare" the choice between e and 0 is averaged exactly on every path.

        Args:
            scales: the scales s.
            law: "scaled" or "rare".

        Raises:
            ValueError: a scale is not a finite number, or not a probability under "rare"; the law
                is unknown; or the system or Q has changed since.
        """
        given = _check_scales(scales, law)
        sums = self._averaged_again(given, law)
        return [_row(self.problem, sums, given, i) for i in range(len(given))]

    def order(
        self, scales: Sequence[float] = (1.0, 0.5, 0.25, 0.125), law: str = "scaled"
    ) -> RemainderOrder:
        """Order in s of the mean absolute remainder, with a verdict on "it is O(s³)" (rule c).

        The absolute value is used because remainders can cancel in the mean: for a symmetric law of
        e the mean remainder is of higher order than the remainder of a path. With `groups` the
        order is the mean of the orders of the single groups (see `remainder_order`).

        Raises:
            ValueError: see `measure`; or there are fewer than three scales, or they are not
                positive and decreasing.
        """
        given, problem = _check_scales(scales, law), self.problem
        falling = all(b < a for a, b in zip(given, given[1:], strict=False))
        if len(given) < 3 or not falling or given[-1] <= 0:
            raise ValueError(
                f"scales={given}: expected at least three positive scales, decreasing."
            )
        sums = self._averaged_again(given, law)
        change = sum(abs(self.terms[name].value) for name in ("first", "second"))
        return remainder_order(
            given,
            [_row(problem, sums, given, i).absolute_remainder for i in range(len(given))],
            None if problem.exact else sums.replicates()[:, len(QUANTITIES) + 2 :: 3],
            expected=3,
            scale=self._magnitude + change,
            change=change,
            rounding=torch.finfo(problem.states.dtype).eps,
            loss_rounding=rounding_error(problem.q_function, problem.states[:FEW]),
            by_group=problem.grouped,
        )

    def _averaged_again(self, scales: list[float], law: str) -> BatchSums:
        self.problem.watch.require_unchanged(
            "the system or q_function", "call value_expansion again"
        )
        return self.problem.average(scales, law)


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
    """Bias of Q at time t1 due to an error in the initial state (S20, Cor. 4.2).

    The paths x⁰ from x0 and x^e from x0 + e follow the Euler–Maruyama scheme along the same
    Brownian path, and e is independent of it. Let y and w be the first and second derivative of the
    flow along e (`FlowVariation`), and evaluate the derivatives of Q at x⁰. On each path
    Q(x^e) − Q(x⁰) = ∇Q·y + ½(∇Q·w + yᵀ∇²Q y) + O(|e|³). The averages are

        value = E Q(x⁰)                      first = E[∇Q·y]
        second_flow = ½ E[∇Q·w]              second_curvature = ½ E[yᵀ ∇²Q y]
        second = second_flow + second_curvature          bias = first + second
        measured = E[Q(x^e) − Q(x⁰)]         remainder = measured − bias, on each path
        absolute_remainder = E|Q(x^e) − Q(x⁰) − ∇Q·y − ½(∇Q·w + yᵀ∇²Q y)|.

    All terms are estimated on the same paths and include the factor ½. If E e = 0 and e is
    independent of x0, first = 0 and second = ½ tr(Σ_e E[∂φᵀ∇²Q ∂φ + ∇Q·∂²φ]), with φ the flow and
    Σ_e the covariance of e.

    Args:
        system: an Itô system with D components, as torchsde accepts it, or a system given by its
            step (`f_and_g_prod`) with its number of drivers as `drivers`.
        q_function: Q(x) `(B, D)` -> `(B,)`, evaluated row by row, twice differentiable. The action
            is held fixed inside it; to differentiate through the policy, pass x -> Q(x, π(x)).
        x0: initial state `(D,)`, `(1, D)` or one per path `(paths, D)`.
        error: e: a vector `(D,)`; samples `(B, D)`, each as likely as the others, of which path i
            takes row i mod B; or a sampler (count, generator) -> `(count, D)`, called once.
        t1: end time.
        steps: number of Euler–Maruyama steps.
        paths: number of sample paths; ignored for increments="enumerate".
        seed: root seed; equal arguments and seed give equal results.
        t0: start time.
        dtype: torch.float64 (recommended) or torch.float32.
        device: device of the computation; default: the CPU.
        increments: "gaussian"; "two_point" (±√Δ); "enumerate": every sign pattern combined with
            every row of `error` once, without sampling error.
        chunk: paths between two updates of progress and checkpoint; does not change the result.
        checkpoint: folder in which the sums of a long run are saved; after an interruption the same
            call resumes from them.
        groups: number of equal groups of consecutive paths, such as episodes, that are the
            independent units of all standard errors; default: the paths are independent.

    Returns:
        A ValueExpansion: `.terms`, `.error_moments`, `.measure(scales)`, `.order(scales)`.

    Raises:
        ValueError: an argument is invalid; the message gives its name, value and allowed values.
        FloatingPointError: a trajectory is not finite.

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
    steps = check_count("steps", steps)
    least = 1 if increments == "enumerate" else 2  # one path has no standard error
    paths = check_count("paths", paths, minimum=least)
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
    if samples and noise.paths_limit is None:
        check_samples(rows, paths)
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
    interval = (start, end)
    require_contract(system, states, interval, steps, loss=q_function, loss_name="q_function")
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
        raise ValueError(f"scales={given}: law='rare' expects probabilities, between 0 and 1.")
    return given
