"""The first signal asks to stop, the second ends the process."""

import os
import signal
import sys

import pytest

from sdewm.train.signals import Interrupted, StopRequest
from tests.child_process import default_signals, run


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_is_noted_and_granted_when_asked(number, code, capfd):
    with default_signals():  # also where nohup has them ignored
        before, stop = signal.getsignal(number), StopRequest()
        with stop.listening():
            stop.check()
            os.kill(os.getpid(), number)
            with pytest.raises(Interrupted) as caught:
                stop.check()
        assert caught.value.exit_code == code and str(caught.value) == number.name
        assert signal.getsignal(number) is before
        assert "saving a checkpoint" in capfd.readouterr().err


def test_a_hang_up_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_does_not_stop_the_saving():
    code = """
import os, pty, signal, sys
from sdewm.train.signals import Interrupted, StopRequest
out = os.dup(1)
main, terminal = pty.openpty()
os.dup2(terminal, 2)
os.close(main)
stop = StopRequest()
with stop.listening():
    os.kill(os.getpid(), signal.SIGHUP)
    sys.stderr.write("progress\\n")
    sys.stderr.flush()
    try:
        stop.check()
    except Interrupted as asked:
        os.write(out, str(asked).encode())
"""
    result = run(sys.executable, "-c", code)
    assert result.stdout == "SIGHUP", result.stderr


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
