"""Worker processes: their end, whatever they or the main process do."""

import functools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sdewm.data.vector import EpisodeVector
from sdewm.data.wrappers import SeededEpisodes, UnitActions
from tests.data.toy_env import Fragile


def test_a_deaf_worker_does_not_stop_the_end():
    functions = [functools.partial(_make_deaf, index) for index in range(1)]
    vector = EpisodeVector(functions, workers=True, seed=0, name="deaf")
    vector.reset()
    vector.unwrapped.step_async(np.zeros((1, 1), np.float32))
    start = time.monotonic()
    vector.close()
    assert time.monotonic() - start < 5


class _Deaf(Fragile):
    def step(self, action):
        time.sleep(600)


def _make_deaf(index):
    return SeededEpisodes(UnitActions(_Deaf()), 0, index)


MAIN = """
import os, signal, sys, time
from sdewm.data.vector import make_vector

if __name__ == "__main__":
    vector = make_vector("own:cartpole_pixels", envs=2, workers=True, obs="proprio",
                         action_repeat=2, render="fast", seed=0)
    vector.reset()
    pids = [process.pid for process in vector.unwrapped.processes]
    if sys.argv[1] == "kill":
        print(*pids, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGINT, lambda *_: None)
    os.killpg(os.getpgid(0), signal.SIGINT)  # Ctrl-C on a terminal reaches all processes
    time.sleep(0.5)
    vector.step(vector.action_space.sample())
    print(vector.restarts, flush=True)
    vector.close()
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_workers_end_with_a_killed_main_process_and_outlive_ctrl_c(tmp_path, how):
    script = tmp_path / "main.py"
    script.write_text(MAIN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [sys.executable, str(script), how],
        stdout=subprocess.PIPE,
        timeout=100,
        text=True,
        env=environment,
        start_new_session=True,
    )
    if how == "interrupt":
        assert (run.returncode, run.stdout) == (0, "0\n")
        return
    pids = [int(pid) for pid in run.stdout.split()]
    assert len(pids) == 2 and run.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)
