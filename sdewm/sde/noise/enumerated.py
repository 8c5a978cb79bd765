"""Enumeration of all patterns of two-point increments."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from sdewm.sde.noise.grid import GridNoise


class EnumeratedNoise(GridNoise):
    """All 2^(N·M) patterns of increments ±√Δ, each once.

    Averages over them have no sampling error (O8). Bit n·M + k of the path index gives the sign of
    ΔB^k_n.

    Raises:
        ValueError: there would be more than 2²⁴ patterns.

    >>> EnumeratedNoise(drivers=1, steps=2, t1=2.0).increments(0, 4)[:, :, 0]
    tensor([[-1.,  1., -1.,  1.],
            [-1., -1.,  1.,  1.]], dtype=torch.float64)
    """

    largest_exponent = 24

    def __init__(
        self, *, drivers: int, steps: int, t1: float, t0: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__(drivers=drivers, steps=steps, t1=t1, t0=t0, seed=seed)
        exponent = self.steps * self.drivers
        if exponent > self.largest_exponent:
            raise ValueError(
                f"increments='enumerate' with steps={self.steps} and {self.drivers} drivers "
                f"needs 2^{exponent} paths; at most 2^{self.largest_exponent} are allowed: "
                "use fewer steps, or increments='two_point'."
            )
        self.paths_limit = 2**exponent

    def stream(
        self,
        first: int,
        last: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Iterator[torch.Tensor]:
        """Yield ΔB_n `(last − first, M)` of patterns first … last − 1 for n = 0 … N − 1."""
        pattern = torch.arange(first, last, device=device)[:, None]  # (B, 1)
        scale = math.sqrt(self.step_size)
        for step in range(self.steps):
            shift = step * self.drivers + torch.arange(self.drivers, device=device)  # (M,)
            sign = 2 * ((pattern >> shift) & 1) - 1
            yield sign.to(dtype) * scale
