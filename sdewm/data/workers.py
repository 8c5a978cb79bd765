"""Gymnasium's AsyncVectorEnv, extended to report which worker ended and to kill the others."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

# Settings passed on from this process: workers start as copies of an earlier process.
_SETTINGS = ("MUJOCO", "SDEWM", "PYOPENGL", "__EGL", "EGL")
LONGEST_DEATH = 60.0  # seconds from a closed pipe to the end of its process, on a busy machine


def _make_in_worker(
    make: Callable[[], gymnasium.Env], settings: Mapping[str, str]
) -> gymnasium.Env:
    """Call `make`; in a worker, Ctrl-C is left to the main process, which saves and ends it."""
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ.update(settings)
    return make()


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}


class Workers(AsyncVectorEnv):
    """One process per environment, with observations in shared memory.

    The last row of an episode is followed by the first row of the next one.

    Args:
        functions: one per environment, picklable.
    """

    def __init__(self, functions: list[Callable[[], gymnasium.Env]]) -> None:
        # A forked copy of this process, which may run torch, CUDA or OpenGL, could hang. Workers
        # are copies of a process that has imported what they need and has done nothing else.
        multiprocessing.get_context("forkserver").set_forkserver_preload(
            ["__main__", "sdewm.data.envs"]
        )
        functions[0]().close()  # Decides about OpenGL, for the settings.
        settings = _settings()
        super().__init__(
            [functools.partial(_make_in_worker, make, settings) for make in functions],
            shared_memory=True,
            context="forkserver",
            autoreset_mode=AutoresetMode.NEXT_STEP,
        )

    def dead(self, problem: Exception) -> dict[int, int | None]:
        """Index and exit code of each process that ended; the code is None if it raised.

        Args:
            problem: the exception seen here. A closed pipe is seen before its process has ended.
        """
        if isinstance(problem, (EOFError, ConnectionError)):
            wait([process.sentinel for process in self.processes], timeout=LONGEST_DEATH)
        found: dict[int, int | None] = {}
        for index, process in enumerate(self.processes):
            if self.parent_pipes[index] is None:
                found[index] = None
            elif not process.is_alive():
                found[index] = process.exitcode
        return found

    def quietly(self, act: Callable[[], Any]) -> Any:
        """Call `act()` without Gymnasium's extra warning about a worker's exception."""
        level, gymnasium.logger.min_level = gymnasium.logger.min_level, gymnasium.logger.ERROR + 1
        try:
            return act()
        finally:
            gymnasium.logger.min_level = level

    def kill(self) -> None:
        """Kill all processes at once; they hold nothing that must be saved."""
        if self.closed:
            return
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        for pipe in self.parent_pipes:
            if pipe is not None:
                pipe.close()
        self.error_queue.close()
        self.closed = True
