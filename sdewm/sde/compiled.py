"""Euler–Maruyama with a compiled step: equals `solve_path` to rounding, several times faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sdewm.base.compiling import Compiled
from sdewm.base.taylor import Tensors
from sdewm.sde.noise import GridNoise
from sdewm.sde.system import System, check_protocol, diffusion_product

Step = Callable[..., torch.Tensor]  # of states, time and increments


class CompiledEuler:
    """End states of the Euler–Maruyama scheme x ← x + Δ f + g ΔB by a compiled step.

    torchsde is not used. Compilation takes seconds, once per batch size, grid and precision. If it
    fails (no compiler on the machine, or coefficients that cannot be recorded as one graph of
    tensor operations), the same step runs uncompiled. Pass a noise built with `compiled=True` to
    compile the increments as well. A compiled step is the system as it was: the first and the last
    step of every solution are taken uncompiled as well, and a system that has changed (other
    weights, another attribute) is compiled anew.

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
        self._steps: dict[tuple, Step] = {}

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
        plain = self._step_of(noise.step_size)
        known = [self._steps[signature]] if signature in self._steps else []
        with torch.no_grad():
            x, used = self._solved([*known, Compiled(plain)], plain, x0, noise, first)
        self._steps[signature] = used
        if not bool(torch.isfinite(x).all()):
            raise FloatingPointError(
                "system: the end states are not finite; solve_path reports where they become so."
            )
        return x

    def _solved(
        self, steps: Sequence[Step], plain: Step, x0: torch.Tensor, noise: GridNoise, first: int
    ) -> tuple[torch.Tensor, Step]:
        """The end states by the first of the steps that is still `plain`, or by that; and which."""
        for step in steps:
            x, ends = _followed(step, x0, noise, first)
            if all(_close(after, plain(*before)) for *before, after in ends):
                return x, step
        return _followed(plain, x0, noise, first)[0], plain

    def _step_of(self, step_size: float) -> Step:
        def step(x: torch.Tensor, t: torch.Tensor, increment: torch.Tensor) -> torch.Tensor:
            return (
                x
                + self.system.f(t, x) * step_size
                + diffusion_product(self.system.g(t, x), increment)
            )

        return step


def _followed(
    step: Step, x0: torch.Tensor, noise: GridNoise, first: int
) -> tuple[torch.Tensor, list[Tensors]]:
    """The end states; and state, time, increment and next state of the first and last step."""
    x, ends = x0, []
    increments = noise.stream(first, first + len(x0), x0.dtype, x0.device)
    for n, t in enumerate(noise.grid(x0.dtype, x0.device)[:-1]):
        before, increment = x, next(increments)
        x = step(x, t, increment)
        if n in (0, noise.steps - 1):
            ends.append((before, t, increment, x))
    return x, ends


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two states are equal up to rounding, or neither is finite."""
    allowed = torch.finfo(a.dtype).eps ** 0.5 * float(b.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return bool(torch.isclose(a, b, rtol=0.0, atol=allowed, equal_nan=True).all())
