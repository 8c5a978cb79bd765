"""Pathwise quantities of a value expansion, and their averages over paths."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sdewm.base.stats import BATCHES, BatchSums, Estimate
from sdewm.base.taylor import second_order
from sdewm.sde.fingerprint import PATHS, WATCHED, Watch, fingerprint
from sdewm.sde.monte_carlo import accumulate, tile_size
from sdewm.sde.noise import GridNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import StepSystem, System, step_of
from sdewm.theory.flow.flow_variation import FlowVariation
from sdewm.theory.variation_step import StateFunction

QFunction = Callable[[torch.Tensor], torch.Tensor]
LAWS = ("scaled", "rare")
# What is averaged over paths: Q(x⁰), |Q(x⁰)|, ∇Q·y, ½ ∇Q·w, ½ yᵀ∇²Q y, |e|, |e|², |e|³; after these
# come, for every scale, the difference of Q, the remainder and its absolute value.
QUANTITIES = ("value", "magnitude", "first", "second_flow", "second_curvature", "e1", "e2", "e3")
# Recording the variation step, about a second, pays from this many evaluations of it, or from this
# many components of states evaluated in all.
_RECORD_FROM, _RECORD_FROM_COMPONENTS = 50, 2e6


@dataclass(frozen=True)
class ValueProblem:
    """The checked arguments of `value_expansion`, and the averages over paths.

    Attributes:
        system: D components.
        q_function: Q(x).
        states: initial states `(1, D)` or `(paths, D)`, in the dtype and on the device to use.
        errors: e in rows `(R, D)`; path i takes row i mod R. Under enumeration every row is
            combined with every pattern of increments.
        noise: increments of the system's M drivers.
        paths: number of paths.
        chunk: see `accumulate`.
        checkpoint: see `accumulate`.
        batches: see `accumulate`.
        grouped: whether the batches are given groups of paths, such as episodes.
    """

    system: System | StepSystem
    q_function: StateFunction
    states: torch.Tensor
    errors: torch.Tensor
    noise: GridNoise
    paths: int
    chunk: int | None
    checkpoint: str | os.PathLike[str] | None
    batches: int = BATCHES
    grouped: bool = False

    @property
    def exact(self) -> bool:
        """Whether the paths enumerate all outcomes, so that averages have no sampling error."""
        return self.noise.paths_limit is not None

    @property
    def tile(self) -> int:
        """Paths evaluated at once."""
        return min(tile_size(self.states.device, self.states.shape[1]), self.paths)

    @cached_property
    def flow(self) -> FlowVariation:
        """The joint system of the path and its derivatives in the initial state."""
        evaluations = self.noise.steps * -(-self.paths // self.tile)
        components = evaluations * self.tile * self.states.shape[1]
        fused = evaluations > _RECORD_FROM or components > _RECORD_FROM_COMPONENTS
        return FlowVariation(self.system, fused=fused)

    def estimate(self, sums: BatchSums, weights: dict[int, float]) -> Estimate:
        """The mean of the linear combination of the quantities with these weights by position."""
        vector = np.zeros(sums.quantities)
        vector[list(weights)] = list(weights.values())
        return sums.estimate(vector, exact=self.exact)

    @cached_property
    def watch(self) -> Watch:
        """Of a few ends, set when it is asked for first."""
        return Watch.set(self._ends)

    def _ends(self) -> torch.Tensor:
        """Ends and values of a few paths without and with the error."""
        start, e = (part[:WATCHED] for part in self._start(0))
        ends = [solve_path(self.system, x, self.noise)[:, 0] for x in (start, start + e)]
        return torch.cat([torch.cat((end, self.q_function(end)[:, None]), 1) for end in ends])

    def average(self, scales: Sequence[float], law: str) -> BatchSums:
        """Sums of QUANTITIES and, for each scale, of difference, remainder and |remainder|."""
        quantities, noise = len(QUANTITIES) + 3 * len(scales), self.noise
        key = (
            ""
            if self.checkpoint is None
            else (
                f"value expansion of {type(self.system).__name__} at {list(scales)}, {law}, "
                f"{type(noise).__name__}, seed {noise.seed}, {noise.steps} steps on "
                f"[{noise.t0}, {noise.t1}], {self.paths} paths, {self.states.dtype}, "
                f"coefficients {self._fingerprint():08x}"
            )
        )
        return accumulate(
            lambda first, last: self._quantities(first, scales, law)[: last - first],
            quantities,
            self.paths,
            label="value expansion",
            tile=self.tile,
            chunk=self.chunk,
            checkpoint=self.checkpoint,
            key=key,
            batches=self.batches,
        )

    def _fingerprint(self) -> int:
        """Checksum of starts and errors, and of the coefficients and Q along a few paths."""
        step, v = step_of(self.system), torch.ones(PATHS, self.noise.drivers)
        v = v.to(self.states)
        parts = [lambda t, y, i=i: step(t, y, v[: len(y)])[i] for i in range(2)]
        along = fingerprint(self.system, self.states, self.noise, parts, self.q_function)
        return zlib.crc32(self.errors.detach().cpu().numpy().tobytes(), along)

    def _start(self, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Starts and errors `(tile, D)` of the paths from `first` on, the last one repeated."""
        index = torch.arange(first, first + self.tile).clamp_(max=self.paths - 1)
        patterns = self.noise.paths_limit
        rows = index % len(self.errors) if patterns is None else index // patterns
        if len(self.states) == 1:
            return self.states.expand(self.tile, -1), self.errors[rows]
        return self.states[index], self.errors[rows]

    def _quantities(self, first: int, scales: Sequence[float], law: str) -> torch.Tensor:
        """All that is averaged `(tile, 8 + 3S)`, from a whole tile: one batch size for all."""
        x0, e = self._start(first)
        simulated = [1.0] if law == "rare" else list(scales)
        stacked = _FlowWithCopies(self.flow, len(simulated))
        starts = torch.cat((self.flow.initial(x0, e), *(x0 + s * e for s in simulated)), dim=1)
        try:
            with torch.no_grad():
                end = solve_path(stacked, starts, self.noise, first=first)[:, 0]
        except FloatingPointError:
            for s in (0.0, *simulated):  # names the path and the component of the system
                solve_path(self.system, x0 + s * e, self.noise, first=first)
            raise  # the paths are finite, the derivatives are not
        flow, copies = stacked.split(end)
        x, y, w = self.flow.split(flow)
        value = self.q_function(x)
        with torch.no_grad():
            nothing = torch.zeros_like(x)
            _, slopes, curvature = second_order(
                self.q_function.recorded(x), (x,), [(y,), (w,)], {(0, 0): (nothing,)}
            )
        slope, bend, curve = slopes[0][0], 0.5 * slopes[1][0], 0.5 * curvature[0, 0][0]
        norm = e.norm(dim=1)
        columns = [value, value.abs(), slope, bend, curve, norm, norm**2, norm**3]
        columns = [column.detach().to(torch.float64) for column in columns]
        moved = [self.q_function(copy).to(torch.float64) - columns[0] for copy in copies]
        for i, s in enumerate(scales):
            difference = s * moved[0] if law == "rare" else moved[i]
            remainder = difference - s * columns[2] - s * s * (columns[3] + columns[4])
            columns += [difference, remainder, remainder.abs()]
        return torch.stack(columns, dim=1)


class _FlowWithCopies:
    """A path with its derivatives and further paths of the system, on the same increments.

    Args:
        flow: of a system with D components.
        copies: C, so that the stacked state is `(B, 3D + C·D)`.
    """

    noise_type, sde_type = "general", "ito"

    def __init__(self, flow: FlowVariation, copies: int) -> None:
        self.flow, self.copies = flow, copies
        self.variations = (*flow.variations, *("a further path",) * copies)

    def split(self, state: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """The stacked state of the flow `(B, 3D)` and the copies, each `(B, D)`."""
        parts = state.chunk(3 + self.copies, dim=1)
        return state[:, : 3 * parts[0].shape[1]], parts[3:]

    def f_and_g_prod(
        self, t: torch.Tensor, y: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stacked drift and stacked noise increment."""
        flow, copies = self.split(y)
        moves = self.flow.f_and_g_prod(t, flow, v)
        others = self.flow.step(t, torch.cat(copies), v.repeat(self.copies, 1))
        drift, noise = (
            torch.cat((mine, *theirs.chunk(self.copies)), dim=1)
            for mine, theirs in zip(moves, others, strict=True)
        )
        return drift, noise
