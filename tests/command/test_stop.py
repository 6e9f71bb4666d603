from __future__ import annotations

import subprocess
import sys

import pytest

# The signal comes at the given step of wait(), which is traced: when it is called, and as it begins
# to wait. With 0 it comes while it waits.
INTERRUPTED = """
import signal, sys
from fastx_list.command.stop import Stop

stop, lines = Stop(), int(sys.argv[1])

def trace(frame, event, argument):
    global lines
    lines -= 1
    if lines == 0:
        signal.raise_signal(signal.SIGTERM)
    return trace

if lines == 0:
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
sys.settrace(trace)
asked = stop.wait(60)
sys.settrace(None)
assert asked and stop.asked and stop.wait(60), "it was not told to stop"
"""


@pytest.mark.parametrize("line", range(3))
def test_a_wait_ends_wherever_a_signal_interrupts_it(line: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(line)], timeout=30, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_wait_is_over_when_its_time_is() -> None:
    code = "from fastx_list.command.stop import Stop; print(Stop().wait(0.01))"
    done = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True)
    assert done.stdout == "False\n"
