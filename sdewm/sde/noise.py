"""Brownian increments on a fixed grid: streamed in time, and a function of (seed, path index) only.

The increments of path i do not depend on the batch in which it is asked for, on the other paths, on the device or on
the number of threads. Paths are drawn in blocks of 1024, each block from a stream of its own whose key is
(seed, block); a stream is read forward in time, so memory does not grow with the number of steps.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from sdewm.base.checks import check_count, check_float_dtype, check_interval

BLOCK = 1024  # paths per stream
_THREADED_SIZE = 1 << 16  # normals per step from which several threads draw

Fill = Callable[[torch.Tensor], None]


class GridNoise(abc.ABC):
    """Increments ΔB^k_n over the grid t_n = t0 + nΔ, Δ = (t1 − t0)/steps, of M drivers.

    Args:
        drivers: M.
        steps: number of steps N.
        t1: end of the grid.
        t0: start of the grid.
        seed: root seed, a whole number of at least 0.

    Raises:
        ValueError: a size below 1, a negative seed, or t1 ≤ t0.
    """

    paths_limit: int | None = None  # number of paths where the law is finite

    def __init__(self, *, drivers: int, steps: int, t1: float, t0: float = 0.0, seed: int = 0) -> None:
        self.drivers = check_count("drivers", drivers)
        self.steps = check_count("steps", steps)
        self.t0, self.t1 = check_interval(t0, t1)
        self.seed = check_count("seed", seed, minimum=0)
        self.step_size = (self.t1 - self.t0) / self.steps

    @abc.abstractmethod
    def stream(
        self, first: int, last: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Iterator[torch.Tensor]:
        """Yield ΔB_n `(last − first, M)` of paths first … last − 1 for n = 0 … N − 1."""

    def increments(self, first: int, last: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """All increments `(N, last − first, M)` at once, for small cases."""
        return torch.stack(list(self.stream(first, last, dtype)))


class BlockNoise(GridNoise):
    """Increments drawn in blocks of paths. Subclasses say how one block is filled.

    Args:
        drivers: M.
        steps: N.
        t1: end of the grid.
        t0: start of the grid.
        seed: root seed.
        antithetic: paths 2j and 2j + 1 get opposite increments.
        refine: every increment is the sum of this many increments of a grid that is finer by this factor, so that
            `steps=N, refine=r` and `steps=r·N, refine=1` follow the same Brownian paths.
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
    ) -> None:
        super().__init__(drivers=drivers, steps=steps, t1=t1, t0=t0, seed=seed)
        self.antithetic = antithetic
        self.refine = check_count("refine", refine)
        self.fine_step_size = self.step_size / self.refine

    @abc.abstractmethod
    def block_source(self, block: int, dtype: torch.dtype, channel: int) -> Fill:
        """A function that fills a contiguous CPU tensor with the next numbers of the stream (seed, block, channel)."""

    def stream(
        self, first: int, last: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Iterator[torch.Tensor]:
        """Yield ΔB_n `(last − first, M)` of paths first … last − 1 for n = 0 … N − 1."""
        for fine in self._grouped(self._fine_stream(first, last, dtype, channel=0)):
            yield sum(fine[1:], start=fine[0]).to(device)

    def coarsen(self, factor: int) -> BlockNoise:
        """The same Brownian paths on the grid that is coarser by `factor`, a divisor of the number of steps."""
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
        )

    def _grouped(self, fine: Iterator[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
        for _ in range(self.steps):
            yield [next(fine) for _ in range(self.refine)]

    def _fine_stream(self, first: int, last: int, dtype: torch.dtype, channel: int) -> Iterator[torch.Tensor]:
        check_float_dtype("dtype", dtype)
        check_count("first", first, minimum=0)
        check_count("last", last, minimum=first + 1)
        start, stop = first // BLOCK, -(-last // BLOCK)
        sources = [self.block_source(block, dtype, channel) for block in range(start, stop)]
        rows = BLOCK // 2 if self.antithetic else BLOCK
        shape = (len(sources), rows, self.drivers)
        pool = None
        if math.prod(shape) >= _THREADED_SIZE and torch.get_num_threads() > 1:
            pool = ThreadPoolExecutor(torch.get_num_threads())
        try:
            while True:
                drawn = torch.empty(shape, dtype=dtype)
                if pool is None:
                    for source, target in zip(sources, drawn, strict=True):
                        source(target)
                else:
                    list(pool.map(lambda fill, target: fill(target), sources, drawn))
                if self.antithetic:
                    drawn = torch.stack((drawn, -drawn), dim=2)
                flat = drawn.view(-1, self.drivers)
                yield flat[first - start * BLOCK : last - start * BLOCK]
        finally:
            if pool is not None:
                pool.shutdown(wait=False)


def _bit_generator(seed: int, block: int, channel: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(block, channel))))


