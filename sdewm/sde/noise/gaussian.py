"""Normal increments by the Box–Muller transform."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import torch

from sdewm.sde.noise.block import BlockNoise, shift_right


class GaussianNoise(BlockNoise):
    """Independent normal increments of variance Δ, by the Box–Muller transform.

    In float64 each normal uses one 64-bit word and is at most 8.6 standard deviations; in float32
    two normals share one word and are at most 5.8 standard deviations. The two precisions give
    different paths.

    >>> noise = GaussianNoise(drivers=2, steps=4, t1=1.0, seed=1)
    >>> alone, among = noise.increments(700, 701), noise.increments(0, 3000)[:, 700:701]
    >>> bool(torch.allclose(alone, among, rtol=0, atol=1e-15))
    True
    >>> coarse = noise.coarsen(2).increments(0, 8)
    >>> bool(torch.allclose(coarse[0], noise.increments(0, 8)[:2].sum(0)))
    True
    """

    def words_per_block(self, dtype: torch.dtype) -> int:
        """One word per normal in float64, one word per two normals in float32."""
        return self.rows * self.drivers // (1 if dtype == torch.float64 else 2)

    def transform(self, words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """√(−2δ ln(1 − U))·(cos 2πV, sin 2πV) with U, V uniform in [0, 1), δ the fine step."""
        if dtype == torch.float64:
            halves = words.chunk(2, dim=2)
            u, v = (shift_right(half, 11).to(dtype).mul_(2.0**-53) for half in halves)
        else:  # 24 bits for U, all that float32 holds, and 28 others for V
            u = shift_right(words, 40).to(torch.int32).to(dtype).mul_(2.0**-24)
            v = (words & (2**28 - 1)).to(torch.int32).to(dtype).mul_(2.0**-28)
        radius = (1.0 - u).log_().mul_(-2.0 * self.fine_step_size).sqrt_()
        angle = 2.0 * math.pi * v
        return torch.cat((radius * torch.cos(angle), radius * torch.sin(angle)), dim=2)

    def stream_with_area(
        self,
        first: int,
        last: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (ΔB_n, U_n), each `(last − first, M)`, U_n = ∫ (B_s − B_{t_n}) ds over step n.

        On the finest grid U = δ(ΔB/2 + Z/√12) with Z ~ N(0, δ) independent of ΔB. Values for a
        coarser step follow from the additivity of the integral. ΔB equals that of `stream`.
        """
        walk = self._fine_stream(first, last, dtype, device, channel=0)
        area = self._fine_stream(first, last, dtype, device, channel=1)
        delta = self.fine_step_size
        for _ in range(self.steps):
            total = integral = torch.zeros((), dtype=dtype, device=device)
            for increment, normal in zip(
                islice(walk, self.refine), islice(area, self.refine), strict=True
            ):
                integral = integral + delta * (total + 0.5 * increment + normal / math.sqrt(12.0))
                total = total + increment
            yield total, integral
