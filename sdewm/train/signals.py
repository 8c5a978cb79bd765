"""Ctrl-C, SIGTERM and SIGHUP as a request to stop, which the training loop obeys when it is safe.

SIGHUP comes when the terminal is closed. A process that nohup started ignores it and goes on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The process was asked to stop.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopRequest:
    """Records whether the process was asked to stop since `listening` began.

    Args:
        first: written to stderr at the first signal.
        second: written at a second one, which ends the process at once.
    """

    def __init__(
        self,
        first: str = "Stopping: saving a checkpoint (interrupt again to stop without saving).",
        second: str = "Stopped without saving; the last checkpoint remains.",
    ) -> None:
        self.number: int | None = None
        self._sentences = first, second

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record the first signal; a second one ends the process at once."""
        heard = [
            number
            for number in CAUGHT
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
        ]
        before = {number: signal.signal(number, self._note) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Interrupted` if a signal was received."""
        if self.number is not None:
            raise Interrupted(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            _write(f"\n{self._sentences[1]}\n".encode())
            os._exit(128 + number)
        self.number = number
        # Unbuffered, because the handler may interrupt a buffered write.
        _write(f"\n{self._sentences[0]}\n".encode())


def _write(sentence: bytes) -> None:
    """Write to stderr; where the terminal is gone, all that is said from now on is thrown away."""
    try:
        os.write(2, sentence)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
