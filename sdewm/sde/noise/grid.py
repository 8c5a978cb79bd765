"""The interface of all noises: Brownian increments over a fixed grid, streamed in time."""

from __future__ import annotations

import abc
from collections.abc import Iterator

import torch

from sdewm.base.checks import check_count, check_interval


class GridNoise(abc.ABC):
    """Increments ΔB^k_n over the grid t_n = t0 + nΔ, Δ = (t1 − t0)/steps, of M drivers.

    Args:
        drivers: M.
        steps: number of steps N.
        t1: end of the grid.
        t0: start of the grid.
        seed: root seed, a whole number of at least 0.

    Raises:
        ValueError: a size is below 1, the seed is negative, or t1 ≤ t0.
    """

    paths_limit: int | None = None  # number of distinct paths, if it is finite

    def __init__(
        self, *, drivers: int, steps: int, t1: float, t0: float = 0.0, seed: int = 0
    ) -> None:
        self.drivers = check_count("drivers", drivers)
        self.steps = check_count("steps", steps)
        self.t0, self.t1 = check_interval(t0, t1)
        self.seed = check_count("seed", seed, minimum=0)
        self.step_size = (self.t1 - self.t0) / self.steps

    @abc.abstractmethod
    def stream(
        self,
        first: int,
        last: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Iterator[torch.Tensor]:
        """Yield ΔB_n `(last − first, M)` of paths first … last − 1 for n = 0 … N − 1."""

    def grid(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> torch.Tensor:
        """The times t_0 … t_N, shape `(N + 1,)`."""
        steps = torch.linspace(0, self.steps, self.steps + 1, dtype=torch.float64)
        return (steps * self.step_size + self.t0).to(dtype).to(device)

    def increments(self, first: int, last: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """All increments `(N, last − first, M)` in one tensor, for small problems."""
        return torch.stack(list(self.stream(first, last, dtype)))
