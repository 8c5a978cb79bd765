"""Monte Carlo averages in bounded memory, with progress, checkpoints and resumption.

The tiles of paths are evaluated one after the other here, or on the workers of `on_workers`; their
sums are added in the order of the paths in either case, so that the result does not depend on it.
"""

from __future__ import annotations

import io
import math
import os
import sys
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.base.stats import BATCHES, BatchSums

_SAVE_SECONDS = 20.0
AHEAD = 2  # tasks handed out for each worker
TILES_PER_TASK = 16
Parts = list[tuple[int, np.ndarray]]
Evaluate = Callable[[int, int], torch.Tensor]


class Workers(Protocol):
    """Where tiles are evaluated."""

    def capacity(self) -> int:
        """Number of tasks that can run at once."""
        ...

    def submit(self, task: Callable[[], list[Parts]]) -> Any:
        """Hand a task out; a ticket for its result."""
        ...

    def result(self, ticket: Any) -> list[Parts]:
        """The result of a task, waiting for it; errors of the task are raised here."""
        ...

    def cancel(self, ticket: Any) -> None:
        """Give up a task that was handed out."""
        ...


_workers: ContextVar[Workers | None] = ContextVar("workers", default=None)


@contextmanager
def on_workers(workers: Workers) -> Iterator[None]:
    """Within this context all Monte Carlo sums are computed by these workers."""
    token = _workers.set(workers)
    try:
        yield
    finally:
        _workers.reset(token)


def spread_rows(count: int, few: int) -> torch.Tensor:
    """Numbers of at most `few` of `count` rows, spread over all of them, 0 among them; ascending.

    Row i is taken if the fractional part of i φ, with the golden ratio φ, is among the smallest: no
    order of the rows and no period of them is preferred.

    >>> spread_rows(20, 5)
    tensor([ 0,  5, 10, 13, 18])
    """
    fractions = torch.arange(count, dtype=torch.float64) * (math.sqrt(5.0) - 1.0) / 2.0 % 1.0
    return fractions.argsort()[:few].sort().values


