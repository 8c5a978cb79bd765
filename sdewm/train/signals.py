"""Ctrl-C and SIGTERM as a request to stop, which the training loop obeys when it is safe."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """The process was asked to stop.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopRequest:
    """Records whether the process was asked to stop since `listening` began."""

    def __init__(self) -> None:
        self.number: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record the first signal; a second one ends the process at once."""
        before = {number: signal.signal(number, self._note) for number in CAUGHT}
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
            os.write(2, b"\nStopped without saving; the last checkpoint remains.\n")
            os._exit(128 + number)
        self.number = number
        # Unbuffered, because the handler may interrupt a buffered write.
        os.write(2, b"\nStopping: saving a checkpoint (interrupt again to stop without saving).\n")
