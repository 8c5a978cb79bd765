"""Solution of a system on a fixed grid.

Euler–Maruyama steps are taken here, because calls of a general solver cost more than such a step;
they equal torchsde's to the bit. Milstein's scheme and the stochastic Runge–Kutta scheme are those
of torchsde, which only this file calls. torchsde accumulates its time steps in floating point and
interpolates linearly at output times that are not ends of steps. To avoid both, the equation is
passed to it in units of the step, dX = Δ f ds + √Δ g dW̃, s = 0 … N: all steps end at integers, and
all output times are integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from sdewm.base.checks import check_choice, check_count, check_output
from sdewm.sde.noise import GaussianNoise, GridNoise
from sdewm.sde.system import (
    StepSystem,
    System,
    VariationSystem,
    check_noise_type,
    check_protocol,
    step_of,
)

METHODS = ("euler", "milstein", "srk")


def solve_path(
    system: System | StepSystem,
    x0: torch.Tensor,
    noise: GridNoise,
    *,
    times: Sequence[float] | None = None,
    first: int = 0,
    method: str = "euler",
) -> torch.Tensor:
    """Solve dx = f dt + g dB along the Brownian paths of `noise` with a scheme of fixed steps.

    Gradients are tracked if the caller's grad mode is enabled; use torch.no_grad() otherwise.

    Args:
        system: an Itô system with D components and M drivers. It may define
            `f_and_g_prod(t, y, v)` instead of f and g (method "euler" only).
        x0: initial states `(B, D)`; row i follows path `first + i` of `noise`.
        noise: the grid and the increments.
        times: output times, strictly increasing points of the grid t0, …, t1; default: t1 only.
        first: index of the first path.
        method: "euler" (Euler–Maruyama: x + Δ f + g ΔB), "milstein" or "srk" (not for general
            noise; "srk" draws the space-time area from a GaussianNoise). These two are torchsde's
            and rely on what "additive" and "diagonal" say of g, which is checked at x0.

    Returns:
        States `(B, T, D)` at the T output times.

    Raises:
        ValueError: the system, a shape or a dtype is invalid, an output time is not on the grid,
            or the method is unknown.
        FloatingPointError: a value is not finite; the message gives time, path, coefficient and
            component, and of a `VariationSystem` the derivative.

    >>> class Decay:
    ...     noise_type, sde_type = "diagonal", "ito"
    ...     def f(self, t, y): return -y
    ...     def g(self, t, y): return 0 * y
    >>> noise = GaussianNoise(drivers=1, steps=2, t1=1.0)
    >>> solve_path(Decay(), torch.ones(1, 1, dtype=torch.float64), noise, times=[0.5, 1.0])
    tensor([[[0.5000],
             [0.2500]]], dtype=torch.float64)
    """
    check_choice("method", method, METHODS)
    check_count("first", first, minimum=0)
    if not isinstance(x0, torch.Tensor) or x0.dim() != 2 or not x0.is_floating_point():
        raise ValueError(f"x0={_describe(x0)}: expected a floating point tensor (B, D).")
    indices = grid_indices(noise, times)
    grid = noise.grid(x0.dtype, x0.device)
    if not isinstance(system, StepSystem) or isinstance(system, System):
        drivers = check_protocol(system, grid[0], x0)
        if drivers != noise.drivers:
            raise ValueError(
                f"noise has {noise.drivers} drivers, system.g has {drivers}; expected as many."
            )
        if method != "euler":
            check_noise_type(system, grid[0], x0[:2].detach())
    elif method != "euler":
        raise ValueError(
            f"method={method!r}: a system given by f_and_g_prod requires method='euler'."
        )
    elif noise.drivers < (drivers := getattr(system, "drivers", 0)):  # v would be broadcast
        raise ValueError(
            f"noise has {noise.drivers} drivers, system.f_and_g_prod has {drivers}; expected as "
            "many."
        )
    if method == "euler":
        states = _euler_states(system, x0, noise, first, grid, set(indices))
    else:
        equation = _StepUnits(system, grid, noise.step_size)  # type: ignore[arg-type]
        brownian = _Brownian(noise, first, x0, method)
        states = _torchsde_states(equation, x0, indices, brownian, method)
    if not bool(torch.isfinite(states[-1]).all()):
        _refuse_explosion(system, x0, noise, first, grid)
    return torch.stack(states, dim=1)


def grid_indices(noise: GridNoise, times: Sequence[float] | None) -> list[int]:
    """The step index of each output time; if `times` is None, that of the last step.

    Raises:
        ValueError: a time is not a grid point (linear interpolation would distort the variance), or
            the times are not strictly increasing.
    """
    if times is None:
        return [noise.steps]
    indices = []
    for time in times:
        position = (float(time) - noise.t0) / noise.step_size
        index = round(position)
        if abs(position - index) > 1e-9 * noise.steps or not 0 <= index <= noise.steps:
            raise ValueError(
                f"times contains {float(time)!r}, which is not on the grid {noise.t0!r} + "
                f"n·{noise.step_size!r}, n = 0 … {noise.steps}; choose steps so that every "
                "output time is a grid point."
            )
        indices.append(index)
    if not indices or any(late <= early for early, late in zip(indices, indices[1:], strict=False)):
        raise ValueError(f"times={list(times)!r}: expected at least one time, strictly increasing.")
    return indices


def _euler_states(
    system: System | StepSystem,
    x0: torch.Tensor,
    noise: GridNoise,
    first: int,
    grid: torch.Tensor,
    indices: set[int],
) -> list[torch.Tensor]:
    """The states x ← x + Δ f + g ΔB after those numbers of steps, each `(B, D)`."""
    step, size, y = step_of(system), noise.step_size, x0
    increments = noise.stream(first, first + len(x0), x0.dtype, x0.device)
    states = [y] if 0 in indices else []
    for n, t in enumerate(grid.unbind()[: max(indices)]):
        drift, change = step(t, y, next(increments))
        for what, value in (("drift", drift), ("noise", change)):
            if n == 0 or not _alike(value, x0):
                place = f"system.f_and_g_prod ({what}) at t = {float(t):.4g}"
                check_output(place, value, tuple(x0.shape), like=x0)
        y = y + drift * size + change
        if n + 1 in indices:
            states.append(y)
    return states


def _alike(value: object, like: torch.Tensor) -> bool:
    """Whether a value has the shape and the dtype of another: a sum would hide that it has not."""
    known = isinstance(value, torch.Tensor)
    return known and value.shape == like.shape and value.dtype == like.dtype


def _torchsde_states(
    equation: _StepUnits,
    x0: torch.Tensor,
    indices: list[int],
    brownian: _Brownian,
    method: str,
) -> list[torch.Tensor]:
    """The states after those numbers of torchsde's steps, each `(B, D)`."""
    from torchsde import sdeint

    started = indices[0] == 0  # which torchsde wants first in any case
    steps = torch.tensor(indices if started else [0, *indices], dtype=torch.float64)
    if len(steps) == 1:
        return [x0]
    devices = [x0.device] if x0.device.type == "cuda" else []
    # torchsde draws from torch's global generator while it checks shapes; that is undone here.
    with torch.random.fork_rng(devices=devices):
        out = sdeint(equation, x0, steps, bm=brownian, method=method, dt=1.0)  # type: ignore[arg-type]
    return list(out)[0 if started else 1 :]


