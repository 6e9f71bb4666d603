"""What the sidecar needs of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import gevent

MOMENT = 1e-6  # seconds: for none at all the loop would look at no socket for up to 50 turns
READABLE, WRITABLE = 1, 2  # libev's EV_READ and EV_WRITE


class Watcher(Protocol):
    """Calls back, on the loop, while a socket can be read or written."""

    def start(self, callback: Callable[[], object]) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class Loop(Protocol):
    """The event loop; gevent's is one."""

    def io(self, fd: int, events: int) -> Watcher: ...


def let_others() -> None:
    """Let all others have their turn: greenlets, and whoever has sent something."""
    gevent.sleep(MOMENT)
