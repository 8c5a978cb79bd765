"""Processes that tests start: default signals, a process group of their own, ended with the test.

Tests wait for events, never for a time. `HANG_SECONDS` only ends what would otherwise never end.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HANG_SECONDS = 600.0


@contextmanager
def started(
    *words: str | Path, environment: Mapping[str, str | None] | None = None, cwd: Path = ROOT
) -> Iterator[subprocess.Popen[str]]:
    """A process that finds sdewm and computes with one thread; its whole group ends with the block.

    Args:
        words: its command.
        environment: changes of the environment; None removes a variable.
        cwd: its working directory.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **(environment or {})}
    with default_signals():
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=cwd,
            env={name: text for name, text in settings.items() if text is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    hung = threading.Event()
    limit = threading.Timer(HANG_SECONDS, lambda: (hung.set(), _end_group(process)))
    limit.daemon = True
    limit.start()
    with process:
        try:
            yield process
        finally:
            limit.cancel()
            _end_group(process)
            if hung.is_set():
                pytest.fail(f"{process.args} did not end within {HANG_SECONDS:g} seconds")


def run(
    *words: str | Path, environment: Mapping[str, str | None] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Start a process as `started` does and wait for its end."""
    with started(*words, environment=environment, cwd=cwd) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_until(event: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for an event, which has to come before `process` ends."""
    deadline = time.monotonic() + HANG_SECONDS
    while not event():
        if process is not None and process.poll() is not None:
            pytest.fail(f"{process.args} ended too early: {process.communicate()}")
        if time.monotonic() > deadline:
            pytest.fail(f"what was waited for did not come within {HANG_SECONDS:g} seconds")
        time.sleep(0.01)


@contextmanager
def default_signals() -> Iterator[None]:
    """What is started here takes Ctrl-C and hang-ups, also where this process ignores them.

    A shell starts background jobs with SIGINT ignored, `nohup` with SIGHUP, and a child inherits
    that; but a signal for which its parent has a handler is back at its default in the child.
    """
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
