"""Monte Carlo sums on workers: bitwise those of one process, whatever happens to the workers."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import sdewm
from sdewm.sde.examples import OrnsteinUhlenbeck
from sdewm.sde.monte_carlo import TILES_PER_TASK, accumulate, on_workers


class Threads:
    """Workers of this process, which end in any order."""

    def __init__(self, count=3):
        self.pool, self.count, self.tasks, self.cancelled = ThreadPoolExecutor(count), count, 0, 0

    def capacity(self):
        return self.count

    def submit(self, task):
        self.tasks += 1
        return self.pool.submit(task)

    def result(self, ticket):
        return ticket.result()

    def cancel(self, ticket):
        self.cancelled += 1
        ticket.cancel()


def quantities(first, last):
    """Numbers whose sums depend on the order of addition."""
    rows = torch.arange(first, last, dtype=torch.float64)
    return torch.stack([(rows * 0.7).sin() * 10 ** (rows % 9), 1 / (1 + rows)], 1)


def sums_of(evaluate=quantities, **options):
    return accumulate(evaluate, 2, 10_007, label="test", tile=100, **options).sums


def test_sums_on_workers_are_bitwise_those_of_one_process():
    here, workers = sums_of(), Threads()
    with on_workers(workers):
        there = sums_of()
    assert np.array_equal(here, there) and workers.tasks == -(-101 // TILES_PER_TASK)
    backwards = sum(
        float(quantities(n, n + 1)[0, 0]) for n in range(10_006, -1, -1)
    )  # the order matters: this control is another number
    assert backwards != here.sum(0)[0]


def test_after_the_context_the_sums_are_computed_here_again():
    workers = Threads()
    with on_workers(workers):
        sums_of()
    before = workers.tasks
    sums_of()
    assert workers.tasks == before


def test_an_error_of_a_task_is_raised_and_the_others_are_given_up():
    def fails(first, last):
        if first == 300:
            raise FloatingPointError("a trajectory is not finite")
        return quantities(first, last)

    workers = Threads()
    with on_workers(workers), pytest.raises(FloatingPointError, match="not finite"):
        sums_of(fails)
    assert workers.cancelled > 0


def test_an_interrupted_sum_on_workers_resumes_from_its_checkpoint(tmp_path):
    calls = []

    def stops(first, last):
        calls.append(first)
        if first == 5000:
            raise KeyboardInterrupt
        return quantities(first, last)

    grid = {"checkpoint": tmp_path, "key": "k"}
    with on_workers(Threads(1)), pytest.raises(KeyboardInterrupt, match="run the same command"):
        sums_of(stops, **grid)
    begun = []

    def again(first, last):
        begun.append(first)
        return quantities(first, last)

    assert np.array_equal(sums_of(again, **grid), sums_of())
    assert min(begun) > 0


def expansion():
    system = OrnsteinUhlenbeck()
    error = sdewm.Perturbation(drift=system.error_drift, diffusion=system.error_diffusion)
    grid = {"t1": 1.5, "steps": 8, "paths": 200_000}
    result = sdewm.expand(system, error, lambda y: y[:, 0] ** 2, system.x0, **grid)
    return {name: one.value for name, one in result.terms.items()}, [
        row.measured.value for row in result.measure([0.1, 0.2])
    ]


def test_an_expansion_on_workers_is_the_same():
    with on_workers(Threads(1)):  # torch traces functions in one thread of a process at a time
        there = expansion()
    assert there == expansion()


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match="Ray is not installed; pip install"):
        with sdewm.ray_workers("auto"):
            pass


@pytest.mark.slow
def test_an_expansion_on_two_ray_nodes_of_which_one_is_lost_is_the_same():
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        lose = threading.Timer(1.0, lambda: cluster.remove_node(nodes[1], allow_graceful=False))
        with sdewm.ray_workers(cluster.address):
            lose.start()
            there = expansion()
            lose.join()
            again = expansion()
    finally:
        ray.shutdown()
        cluster.shutdown()
    here = expansion()
    assert there == here and again == here
