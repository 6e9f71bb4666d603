"""Who has just made a socket for X clients: inotify(7) tells its name, and its owner is who.

To ask the kernel for all sockets takes much, so there is little time for it, which one login alone
can use up. This takes next to nothing: so a new X server is told at once, whatever others do.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from fastx_list.agent.accounts import Account
from fastx_list.agent.directories import ADD_SECONDS, CREATE, MOVED_TO, Directories
from fastx_list.agent.door import Unanswered, ask, work
from fastx_list.agent.x11 import socket_path

DIRECTORY = Path(socket_path(0)).parent
MAX_NAMES = 256  # that are looked up at a time
# Of a core, for names that are made all the time
MOST_SECONDS, SHARE = 0.05, 0.01
_DONT_FOLLOW = 0x02000000
_NAME = re.compile(rb"X[0-9]{1,5}(?=\0)")


class Arrivals:
    """Tells of new names of X servers' sockets in ``directory``. Nobody needs to wait there yet."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        events = CREATE | MOVED_TO | _DONT_FOLLOW
        self._names = Directories([directory], "X sockets in", events)
        # Processor time for reading, and how much that took last.
        self._account = Account(MOST_SECONDS, SHARE, time.monotonic())
        self._cost = 0.0
        self.follow = self._names.follow
        self.close = self._names.close

    @property
    def descriptor(self) -> int | None:
        """Can be read when there are some; ``None`` if they are not told."""
        return self._names.descriptor

    def new(self) -> dict[str, int]:
        """Return the paths of those that are new, and whose they are, once. Of very many it leaves
        some out, whichever they are."""
        now, began = time.monotonic(), work()
        if self._account.balance(now) < min(self._cost, MOST_SECONDS):
            return {}
        names = {name for data in self._names.read() for name in _NAME.findall(data)}
        if not names:
            return {}
        try:
            call = partial(self._owners, list(names)[:MAX_NAMES])
            return ask(f"X sockets in {self._directory}", "whose they are", call, ADD_SECONDS)
        except Unanswered:
            return {}
        finally:
            self._cost = work() - began
            self._account.spend(self._cost, now)

    def _owners(self, names: list[bytes]) -> dict[str, int]:
        found = {}
        for name in names:
            path = str(self._directory / name.decode("ascii"))
            with suppress(OSError):  # it may have gone already
                status = os.lstat(path)
                if stat.S_ISSOCK(status.st_mode):
                    found[path] = status.st_uid
        return found
