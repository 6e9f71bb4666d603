"""What a connection needs of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

READABLE, WRITABLE = 1, 2  # libev's EV_READ and EV_WRITE


class Watcher(Protocol):
    """Calls back, on the loop, while a socket can be read or written."""

    def start(self, callback: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class Loop(Protocol):
    """The event loop; gevent's is one."""

    def io(self, fd: int, events: int) -> Watcher: ...
