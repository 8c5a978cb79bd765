"""Draws that all methods share, and what a perturbation really did."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def draw_seed(*facts: object) -> int:
    """A seed from the facts that determine a draw; equal facts give equal draws everywhere.

    >>> draw_seed("task", "noise", 0.1, 3) == draw_seed("task", "noise", 0.1, 3)
    True
    """
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


class EpisodeCounter:
    """Where N parallel environments are, as facts of a draw that do not depend on N.

    Episode k of environment i is number i + k·N of the evaluation: the one that a single
    environment, of index 0, runs under this number.

    >>> places = EpisodeCounter()
    >>> places([True, True]), places([False, True])
    ([((0, 0), 0), ((0, 1), 0)], [((0, 0), 1), ((0, 3), 0)])
    """

    def __init__(self) -> None:
        self._episodes, self._steps = np.array(-1), np.array(-1)

    def __call__(self, is_first: Sequence[bool] | np.ndarray) -> list[tuple[tuple[int, int], int]]:
        """Of each environment (0, number of its episode) and its step, given its next row."""
        first = np.array(is_first, bool)
        self._episodes = self._episodes + first
        self._steps = np.where(first, 0, self._steps + 1)
        numbers = np.arange(len(first)) + len(first) * self._episodes
        return [
            ((0, int(number)), int(step)) for number, step in zip(numbers, self._steps, strict=True)
        ]


class Realised:
    """Moments of the change of all entries: perturbed − clean, images in units of 255.

    Attributes:
        count: number of entries seen.
    """

    def __init__(self) -> None:
        self.count, self._sum, self._squares, self._changed = 0, 0.0, 0.0, 0

    def add(self, clean: np.ndarray, perturbed: np.ndarray) -> None:
        """Count the entries of one observation."""
        unit = 255.0 if clean.dtype == np.uint8 else 1.0
        change = (perturbed.astype(np.float64) - clean.astype(np.float64)) / unit
        self.count += change.size
        self._sum += float(change.sum())
        self._squares += float((change**2).sum())
        self._changed += int(np.count_nonzero(change))

    def summary(self) -> dict[str, float]:
        """Mean and standard deviation of the change, and the share of entries changed."""
        count = max(self.count, 1)
        mean = self._sum / count
        spread = max(self._squares / count - mean**2, 0.0) ** 0.5
        return {
            "realised_mean": mean,
            "realised_std": spread,
            "realised_share": self._changed / count,
        }
