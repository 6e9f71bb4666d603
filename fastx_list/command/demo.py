"""Simulated sessions for a first look: session files in the spool that live, connect and end, each
named after the demonstration."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

from fastx_list.config import PREFIX, ConfigError
from fastx_list.state import make_directory, remove, replace

SESSIONS = 5
STEP_SECONDS = 2.0
_PROGRAMS = (
    ("Blender", "desktop", "blender"),
    ("MATLAB", "rootless", "matlab -desktop"),
    ("GNOME desktop", "desktop", "gnome-session"),
    ("ParaView", "rootless", "paraview"),
    ("XFCE desktop", "desktop", "startxfce4"),
    ("Jupyter in Firefox", "rootless", "firefox"),
)
_SIZES = ("1280x720", "1600x900", "1920x1080", "2560x1440")


class Demo:
    """Writes the session files of a few simulated sessions of ``login`` until it is stopped, and
    then removes them."""

    def __init__(self, spool: Path, login: str) -> None:
        self._spool = spool  # the directory of the session files
        self._login = login  # whose sessions they are
        self._random = random.Random()  # decides what happens next
        self._sessions: dict[Path, dict[str, Any]] = {}  # what each file says
        self._count = 0  # of the sessions that have begun
        self._stop = threading.Event()  # set when the thread is to end
        self._thread = threading.Thread(target=self._run, daemon=True)  # lets it happen

    def start(self) -> None:
        """Write the first sessions. Raises :class:`ConfigError` if the spool cannot be written."""
        try:
            make_directory(self._spool)
            for left_behind in self._spool.glob("simulated-*.json"):
                remove(left_behind)
            for index in range(SESSIONS):
                self._begin(started=time.time() - 60 * 7**index)
        except OSError as error:
            raise ConfigError(
                f"the spool {self._spool} cannot be written: {error.strerror or error}; set"
                f" {PREFIX}SPOOL to a directory of yours"
            ) from None
        self._thread.start()

    def stop(self) -> None:
        """End all simulated sessions."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for path in list(self._sessions):
            self._end(path)

    def _run(self) -> None:
        while not self._stop.wait(STEP_SECONDS):
            path = self._random.choice(list(self._sessions))
            what = self._random.random()
            if what < 0.15:
                self._end(path)
                self._begin(started=time.time())
            else:
                session = self._sessions[path]
                if what < 0.3:
                    session["geometry"] = self._random.choice(_SIZES)
                else:
                    session |= self._use(0 if session["clients"] else 1)
                self._write(path)

    def _begin(self, started: float) -> None:
        self._count += 1
        name, mode, command = _PROGRAMS[self._count % len(_PROGRAMS)]
        path = self._spool / f"simulated-{os.getpid()}-{self._count}.json"
        self._sessions[path] = {
            "login": self._login,
            "display": 90 + self._count,
            "geometry": self._random.choice(_SIZES),
            "windowMode": mode,
            "started": int(started * 1000),
            "command": command,
            **self._use(self._count % 2),
            "params": {"name": f"Demo: {name}"},
        }
        self._write(path)

    def _use(self, clients: int) -> dict[str, Any]:
        """Return what shows whether somebody uses a session with so many clients."""
        address = f"192.0.2.{self._random.randrange(10, 20)}"  # TEST-NET-1, RFC 5737
        return {
            "clients": clients,
            "clientAddresses": [address] if clients else [],
            "idleSince": None if clients else int((time.time() - 120) * 1000),
            "cpu": self._random.randrange(1, 130) if clients else 0,
            "memory": self._random.randrange(200, 3000) * 1024**2,
        }

    def _write(self, path: Path) -> None:
        # Written beside and renamed, as any launcher should: the agent then never sees half a file.
        replace(path, json.dumps(self._sessions[path]))

    def _end(self, path: Path) -> None:
        del self._sessions[path]
        remove(path)
