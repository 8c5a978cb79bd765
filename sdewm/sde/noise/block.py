"""Counter-based random increments: a function of (seed, path, step, driver) alone.

Each increment is computed from separate random words: word i of step n is SplitMix64's output
function [1] at i·γ + k_n, where i indexes (path, driver) and k_n is the n-th key that NumPy's
SeedSequence derives from the seed. A path therefore does not depend on the batch in which it is
generated, on other paths, on threads or on the device. Any path can be generated on its own, and
no state is stored.

[1] Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
import torch

from sdewm.base.checks import check_count, check_float_dtype
from sdewm.base.compiling import Compiled
from sdewm.sde.noise.grid import GridNoise

BLOCK = 1024  # paths whose increments are generated together
GAMMA = 0x9E3779B97F4A7C15 - 2**64  # SplitMix64's increment, as a signed number
_SIZE_AT_ONCE = 1 << 16  # increments generated at once in small batches: several steps


def shift_right(word: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int64 words (torch's own shift is arithmetic)."""
    return (word >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def split_mix(state: torch.Tensor) -> torch.Tensor:
    """SplitMix64's output for int64 states, elementwise: 64 random bits as int64.

    >>> seed = 1234567
    >>> word = split_mix(torch.tensor([seed + GAMMA]))  # the generator's first output
    >>> int(word) % 2**64
    6457827717110365317
    """
    word = shift_right(state, 30).bitwise_xor_(state).mul_(0xBF58476D1CE4E5B9 - 2**64)
    word = shift_right(word, 27).bitwise_xor_(word).mul_(0x94D049BB133111EB - 2**64)
    return shift_right(word, 31).bitwise_xor_(word)


class BlockNoise(GridNoise):
    """Increments generated from random words in blocks of 1024 paths; subclasses define the law.

    Args:
        drivers: M.
        steps: N.
        t1: end of the grid.
        t0: start of the grid.
        seed: root seed.
        antithetic: paths 2j and 2j + 1 have opposite increments.
        refine: r: each increment is the sum of r increments on a grid finer by the factor r, so
            that `steps=N, refine=r` and `steps=r·N, refine=1` give the same Brownian paths.
        compiled: generate the increments by a compiled function: the same values to rounding,
            several times faster after some seconds of compilation.
    """

    def __init__(
        self,
        *,
        drivers: int,
        steps: int,
        t1: float,
        t0: float = 0.0,
        seed: int = 0,
        antithetic: bool = False,
        refine: int = 1,
        compiled: bool = False,
    ) -> None:
        super().__init__(drivers=drivers, steps=steps, t1=t1, t0=t0, seed=seed)
        self.antithetic, self.compiled = antithetic, compiled
        self.refine = check_count("refine", refine)
        self.fine_step_size = self.step_size / self.refine
        self.rows = BLOCK // 2 if antithetic else BLOCK  # independent paths per block
        self._makers: dict[torch.dtype, Callable[..., torch.Tensor]] = {}

    @abc.abstractmethod
    def words_per_block(self, dtype: torch.dtype) -> int:
        """Number of random words per block and (fine) step."""

    @abc.abstractmethod
    def transform(self, words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Fine increments `(steps, blocks, rows · M)` from words `(steps, blocks, W)`."""

    def block_increments(
        self, counters: torch.Tensor, keys: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """Fine increments `(steps, blocks · 1024, M)`.

        Args:
            counters: i·γ, int64 `(blocks, W)`.
            keys: k_n, int64 `(steps,)`.
            dtype: float64 or float32.
        """
        words = split_mix(counters + keys[:, None, None])
        drawn = self.transform(words, dtype).view(len(keys), -1, self.drivers)
        if self.antithetic:
            drawn = torch.stack((drawn, -drawn), dim=2).flatten(1, 2)
        return drawn

    def stream(
        self,
        first: int,
        last: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Iterator[torch.Tensor]:
        """Yield ΔB_n `(last − first, M)` of paths first … last − 1 for n = 0 … N − 1."""
        fine = self._fine_stream(first, last, dtype, device, channel=0)
        if self.refine == 1:
            return islice(fine, self.steps)
        return (sum(islice(fine, self.refine - 1), start=next(fine)) for _ in range(self.steps))

    def coarsen(self, factor: int) -> BlockNoise:
        """The same Brownian paths on a grid coarser by `factor`, which must divide `steps`."""
        check_count("factor", factor)
        if self.steps % factor:
            raise ValueError(f"factor={factor}: expected a divisor of steps={self.steps}.")
        return type(self)(
            drivers=self.drivers,
            steps=self.steps // factor,
            t1=self.t1,
            t0=self.t0,
            seed=self.seed,
            antithetic=self.antithetic,
            refine=self.refine * factor,
            compiled=self.compiled,
        )

    def _fine_stream(
        self, first: int, last: int, dtype: torch.dtype, device: torch.device | str, channel: int
    ) -> Iterator[torch.Tensor]:
        check_float_dtype("dtype", dtype)
        check_count("first", first, minimum=0)
        check_count("last", last, minimum=first + 1)
        start, stop, words = first // BLOCK, -(-last // BLOCK), self.words_per_block(dtype)
        counters = torch.arange(start * words, stop * words, device=device).view(-1, words) * GAMMA
        fine_steps = self.steps * self.refine
        ahead = max(1, min(fine_steps, _SIZE_AT_ONCE // ((stop - start) * BLOCK * self.drivers)))
        # Rounded up to whole batches: key n does not depend on how many are derived.
        wanted = -(-fine_steps // ahead) * ahead
        sequence = np.random.SeedSequence(self.seed, spawn_key=(channel,))
        keys = torch.from_numpy(sequence.generate_state(wanted, np.uint64).view(np.int64))
        make = self._maker(dtype)
        offset = first % BLOCK
        for some in keys.to(device).split(ahead):
            yield from make(counters, some)[:, offset : offset + last - first]

    def _maker(self, dtype: torch.dtype) -> Callable[..., torch.Tensor]:
        if dtype not in self._makers:
            make = partial(self.block_increments, dtype=dtype)
            self._makers[dtype] = Compiled(make) if self.compiled else make
        return self._makers[dtype]
