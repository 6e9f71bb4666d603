"""What a command and a service manager tell each other: that it works, and that it is to end, which
users say with SIGINT, too."""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Callable

log = logging.getLogger(__name__)


def say_ready() -> None:
    """Tell systemd, if that has started this process and waits to hear it (sd_notify(3))."""
    if "NOTIFY_SOCKET" in os.environ:
        from gunicorn.systemd import sd_notify

        sd_notify("READY=1", log, unset_environment=True)


class Stop:
    """Whether this process has been told to stop.

    Not a ``threading.Event``: one that is set by a signal which interrupts its own ``wait`` may
    wait for its lock for ever.
    """

    def __init__(self) -> None:
        self.asked = False  # whether either signal has come
        self._reader, self._writer = os.pipe()  # written to by the first signal, to end a wait
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def wait(self, seconds: float) -> bool:
        """Wait for that long, or until a signal comes; return :attr:`asked`."""
        select.select([self._reader], [], [], seconds)
        return self.asked

    def _ask(self, *_: object) -> None:
        if not self.asked:
            self.asked = True
            os.write(self._writer, b".")


def on_stop(call: Callable[[], None]) -> None:
    """Let both signals ``call``, which may interrupt anything."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: call())


def interrupt() -> None:
    """Let both signals raise ``KeyboardInterrupt``, SIGINT also where it is ignored, as in what a
    script has started in the background."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