class _StepUnits:
    """The system with time measured in steps: Δ f and √Δ g."""

    def __init__(self, system: System, grid: torch.Tensor, step_size: float) -> None:
        self.system, self.grid, self.step_size = system, grid, step_size
        self.noise_type, self.sde_type = system.noise_type, system.sde_type

    def time(self, step: torch.Tensor) -> torch.Tensor:
        position = float(step)
        if position.is_integer():
            return self.grid[int(position)]
        return self.grid[0] + position * self.step_size

    def f(self, step: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.system.f(self.time(step), y) * self.step_size

    def g(self, step: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.system.g(self.time(step), y) * math.sqrt(self.step_size)


class _Brownian:
    """The increments of a GridNoise as torchsde asks for them, step by step from the start."""

    def __init__(self, noise: GridNoise, first: int, x0: torch.Tensor, method: str) -> None:
        area = method == "srk"
        self.shape = (x0.shape[0], noise.drivers)
        self.dtype, self.device = x0.dtype, x0.device
        self.levy_area_approximation = "space-time" if area else "none"
        self.scale = 1.0 / math.sqrt(noise.step_size)
        self.area_scale = noise.step_size**-1.5
        paths = (first, first + x0.shape[0], x0.dtype, x0.device)
        self.stream: Iterator
        if area:
            if not isinstance(noise, GaussianNoise):
                raise ValueError(
                    f"noise={type(noise).__name__}: method='srk' needs a GaussianNoise."
                )
            self.stream = noise.stream_with_area(*paths)
        else:
            self.stream = noise.stream(*paths)
        self.next_step = 0

    def __call__(
        self, ta: torch.Tensor, tb: torch.Tensor, return_U: bool = False, return_A: bool = False
    ):
        assert int(ta) == self.next_step and not return_A
        self.next_step += 1
        drawn = next(self.stream)
        if self.levy_area_approximation == "space-time":
            increment, area = drawn
            increment, area = increment * self.scale, area * self.area_scale
            return (increment, area) if return_U else increment
        return drawn * self.scale


def _refuse_explosion(
    system: System | StepSystem, x0: torch.Tensor, noise: GridNoise, first: int, grid: torch.Tensor
) -> None:
    """Repeat the path by Euler–Maruyama steps and raise at the first non-finite value."""
    step, y = step_of(system), x0
    for n, increment in enumerate(noise.stream(first, first + len(x0), x0.dtype, x0.device)):
        drift, diffusion = step(grid[n], y, increment)
        drift = drift * noise.step_size
        for name, value in (
            ("drift", drift),
            ("diffusion", diffusion),
            ("state", y + drift + diffusion),
        ):
            bad = (~torch.isfinite(value)).nonzero()
            if len(bad):
                path, place = bad[0].tolist()
                variations = system.variations if isinstance(system, VariationSystem) else ()
                size = y.shape[1] // (1 + len(variations))
                number, component = divmod(place, size)
                what = f" of {variations[number - 1]}" if number else ""
                # Products of two such numbers are finite, so that a derivative is not.
                small = float(y[path].abs().max()) < torch.finfo(y.dtype).max ** 0.25
                remedy = (
                    "the path is finite there, but a derivative of the coefficients is not, as "
                    "that of √y at 0; more steps do not help: use coefficients that are smooth at "
                    "the states that paths visit"
                    if number and small
                    else f"the trajectory leaves the finite numbers: use more steps than "
                    f"{noise.steps}, a shorter t1, or bounded coefficients"
                )
                raise FloatingPointError(
                    f"system: the {name}{what} is {float(value[path, place])} at "
                    f"t = {float(grid[n]):.6g}, path {first + path}, component {component} "
                    f"(state there: {y[path, :size].tolist()}); {remedy}."
                )
        y = y + drift + diffusion
    raise FloatingPointError(
        "system: the solution is not finite, but its Euler–Maruyama path is; use more steps."
    )


def _describe(value: object) -> str:
    return (
        f"tensor {tuple(value.shape)} of {value.dtype}"
        if isinstance(value, torch.Tensor)
        else type(value).__name__
    )
