"""Progress of long computations on the terminal, with an estimate of the remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def format_seconds(seconds: float) -> str:
    """A duration in seconds as a short text.

    >>> format_seconds(7.25), format_seconds(200), format_seconds(8000)
    ('7 s', '3 min 20 s', '2 h 13 min')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Progress:
    """A progress line on stderr: percentage completed, elapsed and remaining time.

    Nothing is written if the work ends within two seconds. On a terminal the line is rewritten in
    place twice a second; elsewhere a new line is written every 30 seconds.

    Args:
        label: name of the computation.
        total: total number of units of work.
        done: units completed in an earlier run, not counted in the rate.
        estimate: whether the remaining time is shown before `count_from` is called.
    """

    def __init__(self, label: str, total: int, done: int = 0, *, estimate: bool = True) -> None:
        self.label, self.total, self.already = label, total, done
        self.start = self.shown = self.counted = time.monotonic()
        self.estimate = estimate
        self.live = sys.stderr.isatty()
        self.open = False

    def count_from(self, done: int) -> None:
        """Count the rate from now on: the units so far were of another kind."""
        self.counted, self.already, self.estimate = time.monotonic(), done, True

    def update(self, done: int, note: str = "") -> None:
        """Report that `done` units are finished, with an optional short note."""
        now = time.monotonic()
        if now - self.start < 2.0 or now - self.shown < (0.5 if self.live else 30.0):
            return
        self.shown = now
        fresh = max(done - self.already, 1)
        remaining = (now - self.counted) * (self.total - done) / fresh
        text = (
            f"{self.label}: {100 * done / self.total:.0f} % of {self.total}, "
            f"{format_seconds(now - self.start)} elapsed"
        )
        text += f", {format_seconds(remaining)} remaining" if self.estimate else ""
        text += f", {note}" if note else ""
        sys.stderr.write(f"\r\x1b[2K{text}" if self.live else f"{text}\n")
        sys.stderr.flush()
        self.open = self.live

    def close(self) -> None:
        """Clear the progress line."""
        if self.open:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self.open = False


def counted(label: str, items: Iterable[Item], total: int) -> Iterator[Item]:
    """The items, with a progress line that counts those that are done.

    >>> [*counted("squares", "ab", 2)]
    ['a', 'b']
    """
    progress = Progress(label, total)
    try:
        for number, item in enumerate(items):
            progress.update(number)
            yield item
    finally:
        progress.close()
