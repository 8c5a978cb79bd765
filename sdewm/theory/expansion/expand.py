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
from sdewm.sde.contract import require_contract
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
    """Measured and predicted loss at one size of the error, all on the same paths.

    Attributes:
        epsilon: ε, or the pair (ε_d, ε_n) of the sizes of drift and diffusion.
        measured: E L(x^ε).
        predicted: c0 + ε c1 + ε² c2.
        remainder: measured − predicted, computed on each path before averaging.
        change: measured − c0, on the same paths.
        predicted_change: predicted − c0.
    """

    epsilon: Size
    measured: Estimate
    predicted: Estimate
    remainder: Estimate
    change: Estimate
    predicted_change: Estimate


class Expansion:
    """Result of `expand`: the expansion terms, and measurements of E L(x^ε) on the same paths.

    Attributes:
        terms: estimates by name, see `expand`.
    """

    def __init__(self, problem: ExpansionProblem) -> None:
        self._problem = problem
        self._sums = problem.average_terms()
        self.terms: dict[str, Estimate] = {
            name: problem.estimate(self._sums, quantity_weights(combination))
            for name, combination in TERMS.items()
        }

    def predict(self, epsilon: Size) -> Estimate:
        """The prediction c0 + ε c1 + ε² c2 with its standard error.

        Args:
            epsilon: ε, or the pair (ε_d, ε_n) of the sizes of drift and diffusion.

        Raises:
            ValueError: `epsilon` is no finite number or pair.
        """
        (size,) = check_sizes([epsilon])
        return self._problem.estimate(self._sums, prediction_weights(*split_size(size)))

    def measure(self, epsilons: Sequence[Size]) -> list[CurveRow]:
        """E L(x^ε), its prediction and the remainder for each ε, on the paths of the terms.

        The remainder is the mean of L(x^ε) − L(x⁰) − ε(∇L·y) − ½ε²(∇L·w + yᵀ∇²L y), computed on
        each path. Its standard deviation is O(ε³), unlike that of a difference of two averages.

        Args:
            epsilons: sizes ε, or pairs (ε_d, ε_n) of the sizes of drift and diffusion.

        Raises:
            ValueError: `epsilons` does not contain sizes, or an ε is not finite or so small that
                rounding errors exceed the remainder in the dtype used; or the system, the error or
                the loss has changed since `expand` was called.
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

        In the even case (zero drift error, independent driver) the claim is O(ε⁴).

        Raises:
            ValueError: there are fewer than three sizes, or they are not positive and decreasing.
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
        change = sum(abs(self.terms[name].value) for name in ("c1", "c2"))
        return remainder_order(
            sizes,
            [problem.estimate(sums, weights) for weights in unit],
            None if problem.exact else sums.replicates()[:, remainders],
            expected=4 if problem.error.is_even else 3,
            scale=abs(self.terms["c0"].value) + change,
            change=change,
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
    """Expand E L(x^ε_{t1}) to second order in ε, for the Euler–Maruyama scheme (S2, S4).

    Let y = y^η + y^ξ be the first and w the second derivative of the path in ε (η: the diffusion
    error, ξ: the drift error), and evaluate ∇L, ∇²L at the unperturbed end point:

        P = E[∇L·y^η]                Q = ½ E[∇L·w^ηη]               S = E[y^ηᵀ ∇²L y^η]
        P_drift = E[∇L·y^ξ]          Q_drift = ½ E[∇L·(w − w^ηη)]
        S_cross = E[y^ξᵀ ∇²L y^η]    S_drift = E[y^ξᵀ ∇²L y^ξ]
        c0 = E L(x⁰)   c1 = P + P_drift   c2 = Q + S/2 + Q_drift + S_cross + S_drift/2.

    Q and Q_drift include the factor ½; S, S_cross and S_drift do not. y and w follow the recursions
    of S5b along the same Brownian paths, so the expansion is exact for the scheme at any step size.

    Args:
        system: an Itô system as torchsde accepts it.
        error: the perturbation.
        loss: L(y) -> `(B,)`, evaluated row by row, twice differentiable.
        x0: initial state `(D,)`, `(1, D)` or one per path `(paths, D)`.
        t1: end time.
        steps: number of Euler–Maruyama steps.
        paths: number of sample paths; ignored for increments="enumerate".
        seed: root seed; equal arguments and seed give equal results.
        t0: start time.
        dtype: torch.float64 (recommended) or torch.float32.
        device: device of the computation; default: the CPU.
        increments: "gaussian"; "two_point" (±√Δ, one random bit each); "enumerate" (every sign
            pattern once: no sampling error, standard errors 0, at most 2²⁴ patterns).
        chunk: paths between two updates of progress and checkpoint; does not change the result.
        checkpoint: folder in which the sums of a long run are saved; after an interruption the same
            call resumes from them.
        groups: number of equal groups of consecutive paths, such as episodes, that are the
            independent units of all standard errors; default: the paths are independent.

    Returns:
        An Expansion: `.terms`, `.predict(ε)`, `.measure(epsilons)`, `.order(epsilons)`.

    Raises:
        ValueError: an argument is invalid; the message gives its name, value and allowed values.
        FloatingPointError: a trajectory is not finite.

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
    steps = check_count("steps", steps)
    least = 1 if increments == "enumerate" else 2  # one path has no standard error
    paths = check_count("paths", paths, minimum=least)
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
    require_contract(system, states, (start, end), steps, error=error, loss=loss)
    return Expansion(problem)
