"""Monte Carlo in bounded memory.

Fixed tiles of paths, streamed sums, progress, interruption and resumption.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sdewm.base.checks import check_count
from sdewm.base.progress import Progress
from sdewm.base.stats import BATCHES, BatchSums

_SAVE_SECONDS = 20.0


def tile_size(device: torch.device) -> int:
    """Number of paths evaluated at once: in cache on a CPU, enough to fill a GPU."""
    return 4096 if device.type == "cpu" else 1 << 18


def check_groups(groups: int | None, paths: int, *, sampled: bool) -> int:
    """The number of batches for `accumulate`: as many as there are groups of paths, if given.

    Raises:
        ValueError: paths that do not fall into so many equal groups of an even number.
    """
    if groups is None:
        return BATCHES
    if check_count("groups", groups, minimum=2) and (not sampled or paths % (2 * groups)):
        raise ValueError(
            f"groups={groups}: expected that paths={paths} fall into as many groups of an even "
            "number of sampled paths."
        )
    return groups


def accumulate(
    evaluate: Callable[[int, int], torch.Tensor],
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

    The arithmetic always runs on the tiles [j·tile, (j+1)·tile), in order, so that the sums are the
    same bit for bit whatever `chunk` is and however often the work was interrupted.

    Args:
        evaluate: (first, last) -> quantities `(last − first, Q)` of paths first … last − 1.
        quantities: Q.
        paths: number of paths.
        label: what is computed, for the progress line.
        tile: paths evaluated at once.
        chunk: paths between two looks at the clock (progress, saving); default: one tile.
        checkpoint: folder in which the sums are kept every 20 s and on interruption, and from which
            a later call with the same `key` goes on; the file is removed at the end.
        key: identifies the computation in the checkpoint.
        batches: groups of consecutive paths from whose means the standard errors come.

    Raises:
        KeyboardInterrupt: passed on after saving, with a text that says how to go on.

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
    )  # the last whole chunk: an interruption may fall inside an addition
    saved = time.monotonic()
    try:
        while first < paths:
            for _ in range(tiles_per_chunk):
                if first < paths:
                    last = min(first + tile, paths)
                    sums.add(first, evaluate(first, last))
                    first = last
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
            f"{label}: stopped after {kept[0]} of {paths} paths, kept in {store}; "
            "run the same command again to go on"
        ) from interrupt
    finally:
        progress.close()
    if store is not None:
        store.unlink(missing_ok=True)
    return sums


def _save(store: Path, kept: tuple[int, np.ndarray], key: str) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    aside = store.with_name(store.name + ".part.npz")
    np.savez(aside, first=kept[0], sums=kept[1], key=key)
    os.replace(aside, store)


def _load(store: Path, sums: BatchSums, key: str) -> int:
    if not store.exists():
        return 0
    with np.load(store, allow_pickle=False) as data:
        if str(data["key"]) != key or data["sums"].shape != sums.sums.shape:
            return 0  # another computation with the same checksum: begin anew
        sums.sums[:] = data["sums"]
        return int(data["first"])
