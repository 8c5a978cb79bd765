"""Cells on two local Ray nodes, one of which is lost in the middle; and refusals."""

import shutil
import sys
import threading

import pytest

from sdewm.cli import main
from sdewm.commands import study_cell
from sdewm.study.engine import LocalPool, run_study
from sdewm.study.ray_pool import RayPool
from sdewm.study.rows import Place, missing_cells, read_rows
from sdewm.study.study_file import read_study
from sdewm.train.signals import StopRequest
from tests.child_process import wait_until
from tests.study.declared import TEXT, written

ray_here = shutil.which("ray") or "ray" in sys.modules


def test_without_ray_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["study", str(written(tmp_path)), "--ray", "auto"]) == 2
    assert "Ray is not installed; pip install 'sdewm[ray]'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_lost_node_costs_no_row_and_rows_are_those_of_a_local_pool(tmp_path):
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    path = written(tmp_path, TEXT.replace("seeds = [0, 1, 2]", "seeds = [0, 1]"))
    study = read_study(path)
    there = Place(tmp_path / "there", study.digest, path)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        pool = RayPool(there, cluster.address, study_cell.main)
        assert pool.capacity() == 2

        def lose():
            wait_until(lambda: any((there.folder / study.digest).glob("*/config.json")))
            cluster.remove_node(nodes[1], allow_graceful=False)

        thread = threading.Thread(target=lose)
        thread.start()
        failed = run_study(study, there, pool, StopRequest(), lambda line: None)
        thread.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert failed == [] and missing_cells(study, there) == []
    here = Place(tmp_path / "here", study.digest, path)
    run_study(study, here, LocalPool(here, 2), StopRequest(), lambda line: None)
    key = lambda row: (row["arm"], row["seed"], row["end_point"])  # noqa: E731
    ours, theirs = (
        {key(row): row["value"] for row in read_rows(study, place)} for place in (there, here)
    )
    assert ours == theirs
