"""Pathwise quantities of an expansion, and their averages over paths."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sdewm.base.stats import BatchSums, Estimate
from sdewm.sde.fingerprint import WATCHED, Watch, fingerprint
from sdewm.sde.monte_carlo import accumulate, tile_size
from sdewm.sde.noise import GridNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import System
from sdewm.theory.expansion.error_variation import ErrorVariation
from sdewm.theory.expansion.perturbation import Perturbation, PerturbedSystem
from sdewm.theory.expansion.terms import QUANTITIES, path_quantities, prediction_weights
from sdewm.theory.variation_step import StateFunction

Loss = Callable[[torch.Tensor], torch.Tensor]
Size = float | tuple[float, float]  # ε, or (ε_d, ε_n) of the drift and the diffusion

# Below these sizes rounding drowns second differences and remainders (rule 6).
SMALLEST_EPSILON = {torch.float64: 1e-4, torch.float32: 2e-2}
_WATCHED_SIZE = 0.01  # of the error that shows whether the functions are still the same
_RECORD_FROM = 50  # evaluations of the variation step from which recording it pays


def split_size(epsilon: Size) -> tuple[float, float]:
    """(ε_d, ε_n) of a size given as one number or as a pair.

    >>> split_size(0.1), split_size((0.1, 0.0))
    ((0.1, 0.1), (0.1, 0.0))
    """
    return epsilon if isinstance(epsilon, tuple) else (epsilon, epsilon)


def check_sizes(epsilons: object) -> list[Size]:
    """The sizes as floats and pairs of floats.

    Raises:
        ValueError: `epsilons` is not a non-empty sequence of finite numbers and pairs of them.

    >>> check_sizes([0.1, (0.2, 0)])
    [0.1, (0.2, 0.0)]
    >>> check_sizes(0.1)
    Traceback (most recent call last):
    ...
    ValueError: epsilons=0.1: expected a sequence of sizes, such as [0.1, 0.2].
    """
    if not isinstance(epsilons, Iterable) or isinstance(epsilons, str):
        raise ValueError(
            f"epsilons={epsilons!r}: expected a sequence of sizes, such as [0.1, 0.2]."
        )
    sizes: list[Size] = []
    for epsilon in epsilons:
        try:
            if isinstance(epsilon, (tuple, list)):
                drift_size, diffusion_size = epsilon
                sizes.append((float(drift_size), float(diffusion_size)))
            else:
                sizes.append(float(epsilon))
        except (TypeError, ValueError):
            raise ValueError(
                f"epsilons contains {epsilon!r}: expected a number, or a pair of numbers "
                "(size of the drift, size of the diffusion)."
            ) from None
        if not np.isfinite(sizes[-1]).all():
            raise ValueError(f"epsilons contains {epsilon!r}: expected finite sizes.")
    if not sizes:
        raise ValueError("epsilons=[]: expected at least one size.")
    return sizes


@dataclass(frozen=True)
class ExpansionProblem:
    """The checked arguments of `expand`, and the averages over paths.

    Attributes:
        system: D components.
        error: the perturbation.
        loss: L(y).
        states: initial states `(1, D)` or `(paths, D)`, in the dtype and on the device to use.
        noise: increments of the system's M drivers, then of the error's independent drivers.
        drivers: M.
        paths: number of paths; for an enumerating noise, the number of all patterns.
        chunk: see `accumulate`.
        checkpoint: see `accumulate`.
        batches: see `accumulate`.
    """

    system: System
    error: Perturbation
    loss: StateFunction
    states: torch.Tensor
    noise: GridNoise
    drivers: int
    paths: int
    chunk: int | None
    checkpoint: str | os.PathLike[str] | None
    batches: int

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the computation."""
        return self.states.dtype

    @property
    def exact(self) -> bool:
        """Whether the paths enumerate all outcomes, so that averages have no sampling error."""
        return self.noise.paths_limit is not None

    @property
    def tile(self) -> int:
        """Paths evaluated at once."""
        return min(tile_size(self.states.device, self.states.shape[1]), self.paths)

    @cached_property
    def variation(self) -> ErrorVariation:
        """The joint system of the path and its variations."""
        evaluations = self.noise.steps * -(-self.paths // self.tile)
        fused = evaluations > _RECORD_FROM
        return ErrorVariation(self.system, self.error, self.drivers, fused=fused)

    def estimate(self, sums: BatchSums, weights: np.ndarray) -> Estimate:
        """The mean of the linear combination of the first quantities with these weights."""
        padded = np.concatenate((weights, np.zeros(sums.quantities - len(weights))))
        return sums.estimate(padded, exact=self.exact)

    def average_terms(self) -> BatchSums:
        """Sums of QUANTITIES."""
        _ = self._watch  # before anything can change
        return self._average("terms", len(QUANTITIES), self._terms)

    def average_curve(self, epsilons: Sequence[Size]) -> BatchSums:
        """Sums of QUANTITIES, of L(x^ε) for each ε, and of the remainder for each ε.

        Raises:
            ValueError: an ε is too small for the dtype; or the system, the error or the loss gives
                other numbers than at the call of `average_terms`.
        """
        for epsilon in epsilons:
            self._check_size(epsilon)
        self._watch.require_unchanged("the system, the error or the loss", "call expand again")
        sizes = [split_size(epsilon) for epsilon in epsilons]
        quantities = len(QUANTITIES) + 2 * len(sizes)
        return self._average(
            f"curve at {epsilons}", quantities, lambda a, b: self._curve(a, b, sizes)
        )

    def _average(
        self, label: str, quantities: int, evaluate: Callable[[int, int], torch.Tensor]
    ) -> BatchSums:
        noise = self.noise
        key = (
            ""
            if self.checkpoint is None
            else (
                f"{label} of {type(self.system).__name__} with {self.error.driver} driver, "
                f"{type(noise).__name__}, seed {noise.seed}, {noise.steps} steps on "
                f"[{noise.t0}, {noise.t1}], {self.paths} paths, {self.dtype}, "
                f"coefficients {self._fingerprint():08x}"
            )
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
            batches=self.batches,
        )

    def _fingerprint(self) -> int:
        """Checksum of the initial states, and of coefficients and loss along a few paths.

        Paths with a small error visit its values at all times.
        """
        parts = (self.system.f, self.system.g, self.error.drift, self.error.diffusion)
        given = [part for part in parts if part is not None]
        found = 0
        for size in (0.0, SMALLEST_EPSILON[self.dtype]):
            sizes = torch.full((), size, dtype=self.dtype, device=self.states.device)
            system = self._perturbed(sizes, sizes)
            along = fingerprint(system, self.states, self.noise, given, self.loss)
            found = zlib.crc32(along.to_bytes(4, "big"), found)
        return found

    @cached_property
    def _watch(self) -> Watch:
        """Of a few ends, set when it is asked for first."""
        return Watch.set(self._ends)

    def _ends(self) -> torch.Tensor:
        """Ends and losses of a few paths without and with a small error."""
        start = self._start(0)[:WATCHED]
        sizes = start.new_tensor([0.0, _WATCHED_SIZE]).repeat_interleave(len(start))[:, None]
        system, noise = self._perturbed(sizes, sizes), _Repeated(self.noise, 2)
        end = solve_path(system, start.repeat(2, 1), noise)[:, 0]
        return torch.cat((end, self.loss(end)[:, None]), dim=1)

    def _start(self, first: int) -> torch.Tensor:
        """Initial states of a whole tile from path `first` on, the last one repeated at the end."""
        if self.states.shape[0] == 1:
            return self.states.expand(self.tile, -1)
        return self.states[torch.arange(first, first + self.tile).clamp_(max=self.paths - 1)]

    def _perturbed(self, drift_size: torch.Tensor, diffusion_size: torch.Tensor) -> PerturbedSystem:
        return PerturbedSystem(self.system, self.error, self.drivers, drift_size, diffusion_size)

    def _terms(self, first: int, last: int) -> torch.Tensor:
        """QUANTITIES `(last − first, 9)`, from a whole tile: every step has one batch size."""
        start = self._start(first)
        try:
            stacked = self.variation.initial(start)
            end = solve_path(self.variation, stacked, self.noise, first=first)[:, 0]
        except FloatingPointError:
            zero = torch.zeros((), dtype=self.dtype, device=start.device)
            solve_path(self._perturbed(zero, zero), start, self.noise, first=first)
            raise  # the path is finite, its variations are not
        x, firsts, seconds = self.variation.split(end)
        losses, recorded = self.loss(x), self.loss.recorded(x)
        return path_quantities(recorded, losses, x, firsts, seconds)[: last - first]

    def _curve(self, first: int, last: int, sizes: list[tuple[float, float]]) -> torch.Tensor:
        """QUANTITIES, L(x^ε) per size and the path-wise remainder per size: `(B, 9 + 2E)`."""
        terms, start = self._terms(first, last), self._start(first)
        batch, count = start.shape[0], len(sizes)
        column = torch.tensor(sizes, dtype=self.dtype, device=start.device)
        column = column.repeat_interleave(batch, dim=0)  # (E·B, 2)
        perturbed = self._perturbed(column[:, :1], column[:, 1:])
        with torch.no_grad():
            repeated = _Repeated(self.noise, count)
            end = solve_path(perturbed, start.repeat(count, 1), repeated, first=first)[:, 0]
            losses = self.loss(end).view(count, batch).T[: last - first]  # (B, E)
        losses = losses.to(torch.float64)
        weights = np.array([prediction_weights(*pair) for pair in sizes])  # (E, 9)
        predicted = terms @ torch.tensor(weights.T, device=terms.device)  # (B, E)
        return torch.cat((terms, losses, losses - predicted), dim=1)

    def _check_size(self, epsilon: Size) -> None:
        smallest = SMALLEST_EPSILON[self.dtype]
        for size in split_size(epsilon):
            if 0 < abs(size) < smallest:
                remedy = " or dtype=torch.float64." if self.dtype == torch.float32 else "."
                raise ValueError(
                    f"epsilons contains {epsilon!r}: in {self.dtype} rounding errors exceed the "
                    f"remainder below {smallest}; use larger sizes{remedy}"
                )


class _Repeated(GridNoise):
    """The paths of a noise `copies` times over along the batch, once for every size of the error.

    Args:
        noise: the paths.
        copies: how often.
    """

    def __init__(self, noise: GridNoise, copies: int) -> None:
        grid = {"steps": noise.steps, "t0": noise.t0, "t1": noise.t1}
        super().__init__(drivers=noise.drivers, seed=noise.seed, **grid)
        self.noise, self.copies = noise, copies

    def stream(
        self,
        first: int,
        last: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Iterator[torch.Tensor]:
        """Yield the increments of (last − first)/copies paths from `first` on, repeated."""
        end = first + (last - first) // self.copies
        for increment in self.noise.stream(first, end, dtype, device):
            yield increment.repeat(self.copies, 1)
