"""What the machine as a whole is like now: the members of a server that are no session's."""

from __future__ import annotations

import time

import psutil

from fastx_list.config import Settings
from fastx_list.model.server import Server


class Load:
    """Measures the machine; ``cpu`` is that since the last time it was asked, or since this was
    made."""

    def __init__(self, settings: Settings, hostname: str) -> None:
        self._settings = settings
        self._hostname = hostname
        psutil.cpu_percent()  # the first call has nothing to compare with

    def describe(self, sessions: int, logins: int, problems: tuple[str, ...]) -> Server:
        """Return the server with so many sessions of so many logins, and what keeps us from seeing
        all of it."""
        memory = psutil.virtual_memory()
        one, five, fifteen = (round(average, 2) for average in psutil.getloadavg())
        return Server(
            id=self._settings.server_id,
            hostname=self._hostname,
            pool=self._settings.server_pool,
            url=self._settings.server_url,
            cpu=psutil.cpu_percent(),
            free_memory=memory.available,
            total_memory=memory.total,
            logged_in_users=logins,
            sessions=sessions,
            uptime=round(time.time() - psutil.boot_time()),
            load=(one, five, fifteen),
            problems=problems,
        )
