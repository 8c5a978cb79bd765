"""Two-point increments ±√Δ."""

from __future__ import annotations

import math

import torch

from sdewm.sde.noise.block import BlockNoise


class TwoPointNoise(BlockNoise):
    """Increments ±√Δ with probability ½ each: one random bit per increment.

    Their mean, variance and third moment are those of normal increments. The expansion of the
    scheme (S5b) holds for both kinds of increments.

    >>> TwoPointNoise(drivers=1, steps=4, t1=4.0, seed=3).increments(0, 2).abs().unique()
    tensor([1.], dtype=torch.float64)
    """

    def words_per_block(self, dtype: torch.dtype) -> int:
        """One bit per increment."""
        return self.rows * self.drivers // 64

    def transform(self, words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """±√δ from each bit, δ the fine step."""
        scale = math.sqrt(self.fine_step_size)
        bits = (words.unsqueeze(3) >> torch.arange(64, device=words.device)) & 1
        return bits.to(dtype).mul_(2.0 * scale).sub_(scale).flatten(2)
