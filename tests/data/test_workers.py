"""Worker processes: their end, whatever they or the main process do."""

import functools
import os
import signal
import sys
import time

import numpy as np
import pytest

from sdewm.data.vector import EpisodeVector
from sdewm.data.wrappers import SeededEpisodes, UnitActions
from tests.child_process import HANG_SECONDS, run, started, wait_until
from tests.data.toy_env import Fragile


def test_a_deaf_worker_does_not_stop_the_end():
    functions = [functools.partial(_make_deaf, index) for index in range(1)]
    vector = EpisodeVector(functions, workers=True, seed=0, name="deaf")
    vector.reset()
    vector.unwrapped.step_async(np.zeros((1, 1), np.float32))
    processes = vector.unwrapped.processes
    vector.close()
    # Killed: a worker that had been waited for would have ended by itself.
    assert [process.exitcode for process in processes] == [-signal.SIGKILL]


class _Deaf(Fragile):
    def step(self, action):
        time.sleep(HANG_SECONDS)


def _make_deaf(index):
    return SeededEpisodes(UnitActions(_Deaf()), 0, index)


MAIN = """
import os, signal, sys
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
    vector.step(vector.action_space.sample())
    print(vector.restarts, flush=True)
    vector.close()
"""


def alive(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):  # it may end between the two
        return False


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "main.py"
    path.write_text(MAIN)
    return path


@pytest.mark.slow
def test_workers_end_with_a_killed_main_process(script):
    with started(sys.executable, script, "kill") as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2 and process.wait() == -signal.SIGKILL
        wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.slow
def test_workers_outlive_ctrl_c(script):
    ended = run(sys.executable, script, "interrupt")
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr
