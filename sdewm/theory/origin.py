"""What a measured divergence or a bound belongs to: its system, start and initial error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sdewm.sde.noise import GaussianNoise
from sdewm.sde.system import StepSystem, System, step_of

_TIMES = 4  # grid times at which coefficients are compared
_WITHIN = 5.0  # standard errors, for moments of drawn starts and errors
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3}


@dataclass(frozen=True, eq=False)
class Moments:
    """Means of vectors and of their squares, and the standard errors, `(2, D)` each."""

    values: torch.Tensor
    errors: torch.Tensor

    @staticmethod
    def of(rows: torch.Tensor) -> Moments:
        """Of rows `(P, D)`; equal rows have no standard error."""
        rows = rows.detach().to("cpu", torch.float64)
        both = torch.stack((rows, rows**2), dim=1)  # (P, 2, D)
        if bool((rows == rows[:1]).all()):
            return Moments(both[0], torch.zeros_like(both[0]))
        return Moments(both.mean(0), both.std(0) / math.sqrt(len(rows)))

    def differ(self, other: Moments, rounding: float) -> bool:
        """Whether both are unlikely to belong to one law."""
        scale = torch.maximum(self.values.abs().amax(1), other.values.abs().amax(1))[:, None]
        allowed = _WITHIN * torch.hypot(self.errors, other.errors) + rounding * scale
        return bool(((self.values - other.values).abs() > allowed).any())


@dataclass(frozen=True, eq=False)
class Origin:
    """Values by which another system, start or error is recognised.

    Attributes:
        system: drift and noise increment of the system, for fixed increments at a few grid times,
            `(2·times, D)`.
        start: moments of x0.
        error: moments of e; None for a fundamental matrix.
        dtype: dtype of the computation.
    """

    system: torch.Tensor
    start: Moments
    error: Moments | None
    dtype: torch.dtype

    @staticmethod
    def of(
        system: System | StepSystem,
        states: torch.Tensor,
        errors: torch.Tensor | None,
        noise: GaussianNoise,
    ) -> Origin:
        """Of a computation from `states` `(P, D)` with initial errors `(P, D)`."""
        step, y, rows = step_of(system), states[:1], []
        generator = torch.Generator().manual_seed(0)
        grid = noise.grid(states.dtype, states.device)
        last = noise.steps - 1
        with torch.no_grad():
            for k in range(_TIMES):
                v = torch.randn(1, noise.drivers, dtype=torch.float64, generator=generator)
                drift, moved = step(grid[last * k // (_TIMES - 1)], y, v.to(states))
                rows += [drift, moved]
                y = y + noise.step_size * drift + math.sqrt(noise.step_size) * moved
        known = None if errors is None else Moments.of(errors)
        values = torch.cat(rows).to("cpu", torch.float64)
        return Origin(values, Moments.of(states), known, states.dtype)

    def difference(self, other: Origin) -> str:
        """Which of "system", "x0" and "error" differs from the other's; "" if none does."""
        rounding = max(_ROUNDING[self.dtype], _ROUNDING[other.dtype])
        if self.start.values.shape != other.start.values.shape:
            return "system"
        if self.start.differ(other.start, rounding):
            return "x0"
        # From drawn starts, the first of which may differ, the coefficients cannot be compared.
        settled = not (bool(self.start.errors.any()) or bool(other.start.errors.any()))
        gap = (self.system - other.system).abs().amax()
        if settled and float(gap) > rounding * float(self.system.abs().amax()):
            return "system"
        if (self.error is None) != (other.error is None):
            return "error"
        if self.error is not None and other.error is not None:
            return "error" if self.error.differ(other.error, rounding) else ""
        return ""
