"""Euler–Maruyama with a compiled step: equals `solve_path` to rounding, several times faster."""

from __future__ import annotations

import torch

from sdewm.base.compiling import Compiled
from sdewm.sde.noise import GridNoise
from sdewm.sde.system import System, check_protocol, diffusion_product


class CompiledEuler:
    """End states of the Euler–Maruyama scheme x ← x + Δ f + g ΔB by a compiled step.

    torchsde is not used. Compilation takes seconds, once per batch size, grid and precision. If it
    fails (no compiler on the machine, or coefficients that cannot be recorded as one graph of
    tensor operations), the same step runs uncompiled. Pass a noise built with `compiled=True` to
    compile the increments as well.

    Args:
        system: any Itô system.

    >>> class Decay:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -y
    ...     def g(self, t, y): return 0 * y
    >>> from sdewm.sde.noise import TwoPointNoise
    >>> noise = TwoPointNoise(drivers=1, steps=2, t1=1.0)
    >>> CompiledEuler(Decay()).solve(torch.ones(1, 1, dtype=torch.float64), noise)
    tensor([[0.2500]], dtype=torch.float64)
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self._steps: dict[tuple, Compiled] = {}

    def solve(self, x0: torch.Tensor, noise: GridNoise, *, first: int = 0) -> torch.Tensor:
        """End states `(B, D)` at t1 from initial states `(B, D)`.

        Row i follows path `first + i` of `noise`.

        Raises:
            ValueError: the system is invalid or the shapes do not match.
            FloatingPointError: the end states are not finite (`solve_path` reports where the path
                became so).
        """
        grid = noise.grid(x0.dtype, x0.device)
        drivers = check_protocol(self.system, grid[0], x0)
        if drivers != noise.drivers:
            raise ValueError(
                f"noise has {noise.drivers} drivers, system.g has {drivers}; expected as many."
            )
        signature = (noise.step_size, x0.shape, x0.dtype, x0.device)
        if signature not in self._steps:
            self._steps[signature] = Compiled(self._step_of(noise.step_size))
        step = self._steps[signature]
        with torch.no_grad():
            x = x0
            for t, increment in zip(
                grid, noise.stream(first, first + len(x0), x0.dtype, x0.device), strict=False
            ):
                x = step(x, t, increment)
        if not bool(torch.isfinite(x).all()):
            raise FloatingPointError(
                "system: the end states are not finite; solve_path reports where they become so."
            )
        return x

    def _step_of(self, step_size: float):
        def step(x: torch.Tensor, t: torch.Tensor, increment: torch.Tensor) -> torch.Tensor:
            return (
                x
                + self.system.f(t, x) * step_size
                + diffusion_product(self.system.g(t, x), increment)
            )

        return step
