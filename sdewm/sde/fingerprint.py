"""Whether two computations are the same: functions are compared along a few paths."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sdewm.sde.noise import GridNoise
from sdewm.sde.solve import solve_path
from sdewm.sde.system import StepSystem, System

WATCHED = 16  # paths that show whether functions are still the same
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


@dataclass(frozen=True)
class Watch:
    """What a computation gave when it was first run, to see whether it still gives the same.

    Attributes:
        evaluate: () -> tensor `(N, K)`: K numbers on each of N paths; by the functions as they are
            now, not as they were recorded.
        first: what it returned when the watch was set; None where it was not finite.

    >>> weight = torch.ones(1, 1)
    >>> watch = Watch.set(lambda: 2.0 * weight)
    >>> watch.require_unchanged("the weight", "measure again")
    >>> weight *= 3.0
    >>> watch.require_unchanged("the weight", "measure again")
    Traceback (most recent call last):
    ...
    ValueError: the weight gives other numbers than before (...): measure again.
    """

    evaluate: Callable[[], torch.Tensor]
    first: torch.Tensor | None

    @classmethod
    def set(cls, evaluate: Callable[[], torch.Tensor]) -> Watch:
        """A watch of what `evaluate` returns now."""
        return cls(evaluate, _finite(evaluate))

    def require_unchanged(self, what: str, advice: str) -> None:
        """Compare with what it returns now, up to rounding.

        Args:
            what: what may have changed.
            advice: what to do then.

        Raises:
            ValueError: a number differs, or numbers were finite and are not, or the other way.
        """
        before, now = self.first, _finite(self.evaluate)
        if before is None and now is None:
            return
        if before is not None and now is not None:
            unit = torch.finfo(before.dtype).eps ** 0.5
            if bool(((now - before).abs() <= unit * before.abs().amax(dim=0)).all()):
                return
        raise ValueError(
            f"{what} gives other numbers than before (other weights, another attribute): {advice}."
        )


def _finite(evaluate: Callable[[], torch.Tensor]) -> torch.Tensor | None:
    """The values, in a memory of their own; None where they are not finite."""
    try:
        with torch.no_grad():
            found = evaluate().clone()
    except (FloatingPointError, ValueError):
        return None
    return found if bool(torch.isfinite(found).all()) else None
