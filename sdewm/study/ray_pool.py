"""Cells of a study on a cluster of Ray, an optional extra: pip install 'sdewm[ray]'.

Every cell is one task on one core. Ray runs it again elsewhere if its node is lost; where the nodes
share a file system the run goes on from its last checkpoint, and else from its start. Declaration
and recorded episodes have to be at the same paths on every node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from sdewm.base.ray_cluster import LOST_NODES, connect, cores
from sdewm.study.declaration import Cell
from sdewm.study.engine import Ended
from sdewm.study.rows import Place, read_cell

CellFunction = Callable[[Sequence[str]], int]


def _on_node(function: CellFunction, folder: str, words: Sequence[str]) -> int:
    """Run a cell in the working directory of the study, with one thread."""
    import torch

    os.chdir(folder)
    torch.set_num_threads(1)
    return function(words)


class RayPool:
    """The cores of a Ray cluster.

    Args:
        place: where the study is.
        address: of the cluster, such as "auto", "local" or "ray://host:10001".
        function: trains and measures a cell, from its words; returns an exit code.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at this address.
    """

    def __init__(self, place: Place, address: str, function: CellFunction) -> None:
        ray = connect(address)
        self.ray = ray
        self.place, self.function = place, function
        self._task = ray.remote(num_cpus=1, max_retries=LOST_NODES)(_on_node)
        self._running: dict[Any, Cell] = {}

    def capacity(self) -> int:
        """Number of cores of the cluster."""
        return cores(self.ray)

    def start(self, cell: Cell) -> None:
        """Hand the cell to the cluster."""
        words = [str(self.place.file.resolve()), str(self.place.folder.resolve())]
        words += [cell.arm, str(cell.seed)]
        self._running[self._task.remote(self.function, os.getcwd(), words)] = cell

    def ended(self) -> list[Ended]:
        """The cells that ended since the last call."""
        if not self._running:
            return []
        ready, _ = self.ray.wait([*self._running], num_returns=len(self._running), timeout=0)
        return [self._result(one) for one in ready]

    def _result(self, reference: Any) -> Ended:
        cell = self._running.pop(reference)
        try:
            code = self.ray.get(reference)
        except self.ray.exceptions.RayError as problem:
            return Ended(cell, problem=str(problem).strip().splitlines()[-1])
        if code:
            return Ended(cell, problem=f"exit code {code}")
        return Ended(cell, read_cell(self.place, cell))

    def stop(self) -> list[Ended]:
        """Cancel what still runs; a run goes on later from its last checkpoint.

        Returns:
            The cells that ended since the last call of `ended`.
        """
        try:
            return self.ended()
        finally:
            for reference in self._running:
                self.ray.cancel(reference, force=True)
            self.ray.shutdown()
