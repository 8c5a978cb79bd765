"""The states of the global random generators: seeding, saving, restoring, preserving."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (CPU and CUDA), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_states() -> dict[str, Any]:
    """The states of the global generators, as tensors, arrays and numbers."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [name, keys, position, has_gauss, cached],
        "python": [version, np.array(words, dtype=np.int64), gauss],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Restore the states of the global generators returned by `random_states`.

    >>> states = random_states()
    >>> first = torch.rand(3)
    >>> restore_random_states(states)
    >>> torch.equal(first, torch.rand(3))
    True
    """
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys, position, has_gauss, cached))
    version, words, gauss = states["python"]
    random.setstate((version, tuple(int(word) for word in words), gauss))


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Context that restores the global generators at its end, whatever was drawn from them."""
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)