class GaussianNoise(BlockNoise):
    """Independent normal increments of variance Δ.

    In float64 the normals are NumPy's (SFC64 streams keyed by SeedSequence), in float32 torch's, which are twice as
    fast there: the two precisions follow different paths.

    >>> noise = GaussianNoise(drivers=2, steps=4, t1=1.0, seed=1)
    >>> alone, among = noise.increments(700, 701), noise.increments(0, 3000)[:, 700:701]
    >>> bool((alone == among).all())
    True
    >>> coarse = noise.coarsen(2).increments(0, 8)
    >>> bool(torch.allclose(coarse[0], noise.increments(0, 8)[:2].sum(0)))
    True
    """

    def block_source(self, block: int, dtype: torch.dtype, channel: int) -> Fill:
        """A function that fills a tensor with normals of variance Δ (of the fine grid)."""
        scale = math.sqrt(self.fine_step_size)
        bits = _bit_generator(self.seed, block, channel)
        if dtype == torch.float32:
            # torch seeds its CPU generator with 32 bits: consecutive seeds from a random start never coincide.
            base = int(_bit_generator(self.seed, 0, channel).integers(2**32))
            generator = torch.Generator().manual_seed((base + block) % 2**32)

            def fill(target: torch.Tensor) -> None:
                target.normal_(0.0, scale, generator=generator)

            return fill

        def fill(target: torch.Tensor) -> None:
            bits.standard_normal(out=target.numpy())
            target.mul_(scale)

        return fill

    def stream_with_area(
        self, first: int, last: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (ΔB_n, U_n), each `(last − first, M)`, with U_n = ∫ (B_s − B_{t_n}) ds over the step n.

        On the finest grid U = δ(ΔB/2 + H) with H ~ N(0, δ/12) independent of ΔB; sums over a coarser step follow from
        the additivity of the integral. ΔB is the one of `stream`.
        """
        walks = self._grouped(self._fine_stream(first, last, dtype, channel=0))
        areas = self._grouped(self._fine_stream(first, last, dtype, channel=1))
        delta = self.fine_step_size
        for walk, area in zip(walks, areas, strict=True):
            total, integral = torch.zeros_like(walk[0]), torch.zeros_like(walk[0])
            for increment, normal in zip(walk, area, strict=True):
                integral = integral + delta * (total + 0.5 * increment + normal / math.sqrt(12.0))
                total = total + increment
            yield total.to(device), integral.to(device)


class TwoPointNoise(BlockNoise):
    """Increments ±√Δ with probability ½ each: one random bit per increment.

    Their mean, variance and third moment are those of the normal; the expansion at the level of the scheme (S5b)
    holds for them exactly as it does for normals.

    >>> TwoPointNoise(drivers=1, steps=4, t1=4.0, seed=3).increments(0, 2).abs().unique()
    tensor([1.], dtype=torch.float64)
    """

    def block_source(self, block: int, dtype: torch.dtype, channel: int) -> Fill:
        """A function that fills a tensor with ±√Δ (of the fine grid)."""
        bits = _bit_generator(self.seed, block, channel)
        scale = math.sqrt(self.fine_step_size)
        signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)  # (256, 8)
        kind = np.float32 if dtype == torch.float32 else np.float64
        table = ((2.0 * signs - 1.0) * scale).astype(kind)

        def fill(target: torch.Tensor) -> None:
            octets = np.frombuffer(bits.bytes(target.numel() // 8), dtype=np.uint8)
            np.take(table, octets, axis=0, out=target.numpy().reshape(-1, 8), mode="clip")

        return fill


class EnumeratedNoise(GridNoise):
    """All 2^(N·M) patterns of increments ±√Δ, each once: averages over them have no sampling error (O8).

    Bit n·M + k of the path index is the sign of ΔB^k_n.

    Raises:
        ValueError: more than 2²⁴ patterns.

    >>> EnumeratedNoise(drivers=1, steps=2, t1=2.0).increments(0, 4)[:, :, 0]
    tensor([[-1.,  1., -1.,  1.],
            [-1., -1.,  1.,  1.]], dtype=torch.float64)
    """

    largest_exponent = 24

    def __init__(self, *, drivers: int, steps: int, t1: float, t0: float = 0.0, seed: int = 0) -> None:
        super().__init__(drivers=drivers, steps=steps, t1=t1, t0=t0, seed=seed)
        exponent = self.steps * self.drivers
        if exponent > self.largest_exponent:
            raise ValueError(
                f"increments='enumerate' with steps={self.steps} and {self.drivers} drivers needs 2^{exponent} paths; "
                f"at most 2^{self.largest_exponent} are allowed: take fewer steps, or increments='two_point'."
            )
        self.paths_limit = 2**exponent

    def stream(
        self, first: int, last: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Iterator[torch.Tensor]:
        """Yield ΔB_n `(last − first, M)` of patterns first … last − 1 for n = 0 … N − 1."""
        pattern = torch.arange(first, last, device=device)[:, None]  # (B, 1)
        scale = math.sqrt(self.step_size)
        for step in range(self.steps):
            shift = step * self.drivers + torch.arange(self.drivers, device=device)  # (M,)
            sign = 2 * ((pattern >> shift) & 1) - 1
            yield sign.to(dtype) * scale
