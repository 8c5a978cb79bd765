"""The progress line."""

import io
import sys
import time

from sdewm.base.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_tells_share_and_remaining_time(monkeypatch):
    now, screen = [100.0], Terminal()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", screen)
    progress = Progress("terms", total=100)
    progress.update(1)
    assert screen.getvalue() == ""
    now[0] += 10.0
    progress.update(25)
    assert screen.getvalue().endswith("25 % of 100, 10 s elapsed, 30 s remaining")
    now[0] += 10.0
    progress.update(50, "return 3.5")
    assert screen.getvalue().endswith("50 % of 100, 20 s elapsed, 20 s remaining, return 3.5")
    progress.close()
    assert screen.getvalue().endswith("\x1b[2K")


def test_work_done_in_an_earlier_run_is_not_counted_in_the_rate(monkeypatch):
    now, screen = [0.0], Terminal()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", screen)
    progress = Progress("terms", total=100, done=50)
    now[0] = 10.0
    progress.update(75)
    assert "10 s remaining" in screen.getvalue()
