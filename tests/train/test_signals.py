"""The first signal asks to stop, the second ends the process."""

import os
import signal
import sys

import pytest

from sdewm.train.signals import Interrupted, StopRequest
from tests.child_process import run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_noted_and_granted_when_asked(number, code, capfd):
    before, stop = signal.getsignal(number), StopRequest()
    with stop.listening():
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as caught:
            stop.check()
    assert caught.value.exit_code == code and str(caught.value) == number.name
    assert signal.getsignal(number) is before
    assert "saving a checkpoint" in capfd.readouterr().err


def test_a_second_signal_ends_the_process_at_once():
    code = """
import os, signal
from sdewm.train.signals import StopRequest
with StopRequest().listening():
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("and here", flush=True)
"""
    result = run(sys.executable, "-c", code)
    assert result.returncode == 130 and result.stdout == "still here\n"
    assert "the last checkpoint remains" in result.stderr