def tile_size(device: torch.device, size: int = 1) -> int:
    """Number of paths of `size` components evaluated at once.

    It fits the cache of a CPU, or saturates a GPU. Of states of more than 64 components there are
    fewer, so that memory does not grow with the number of paths.

    >>> tile_size(torch.device("cpu"), 64), tile_size(torch.device("cpu"), 1024)
    (4096, 256)
    """
    numbers = 1 << 18 if device.type == "cpu" else 1 << 24
    return max(1, numbers // max(size, 64))


def check_groups(groups: int | None, paths: int, *, sampled: bool) -> int:
    """The number of batches for `accumulate`: `groups`, or the default if `groups` is None.

    Raises:
        ValueError: the paths are enumerated, or cannot be divided into `groups` groups with equal,
            even numbers of paths.
    """
    if groups is None:
        return BATCHES
    if check_count("groups", groups, minimum=2) and (not sampled or paths % (2 * groups)):
        raise ValueError(
            f"groups={groups}, paths={paths}: expected sampled paths whose number is a multiple of "
            "2·groups, so that all groups have the same even size."
        )
    return groups


def accumulate(
    evaluate: Evaluate,
    quantities: int,
    paths: int,
    *,
    label: str,
    tile: int,
    chunk: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    key: str = "",
    batches: int = BATCHES,
) -> BatchSums:
    """Sum Q quantities over `paths` paths.

    The computation always runs on the tiles [j·tile, (j+1)·tile), in order. The sums are therefore
    bitwise independent of `chunk` and of interruptions.

    Args:
        evaluate: (first, last) -> quantities `(last − first, Q)` of paths first … last − 1.
        quantities: Q.
        paths: number of paths.
        label: name of the computation on the progress line.
        tile: number of paths evaluated at once.
        chunk: number of paths between two updates of progress and checkpoint; default: one tile.
        checkpoint: folder in which the sums are saved every 20 s and on interruption. A later call
            with the same `key` resumes from them. The file is removed at the end. A damaged file is
            named and set aside, and the computation begins anew.
        key: identifies the computation in the checkpoint.
        batches: number of batches of consecutive paths used for standard errors.

    Raises:
        KeyboardInterrupt: after an interruption; with a checkpoint, the sums are saved first and
            the message explains how to resume.

    >>> double = lambda first, last: 2.0 * torch.arange(first, last, dtype=torch.float64)[:, None]
    >>> float(accumulate(double, 1, 10, label="double", tile=4).means()[0])
    9.0
    """
    check_count("paths", paths)
    tiles_per_chunk = 1 if chunk is None else -(-check_count("chunk", chunk) // tile)
    sums = BatchSums(paths, quantities, batches)
    name = f"{zlib.crc32(key.encode()):08x}.npz"
    store = None if checkpoint is None else Path(checkpoint) / name
    first = _load(store, sums, key) if store is not None else 0
    progress = Progress(label, paths, first)
    kept = (
        first,
        sums.sums.copy(),
    )  # state after the last complete chunk: an interruption may fall inside an addition
    saved = time.monotonic()
    tiles = _tiles(evaluate, sums, range(first, paths, tile), tile)
    try:
        while first < paths:
            for _ in range(tiles_per_chunk):
                if first < paths:
                    sums.add_parts(next(tiles))
                    first = min(first + tile, paths)
            kept = (first, sums.sums.copy())
            progress.update(first)
            if store is not None and time.monotonic() - saved > _SAVE_SECONDS:
                _save(store, kept, key)
                saved = time.monotonic()
    except KeyboardInterrupt as interrupt:
        if store is None:
            raise
        _save(store, kept, key)
        raise KeyboardInterrupt(
            f"{label}: interrupted after {kept[0]} of {paths} paths; sums saved in {store}; "
            "run the same command again to resume"
        ) from interrupt
    finally:
        tiles.close()
        progress.close()
    if store is not None:
        store.unlink(missing_ok=True)
    return sums


def _tiles(
    evaluate: Evaluate, sums: BatchSums, firsts: Sequence[int], tile: int
) -> Generator[Parts, None, None]:
    """The parts of the tiles, in their order; several tasks at a time if there are workers."""
    workers = _workers.get()
    if workers is None:
        for first in firsts:
            yield sums.parts(first, evaluate(first, min(first + tile, sums.paths)))
        return
    empty = BatchSums(sums.paths, sums.quantities, sums.batches)
    tasks = [firsts[n : n + TILES_PER_TASK] for n in range(0, len(firsts), TILES_PER_TASK)]
    waiting, tickets = iter(tasks), deque[Any]()
    try:
        while True:
            while len(tickets) < AHEAD * workers.capacity() and (own := next(waiting, None)):
                tickets.append(workers.submit(partial(_evaluated, evaluate, empty, own, tile)))
            if not tickets:
                return
            found = workers.result(tickets[0])
            tickets.popleft()
            yield from found
    finally:
        for ticket in tickets:
            workers.cancel(ticket)


def _evaluated(
    evaluate: Evaluate, sums: BatchSums, firsts: Sequence[int], tile: int
) -> list[Parts]:
    """The parts of the tiles that begin at these paths."""
    return [sums.parts(first, evaluate(first, min(first + tile, sums.paths))) for first in firsts]


def _save(store: Path, kept: tuple[int, np.ndarray], key: str) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    aside = store.with_name(store.name + ".part.npz")
    np.savez(aside, first=kept[0], sums=kept[1], key=key)
    os.replace(aside, store)


def _load(store: Path, sums: BatchSums, key: str) -> int:
    """The number of paths in the saved sums, which are filled in; 0 if there are none to use.

    A damaged file is set aside under the name `*.damaged`, and the computation begins anew.
    """
    if not store.exists():
        return 0
    content = store.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as data:
            if str(data["key"]) != key or data["sums"].shape != sums.sums.shape:
                return 0  # another computation with the same checksum: begin anew
            saved, first = np.array(data["sums"], dtype=np.float64), int(data["first"])
            if not (np.isfinite(saved).all() and 0 <= first <= sums.paths):
                raise ValueError(f"sums of {first} of {sums.paths} paths")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as problem:
        aside = store.with_name(store.name + ".damaged")
        os.replace(store, aside)
        sys.stderr.write(
            f"{store} is damaged ({type(problem).__name__}: {problem}); it is set aside as "
            f"{aside.name}, and the computation begins anew.\n"
        )
        return 0
    sums.sums[:] = saved
    return first
