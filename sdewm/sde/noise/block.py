"""Random increments drawn in blocks of paths, so that a path does not depend on its batch.

The increments of path i do not depend on the batch in which it is asked for, on the other paths or
on the number of threads. Paths come in blocks of 1024; each block reads a NumPy stream of its own
(SFC64, keyed by (seed, block) through SeedSequence) forward in time, so that memory does not grow
with the number of steps. Torch turns the raw numbers into increments, on any device, in float32 or
float64.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np
import torch

from sdewm.base.checks import check_count, check_float_dtype
from sdewm.base.compiling import Compiled
from sdewm.sde.noise.grid import GridNoise

BLOCK = 1024  # paths per stream
_BYTES_DRAWN = 1 << 20  # raw numbers drawn at once: few calls into NumPy
_SIZE_TRANSFORMED = 1 << 16  # increments made from them at once: in cache


class BlockNoise(GridNoise):
    """Increments made from raw random numbers, block by block. Subclasses say how.

    Args:
        drivers: M.
        steps: N.
        t1: end of the grid.
        t0: start of the grid.
        seed: root seed.
        antithetic: paths 2j and 2j + 1 get opposite increments.
        refine: every increment is the sum of this many increments of a grid that is finer by this
            factor, so that `steps=N, refine=r` and `steps=r·N, refine=1` follow the same Brownian
            paths.
        compiled: make the increments by a compiled function: the same numbers to rounding, two to
            five times as fast, after seconds of compilation.
    """

    raw_type: type[np.generic]  # of the raw numbers

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
        self._makers: dict[torch.dtype, Callable[[torch.Tensor], torch.Tensor]] = {}
        self.refine = check_count("refine", refine)
        self.fine_step_size = self.step_size / self.refine
        self.rows = BLOCK // 2 if antithetic else BLOCK  # independent paths per block

    @abc.abstractmethod
    def raw_per_step(self, dtype: torch.dtype) -> int:
        """How many raw numbers a block consumes per (fine) step."""

    @abc.abstractmethod
    def fill_raw(self, generator: np.random.Generator, target: np.ndarray) -> None:
        """Write the next raw numbers of a block's stream to the contiguous array `(steps.

        Raw_per_step)`.
        """

    @abc.abstractmethod
    def transform(self, raw: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Independent increments of the fine grid.

        `(steps, blocks, rows · M)`, from raw ones `(steps, blocks, …)`.
        """

    def block_increments(self, raw: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Increments `(steps.

        Blocks · 1024, M)` of the fine grid from raw numbers `(blocks, steps,
        raw_per_step)`.
        """
        drawn = self.transform(raw.transpose(0, 1), dtype).view(raw.shape[1], -1, self.drivers)
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
        """The same Brownian paths on the grid that is coarser by `factor`.

        A divisor of the number of steps.
        """
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

    def _raw_stream(
        self, first: int, last: int, dtype: torch.dtype, channel: int
    ) -> Iterator[torch.Tensor]:
        """Yield raw numbers `(blocks.

        Steps, raw_per_step)`, some fine steps at a time, of the paths' blocks.
        """
        blocks = range(first // BLOCK, -(-last // BLOCK))
        generators = [
            np.random.Generator(
                np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=(block, channel)))
            )
            for block in blocks
        ]
        size, fine_steps = self.raw_per_step(dtype), self.steps * self.refine
        step_bytes = size * len(blocks) * np.dtype(self.raw_type).itemsize
        ahead = max(1, min(fine_steps, _BYTES_DRAWN // step_bytes))
        threads = min(torch.get_num_threads(), len(blocks))
        cuts = [len(blocks) * i // threads for i in range(threads + 1)]

        def refill(low: int, high: int, raw: np.ndarray) -> None:
            for generator, target in zip(generators[low:high], raw[low:high], strict=True):
                self.fill_raw(generator, target)

        def empty() -> np.ndarray:
            return np.empty((len(blocks), ahead, size), dtype=self.raw_type)

        if threads == 1:
            for _ in range(-(-fine_steps // ahead)):
                raw = empty()
                refill(0, len(blocks), raw)
                yield torch.from_numpy(raw)
            return
        with ThreadPoolExecutor(threads) as pool:

            def start() -> tuple[np.ndarray, list[Future[None]]]:
                raw = empty()
                return raw, [
                    pool.submit(refill, *part, raw) for part in zip(cuts, cuts[1:], strict=False)
                ]

            following = start()
            for _ in range(-(-fine_steps // ahead)):
                raw, parts = following
                for part in parts:
                    part.result()
                following = start()  # drawn while the caller works on these
                yield torch.from_numpy(raw)

    def _fine_stream(
        self, first: int, last: int, dtype: torch.dtype, device: torch.device | str, channel: int
    ) -> Iterator[torch.Tensor]:
        check_float_dtype("dtype", dtype)
        check_count("first", first, minimum=0)
        check_count("last", last, minimum=first + 1)
        make = self._makers.setdefault(dtype, partial(self.block_increments, dtype=dtype))
        if self.compiled and not isinstance(make, Compiled):
            make = self._makers[dtype] = Compiled(make)
        offset = first % BLOCK
        for raw in self._raw_stream(first, last, dtype, channel):
            together = max(1, _SIZE_TRANSFORMED // (len(raw) * BLOCK * self.drivers))
            for some in raw.to(device).split(together, dim=1):
                steps = make(some)
                yield from steps[:, offset : offset + last - first]
