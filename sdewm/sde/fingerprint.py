"""A checksum of functions along a few paths: it says whether two computations are the same."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence

import torch

from sdewm.sde.noise import GridNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import StepSystem, System

PATHS, TIMES = 64, 8  # compared paths, and grid times at which the coefficients are compared


def fingerprint(
    system: System | StepSystem,
    states: torch.Tensor,
    noise: GridNoise,
    coefficients: Sequence[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
    at_end: Callable[[torch.Tensor], torch.Tensor],
) -> int:
    """Checksum of states, coefficients at random times of up to 64 paths, and the end's function.

    The states are those that the paths visit, so that every function is defined there. Functions
    that agree on all of these states cannot be told apart.

    Args:
        system: whose paths are followed.
        states: initial states `(N, D)`, all of which count; the paths start from up to 64 of them.
        noise: the paths.
        coefficients: functions (t, y) -> tensor, evaluated at up to 8 times of the grid.
        at_end: function y -> tensor, evaluated at the ends of the paths.
    """
    count = min(PATHS, noise.paths_limit or PATHS)
    rows = torch.arange(count) * len(states) // count
    start = states[rows.to(states.device)]
    steps = sorted(random.Random(0).sample(range(1, noise.steps), min(TIMES, noise.steps) - 1))
    grid = noise.grid(states.dtype, states.device)
    times = [float(noise.t0 + step * noise.step_size) for step in (0, *steps)]
    with torch.no_grad():
        visited = solve_path(system, start, noise, times=[*times, noise.t1])
        values = [states, visited, at_end(visited[:, -1])]
        for place, step in enumerate((0, *steps)):
            values += [part(grid[step], visited[:, place]) for part in coefficients]
    return zlib.crc32(b"".join(v.detach().cpu().numpy().tobytes() for v in values))
