"""Monte Carlo sums on a cluster of Ray, an optional extra: pip install 'sdewm[ray]'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sdewm.base.ray_cluster import LOST_NODES, connect, cores
from sdewm.sde.monte_carlo import Parts, on_workers


def _on_node(task: Callable[[], list[Parts]]) -> list[Parts]:
    torch.set_num_threads(1)
    return task()


class RayWorkers:
    """The cores of a Ray cluster; a task whose node is lost is run again elsewhere.

    Args:
        address: of the cluster, such as "auto", "local" or "ray://host:10001".

    Raises:
        ValueError: Ray is not installed, or there is no cluster at this address.
    """

    def __init__(self, address: str) -> None:
        self.ray = connect(address)
        self._task = self.ray.remote(num_cpus=1, max_retries=LOST_NODES)(_on_node)

    def capacity(self) -> int:
        """Number of cores of the cluster."""
        return cores(self.ray)

    def submit(self, task: Callable[[], list[Parts]]) -> Any:
        """Hand a task to the cluster."""
        return self._task.remote(task)

    def result(self, ticket: Any) -> list[Parts]:
        """The result of a task; an error in it is raised as it was there."""
        try:
            return self.ray.get(ticket)
        except self.ray.exceptions.RayTaskError as problem:
            raise problem.cause from problem

    def cancel(self, ticket: Any) -> None:
        """Give up a task."""
        self.ray.cancel(ticket)


@contextmanager
def ray_workers(address: str) -> Iterator[None]:
    """Within this context all Monte Carlo sums are computed on a Ray cluster.

    Every path has random numbers of its own, and sums are added in the order of the paths, so that
    results are those of a computation here, however the paths are split. Systems, losses and
    perturbations are pickled by Ray; classes of modules have to be importable on the nodes.

        with sdewm.ray_workers("auto"):
            result = sdewm.expand(system, error, loss, x0, t1=1.0, steps=50, paths=10**9)

    Args:
        address: of the cluster, such as "auto", "local" or "ray://host:10001".

    Raises:
        ValueError: Ray is not installed, or there is no cluster at this address.
    """
    with on_workers(RayWorkers(address)):
        yield
