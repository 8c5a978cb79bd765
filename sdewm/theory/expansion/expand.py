"""The small-noise expansion of the expected loss: E L(x^ε) = c0 + ε c1 + ε² c2 + O(ε³) (S2, S4)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sdewm.base.checks import (
    check_choice,
    check_count,
    check_device,
    check_float_dtype,
    check_interval,
)
from sdewm.base.stats import Estimate
from sdewm.sde.monte_carlo import check_groups
from sdewm.sde.noise import EnumeratedNoise, GaussianNoise, TwoPointNoise
from sdewm.sde.system import System
from sdewm.theory.expansion.path_terms import ExpansionProblem, Loss, Size, check_sizes, split_size
from sdewm.theory.expansion.perturbation import Perturbation, count_drivers
from sdewm.theory.expansion.terms import QUANTITIES, TERMS, prediction_weights, quantity_weights
from sdewm.theory.flow.initial_error import initial_states
from sdewm.theory.remainder_order import RemainderOrder, remainder_order
from sdewm.theory.variation_step import StateFunction

INCREMENTS = {"gaussian": GaussianNoise, "two_point": TwoPointNoise, "enumerate": EnumeratedNoise}


@dataclass(frozen=True)
class CurveRow:
    """One size of the error, all estimates on the same paths.

    Attributes:
        epsilon: ε, or the pair (ε_d, ε_n) of the sizes of drift and diffusion.
        measured: E L(x^ε).
        predicted: c0 + ε c1 + ε² c2.
        remainder: measured − predicted, formed path by path before averaging.
        change: measured − c0, of the same paths.
        predicted_change: predicted − c0.
    """

    epsilon: Size
    measured: Estimate
    predicted: Estimate
    remainder: Estimate
    change: Estimate
    predicted_change: Estimate


class Expansion:
    """Result of `expand`: the terms, and what is needed to measure E L(x^ε) on the same paths."""

    def __init__(self, problem: ExpansionProblem) -> None:
        self._problem = problem
        self._sums = problem.average_terms()
        self.terms: dict[str, Estimate] = {
            name: problem.estimate(self._sums, quantity_weights(combination))
            for name, combination in TERMS.items()
        }

    def predict(self, epsilon: Size) -> Estimate:
        """c0 + ε c1 + ε² c2 with its standard error.

        A pair gives the sizes (ε_d, ε_n) of drift and diffusion.
        """
        (size,) = check_sizes([epsilon])
        return self._problem.estimate(self._sums, prediction_weights(*split_size(size)))

    def measure(self, epsilons: Sequence[Size]) -> list[CurveRow]:
        """E L(x^ε), its prediction and the remainder for each ε, on the paths of the terms.

        The remainder is the mean of L(x^ε) − L(x⁰) − ε(∇L·y) − ½ε²(∇L·w + yᵀ∇²L y) path by path,
        whose standard deviation is O(ε³), never a difference of separately averaged numbers.

        Raises:
            ValueError: anything but sizes; an ε that is not finite, or so small that rounding
                drowns the remainder in the dtype.
        """
        given = check_sizes(epsilons)
        sums = self._problem.average_curve(given)
        unit, first = np.eye(sums.quantities), len(QUANTITIES)
        zeroth = prediction_weights(0.0, 0.0)
        base = np.concatenate((zeroth, np.zeros(sums.quantities - first)))
        rows = []
        for i, epsilon in enumerate(given):
            measured, predicted = unit[first + i], prediction_weights(*split_size(epsilon))
            remainder = unit[first + len(given) + i]
            weights = (measured, predicted, remainder, measured - base, predicted - zeroth)
            estimates = [self._problem.estimate(sums, weight) for weight in weights]
            rows.append(CurveRow(epsilon, *estimates))
        return rows

    def order(self, epsilons: Sequence[float] = (0.2, 0.1, 0.05, 0.025)) -> RemainderOrder:
        """Order of the remainder in ε with an interval, and a verdict on "it is O(ε³)" (rule c).

        In the even case (zero drift, independent driver) the statement is O(ε⁴).

        Raises:
            ValueError: fewer than three sizes, or sizes that are not positive and decreasing.
        """
        given = check_sizes(epsilons)
        sizes = [size for size in given if isinstance(size, float)]
        falling = all(b < a for a, b in zip(sizes, sizes[1:], strict=False))
        if len(sizes) != len(given) or len(sizes) < 3 or not falling or sizes[-1] <= 0:
            raise ValueError(
                f"epsilons={given}: expected at least three positive sizes, decreasing."
            )
        problem, sums = self._problem, self._problem.average_curve(sizes)
        remainders = slice(sums.quantities - len(sizes), None)
        unit = np.eye(sums.quantities)[remainders]
        return remainder_order(
            sizes,
            [problem.estimate(sums, weights) for weights in unit],
            None if problem.exact else sums.replicates()[:, remainders],
            expected=4 if problem.error.is_even else 3,
            scale=sum(abs(self.terms[name].value) for name in ("c0", "c1", "c2")),
            rounding=torch.finfo(problem.dtype).eps,
        )


def expand(
    system: System,
    error: Perturbation,
    loss: Loss,
    x0: torch.Tensor,
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
) -> Expansion:
    """Terms of the expansion of E L(x^ε_{t1}) in the size ε of the error, for the Euler scheme.

    With y = y^η + y^ξ the first and w the second derivative of the path in ε (η: the diffusion
    error, ξ: the drift error), and ∇L, ∇²L at the unperturbed end point (S4):

        P = E[∇L·y^η]                Q = ½ E[∇L·w^ηη]               S = E[y^ηᵀ ∇²L y^η]
        P_drift = E[∇L·y^ξ]          Q_drift = ½ E[∇L·(w − w^ηη)]
        S_cross = E[y^ξᵀ ∇²L y^η]    S_drift = E[y^ξᵀ ∇²L y^ξ]
        c0 = E L(x⁰)   c1 = P + P_drift   c2 = Q + S/2 + Q_drift + S_cross + S_drift/2.

    S, S_cross and S_drift carry no ½; Q and Q_drift do. y and w follow the recursions of S5b along
    the same Brownian paths, so that the expansion is exact for the scheme, whatever the step.

    Args:
        system: any object that torchsde accepts, in the Itô reading.
        error: the perturbation.
        loss: L(y) -> `(B,)`, row by row, twice differentiable.
        x0: initial state `(D,)`, `(1, D)` or one per path `(paths, D)`.
        t1: end time.
        steps: number of Euler–Maruyama steps.
        paths: number of sample paths; ignored under enumeration.
        seed: root seed; the result is a function of the arguments and of it only.
        t0: start time.
        dtype: torch.float64 (theory) or torch.float32.
        device: where to compute; default the CPU.
        increments: "gaussian"; "two_point" (±√Δ, one random bit each); "enumerate" (every sign
            pattern once: no sampling error, standard errors 0, at most 2²⁴ patterns).
        chunk: paths between two updates of progress and checkpoint; changes no digit of the result.
        checkpoint: folder for the sums of a long run; when interrupted, the same call goes on from
            there.
        groups: equal groups of consecutive paths that are the units of all standard errors, such as
            episodes with initial states of their own; default: paths are independent.

    Returns:
        An Expansion: `.terms`, `.predict(ε)`, `.measure(epsilons)`, `.order(epsilons)`.

    Raises:
        ValueError: names the argument, what was given and what is allowed.
        FloatingPointError: trajectories leave the finite numbers.

    >>> class Walk:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -0.8 * y
    ...     def g(self, t, y): return torch.full_like(y, 0.5)
    >>> sigma, sigma_bar = (lambda t, y, c=c: torch.full_like(y, c) for c in (0.4, 0.6))
    >>> error = Perturbation(drift=sigma, diffusion=sigma_bar)
    >>> x0 = torch.tensor([1.2], dtype=torch.float64)
    >>> result = expand(Walk(), error, lambda y: y[:, 0] ** 2, x0, t1=1.5, steps=8,
    ...                 increments="enumerate")
    >>> {name: round(result.terms[name].value, 6) for name in ("P", "S_drift", "c2")}
    {'P': 0.375304, 'S_drift': 0.264635, 'c2': 0.3575}
    """
    check_choice("increments", increments, INCREMENTS)
    check_float_dtype("dtype", dtype)
    start, end = check_interval(t0, t1)
    steps, paths = check_count("steps", steps), check_count("paths", paths)
    where = check_device(device)
    states = initial_states(x0, paths).to(where, dtype)
    if increments == "enumerate" and len(states) > 1:
        raise ValueError(
            "x0 has one row per path; increments='enumerate' takes a single initial state (D,)."
        )
    time = torch.tensor(start, dtype=dtype, device=where)
    if not callable(loss):
        raise ValueError(f"loss={loss!r}: expected a function (B, D) -> (B,).")
    if not isinstance(error, Perturbation):
        raise ValueError(f"error={type(error).__name__}: expected a sdewm.Perturbation.")
    own = count_drivers(system, error, time, states[:2])
    noise = INCREMENTS[increments](drivers=sum(own), steps=steps, t0=start, t1=end, seed=seed)
    batches = check_groups(groups, paths, sampled=noise.paths_limit is None)
    problem = ExpansionProblem(
        system=system,
        error=error,
        loss=StateFunction("loss", loss),
        states=states,
        noise=noise,
        drivers=own[0],
        paths=noise.paths_limit or paths,
        chunk=chunk,
        checkpoint=checkpoint,
        batches=batches,
    )
    problem.loss(states[:2])  # checks it before any work
    return Expansion(problem)
