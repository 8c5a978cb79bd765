"""The small-noise expansion of the expected loss: E L(x^ε) = c0 + ε c1 + ε² c2 + O(ε³) (S2, S4)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch

from sdewm.base.checks import check_choice, check_count, check_device, check_float_dtype, check_interval, check_output
from sdewm.base.stats import BatchSums, Estimate
from sdewm.base.taylor import second_order
from sdewm.sde.monte_carlo import accumulate, tile_size
from sdewm.sde.noise import EnumeratedNoise, GaussianNoise, GridNoise, TwoPointNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import System
from sdewm.theory.order import RemainderOrder, remainder_order
from sdewm.theory.perturbation import PerturbedSystem, Perturbation, count_drivers
from sdewm.theory.variation import ETA, XI, VariationSystem

Loss = Callable[[torch.Tensor], torch.Tensor]
INCREMENTS = {"gaussian": GaussianNoise, "two_point": TwoPointNoise, "enumerate": EnumeratedNoise}
_RECORD_FROM = 100  # evaluations of the variation step from which recording it pays
SMALLEST_EPSILON = {torch.float64: 1e-4, torch.float32: 2e-2}  # below, rounding drowns second differences (rule 6)

# What is averaged over paths; Q_drift is split because its parts scale differently in the two error sizes.
QUANTITIES = ("c0", "P", "Q", "S", "P_drift", "Q_drift_drift", "Q_drift_diffusion", "S_cross", "S_drift")
# Each term as a combination of the quantities (S4, equation 2).
TERMS: dict[str, dict[str, float]] = {
    "c0": {"c0": 1},
    "P": {"P": 1},
    "Q": {"Q": 1},
    "S": {"S": 1},
    "P_drift": {"P_drift": 1},
    "Q_drift": {"Q_drift_drift": 1, "Q_drift_diffusion": 1},
    "S_cross": {"S_cross": 1},
    "S_drift": {"S_drift": 1},
    "c1": {"P": 1, "P_drift": 1},
    "c2": {"Q": 1, "S": 0.5, "Q_drift_drift": 1, "Q_drift_diffusion": 1, "S_cross": 1, "S_drift": 0.5},
}


@dataclass(frozen=True)
class CurveRow:
    """One size of the error, all estimates on the same paths.

    Attributes:
        epsilon: ε, or the pair (ε_d, ε_n) of the sizes of drift and diffusion.
        measured: E L(x^ε).
        predicted: c0 + ε c1 + ε² c2.
        remainder: measured − predicted, formed path by path before averaging.
    """

    epsilon: float | tuple[float, float]
    measured: Estimate
    predicted: Estimate
    remainder: Estimate


def quantity_weights(combination: dict[str, float]) -> np.ndarray:
    """The combination as a vector over QUANTITIES."""
    return np.array([combination.get(name, 0.0) for name in QUANTITIES])


def prediction_weights(drift_size: float, diffusion_size: float) -> np.ndarray:
    """c0 + c1 + c2 at sizes ε_d of the drift and ε_n of the diffusion, as weights over QUANTITIES (S4, last bullet)."""
    d, n = drift_size, diffusion_size
    first = {"c0": 1.0, "P": n, "P_drift": d}
    second = {"Q": n * n, "S": 0.5 * n * n, "Q_drift_drift": d * d, "S_drift": 0.5 * d * d}
    return quantity_weights(first | second | {"Q_drift_diffusion": d * n, "S_cross": d * n})


class Expansion:
    """Result of `expand`: the terms, and what is needed to measure E L(x^ε) on the same paths."""

    def __init__(self, problem: _Problem) -> None:
        self._problem = problem
        self._sums = problem.run("terms", len(QUANTITIES), problem.path_quantities)
        self.terms: dict[str, Estimate] = {
            name: problem.estimate(self._sums, quantity_weights(combination)) for name, combination in TERMS.items()
        }

    def predict(self, epsilon: float | tuple[float, float]) -> Estimate:
        """c0 + ε c1 + ε² c2 with its standard error; a pair gives the sizes (ε_d, ε_n) of drift and diffusion."""
        return self._problem.estimate(self._sums, prediction_weights(*_sizes(epsilon)))

    def measure(self, epsilons: Sequence[float | tuple[float, float]]) -> list[CurveRow]:
        """E L(x^ε), its prediction and the remainder for each ε, on the paths of the terms.

        The remainder is the mean of L(x^ε) − L(x⁰) − ε(∇L·y) − ½ε²(∇L·w + yᵀ∇²L y) path by path, whose standard
        deviation is O(ε³), never a difference of separately averaged numbers.

        Raises:
            ValueError: an ε that is not finite, or so small that rounding drowns the remainder in the dtype.
        """
        given = list(epsilons)
        sums = self._curve(given)
        unit = np.eye(sums.sums.shape[1])
        first = len(QUANTITIES)
        rows = []
        for i, epsilon in enumerate(given):
            weights = (unit[first + i], prediction_weights(*_sizes(epsilon)), unit[first + len(given) + i])
            rows.append(CurveRow(epsilon, *(self._problem.estimate(sums, weight) for weight in weights)))
        return rows

    def _curve(self, epsilons: list[float | tuple[float, float]]) -> BatchSums:
        """Sums of QUANTITIES, of L(x^ε) for each ε and of the remainder for each ε."""
        if not epsilons:
            raise ValueError("epsilons=[]: expected at least one size.")
        sizes = [_sizes(epsilon) for epsilon in epsilons]
        for epsilon, pair in zip(epsilons, sizes, strict=True):
            self._problem.check_size(epsilon, pair)
        evaluate = partial(self._problem.curve_quantities, sizes=sizes)
        return self._problem.run(f"curve at {epsilons}", len(QUANTITIES) + 2 * len(sizes), evaluate)

    def order(self, epsilons: Sequence[float] = (0.2, 0.1, 0.05, 0.025)) -> RemainderOrder:
        """Order of the remainder in ε with an interval, and the verdict on "the remainder is O(ε³)" (rule c).

        In the even case (zero drift, independent driver) the statement is O(ε⁴).

        Raises:
            ValueError: fewer than three sizes, or sizes that are not positive and decreasing.
        """
        sizes = [float(epsilon) for epsilon in epsilons]
        if len(sizes) < 3 or any(not b > 0 or b >= a for a, b in zip(sizes, sizes[1:], strict=False)):
            raise ValueError(f"epsilons={sizes}: expected at least three positive sizes, decreasing.")
        problem, sums = self._problem, self._curve(list(sizes))
        remainders = slice(sums.sums.shape[1] - len(sizes), None)
        unit = np.eye(sums.sums.shape[1])[remainders]
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
) -> Expansion:
    """Terms of the expansion of E L(x^ε_{t1}) in the size ε of the error, at the level of the Euler–Maruyama scheme.

    With y = y^η + y^ξ the first and w the second derivative of the path in ε (η: the diffusion error, ξ: the drift
    error), and ∇L, ∇²L at the unperturbed end point (S4):

        P = E[∇L·y^η]                Q = ½ E[∇L·w^ηη]               S = E[y^ηᵀ ∇²L y^η]
        P_drift = E[∇L·y^ξ]          Q_drift = ½ E[∇L·(w − w^ηη)]
        S_cross = E[y^ξᵀ ∇²L y^η]    S_drift = E[y^ξᵀ ∇²L y^ξ]
        c0 = E L(x⁰)   c1 = P + P_drift   c2 = Q + S/2 + Q_drift + S_cross + S_drift/2.

    S, S_cross and S_drift carry no ½; Q and Q_drift do. y and w follow the recursions of S5b along the same Brownian
    paths, so that the expansion is exact for the scheme, whatever the step.

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
        increments: "gaussian"; "two_point" (±√Δ, one random bit each); "enumerate" (every sign pattern once: no
            sampling error, standard errors 0, at most 2²⁴ patterns).
        chunk: paths between two updates of progress and checkpoint; changes no digit of the result.
        checkpoint: file for the sums of a long run; when interrupted, the same call goes on from it.

    Returns:
        An Expansion: `.terms`, `.predict(ε)`, `.measure(epsilons)`, `.order(epsilons)`.

    Raises:
        ValueError: names the argument, what was given and what is allowed.
        FloatingPointError: trajectories leave the finite numbers.

    >>> class Walk:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -0.8 * y
    ...     def g(self, t, y): return torch.full_like(y, 0.5)
    >>> error = Perturbation(drift=lambda t, y: torch.full_like(y, 0.4), diffusion=lambda t, y: torch.full_like(y, 0.6))
    >>> result = expand(Walk(), error, lambda y: y[:, 0] ** 2, torch.tensor([1.2]), t1=1.5, steps=8,
    ...                 increments="enumerate")
    >>> {name: round(term.value, 6) for name, term in result.terms.items() if name in ("P", "S_drift", "c2")}
    {'P': 0.375304, 'S_drift': 0.264635, 'c2': 0.3575}
    """
    check_choice("increments", increments, INCREMENTS)
    check_float_dtype("dtype", dtype)
    start, end = check_interval(t0, t1)
    steps, paths = check_count("steps", steps), check_count("paths", paths)
    where = check_device(device)
    states = _check_x0(x0, paths, increments).to(where, dtype)
    time = torch.tensor(start, dtype=dtype, device=where)
    if not callable(loss):
        raise ValueError(f"loss={loss!r}: expected a function (B, D) -> (B,).")
    if not isinstance(error, Perturbation):
        raise ValueError(f"error={type(error).__name__}: expected a sdewm.Perturbation.")
    own = count_drivers(system, error, time, states[:2])
    noise = INCREMENTS[increments](drivers=sum(own), steps=steps, t0=start, t1=end, seed=seed)
    exact = noise.paths_limit is not None
    problem = _Problem(system, error, loss, states, noise, own[0], noise.paths_limit or paths, exact, chunk, checkpoint)
    problem.path_losses(states[:2])
    return Expansion(problem)


@dataclass(frozen=True)
class _Problem:
    """The checked arguments of `expand`, and the path-wise quantities to be averaged."""

    system: System
    error: Perturbation
    loss: Loss
    states: torch.Tensor  # (1, D) or (paths, D)
    noise: GridNoise
    drivers: int
    paths: int
    exact: bool
    chunk: int | None
    checkpoint: str | os.PathLike[str] | None

    @property
    def dtype(self) -> torch.dtype:
        return self.states.dtype

    @property
    def tile(self) -> int:
        return min(tile_size(self.states.device), self.paths)

    @cached_property
    def variation(self) -> VariationSystem:
        evaluations = self.noise.steps * -(-self.paths // self.tile)
        return VariationSystem(self.system, self.error, self.drivers, fused=evaluations > _RECORD_FROM)

    def run(self, label: str, quantities: int, evaluate: Callable[[int, int], torch.Tensor]) -> BatchSums:
        noise = self.noise
        key = (
            f"{label} of {type(self.system).__name__}, {type(noise).__name__}, seed {noise.seed}, {noise.steps} steps "
            f"on [{noise.t0}, {noise.t1}], {self.paths} paths, {self.dtype}, driver {self.error.driver}"
        )
        return accumulate(
            evaluate,
            quantities,
            self.paths,
            label=label,
            tile=self.tile,
            chunk=self.chunk,
            checkpoint=self.checkpoint,
            key=key,
        )

    def estimate(self, sums: BatchSums, weights: np.ndarray) -> Estimate:
        padded = np.concatenate((weights, np.zeros(sums.sums.shape[1] - len(weights))))
        return sums.estimate(padded, exact=self.exact)

    def start(self, first: int) -> torch.Tensor:
        """Initial states of a whole tile from path `first` on; past the last path the last state is repeated."""
        if self.states.shape[0] == 1:
            return self.states.expand(self.tile, -1)
        return self.states[torch.arange(first, first + self.tile).clamp_(max=self.paths - 1)]

    def path_losses(self, states: torch.Tensor) -> torch.Tensor:
        """L `(B,)`, checked."""
        losses = check_output("loss", self.loss(states), (states.shape[0],), like=states)
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            row = int(bad[0, 0])
            raise ValueError(f"loss returned {float(losses[row])} for the state {states[row].tolist()}; expected finite.")
        return losses

    def path_quantities(self, first: int, last: int) -> torch.Tensor:
        """QUANTITIES `(last − first, 9)`. Whole tiles are computed, so that every step has one batch size."""
        stacked = self.variation.initial(self.start(first))
        end = solve_path(self.variation, stacked, self.noise, first=first)[:, 0]
        x, firsts, seconds = self.variation.split(end)
        losses = self.path_losses(x)
        zero = torch.zeros_like(x)
        names = [ETA, XI]
        directions = [firsts.get(name, zero) for name in names]
        pairs = [(0, 0), (0, 1), (1, 1)]
        directions += [seconds.get((names[a], names[b]), zero) for a, b in pairs]
        with torch.no_grad():
            _, slopes, curvatures = second_order(
                lambda y: (self.loss(y),), (x,), [(d,) for d in directions], {pair: (zero,) for pair in pairs}
            )
        eta, xi, w_eta_eta, w_eta_xi, w_xi_xi = (slope[0] for slope in slopes)
        s, s_cross, s_drift = (curvatures[pair][0] for pair in pairs)
        columns = (losses, eta, 0.5 * w_eta_eta, s, xi, 0.5 * w_xi_xi, w_eta_xi, s_cross, s_drift)
        return torch.stack(columns, dim=1).to(torch.float64)[: last - first]

    def curve_quantities(self, first: int, last: int, sizes: list[tuple[float, float]]) -> torch.Tensor:
        """QUANTITIES, L(x^ε) for each size and the path-wise remainder for each: `(last − first, 9 + 2E)`."""
        terms = self.path_quantities(first, last)
        start = self.start(first)
        batch, count = start.shape[0], len(sizes)
        column = torch.tensor(sizes, dtype=self.dtype, device=start.device).repeat_interleave(batch, dim=0)  # (E·B, 2)
        perturbed = PerturbedSystem(self.system, self.error, self.drivers, column[:, :1], column[:, 1:])
        repeated = _Repeated(self.noise, count)
        with torch.no_grad():
            end = solve_path(perturbed, start.repeat(count, 1), repeated, first=first)[:, 0]
            losses = self.path_losses(end).view(count, batch).T.to(torch.float64)[: last - first]  # (B, E)
        weights = torch.tensor(np.array([prediction_weights(*pair) for pair in sizes]), device=terms.device)  # (E, 9)
        return torch.cat((terms, losses, losses - terms @ weights.T), dim=1)

    def check_size(self, epsilon: object, pair: tuple[float, float]) -> None:
        smallest = SMALLEST_EPSILON[self.dtype]
        for size in pair:
            if not math.isfinite(size):
                raise ValueError(f"epsilons contains {epsilon!r}: expected finite sizes.")
            if 0 < abs(size) < smallest:
                raise ValueError(
                    f"epsilons contains {epsilon!r}: in {self.dtype} rounding drowns the remainder below {smallest}; "
                    "take larger sizes" + (" or dtype=torch.float64." if self.dtype == torch.float32 else ".")
                )


class _Repeated(GridNoise):
    """The paths of a noise repeated `copies` times along the batch: one path for every size of the error."""

    def __init__(self, noise: GridNoise, copies: int) -> None:
        super().__init__(drivers=noise.drivers, steps=noise.steps, t1=noise.t1, t0=noise.t0, seed=noise.seed)
        self.noise, self.copies = noise, copies

    def stream(self, first, last, dtype=torch.float64, device="cpu"):
        """Yield the increments of paths first … first + (last − first)/copies − 1, `copies` times over."""
        for increment in self.noise.stream(first, first + (last - first) // self.copies, dtype, device):
            yield increment.repeat(self.copies, 1)


def _sizes(epsilon: float | tuple[float, float]) -> tuple[float, float]:
    if isinstance(epsilon, (tuple, list)):
        drift_size, diffusion_size = epsilon
        return float(drift_size), float(diffusion_size)
    return float(epsilon), float(epsilon)


def _check_x0(x0: object, paths: int, increments: str) -> torch.Tensor:
    allowed = f"(D,), (1, D) or (paths, D) = ({paths}, D)"
    if not isinstance(x0, torch.Tensor) or not x0.is_floating_point():
        raise ValueError(f"x0={type(x0).__name__}: expected a floating point tensor {allowed}.")
    states = x0.unsqueeze(0) if x0.dim() == 1 else x0
    if states.dim() != 2 or states.shape[1] == 0 or states.shape[0] not in (1, paths):
        raise ValueError(f"x0 has shape {tuple(x0.shape)}; expected {allowed}.")
    if increments == "enumerate" and states.shape[0] > 1:
        raise ValueError("x0 has one row per path; increments='enumerate' takes a single initial state (D,).")
    if not bool(torch.isfinite(states).all()):
        raise ValueError("x0 contains values that are not finite.")
    return states.detach()
