"""What the machine as a whole is like now: the members of a server that are no session's."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

from fastx_list.agent.look import Looked
from fastx_list.agent.rights import rights
from fastx_list.config import Settings
from fastx_list.model.server import Server
from fastx_list.text import version

T = TypeVar("T")

log = logging.getLogger(__name__)


class Load:
    """Measures the machine; ``cpu`` is that since the last time it was asked, or since this was
    made."""

    def __init__(self, settings: Settings, fingerprint: str | None = None) -> None:
        """``fingerprint`` is that of ``settings``."""
        self._settings = settings
        self._fingerprint = fingerprint
        _measured(psutil.cpu_percent)  # the first call has nothing to compare with

    def describe(
        self,
        hostname: str,
        sessions: int,
        logins: int,
        problems: tuple[str, ...],
        looked: Looked | None,
    ) -> Server:
        """Return the server on the host ``hostname``, with so many sessions of so many logins, what
        keeps us from seeing all of it, and the last look."""
        memory = _measured(psutil.virtual_memory)
        return Server(
            id=self._settings.server_id,
            hostname=hostname,
            pool=self._settings.server_pool,
            url=self._settings.server_url,
            cpu=_measured(psutil.cpu_percent),
            free_memory=memory and memory.available,
            total_memory=memory and memory.total,
            logged_in_users=logins,
            sessions=sessions,
            uptime=round(time.clock_gettime(time.CLOCK_BOOTTIME)),
            load=_measured(_averages),
            problems=problems,
            version=version(),
            rights=_measured(rights) or (),
            settings=self._fingerprint,
            last_look=looked and looked.at,
            look_seconds=looked and looked.seconds,
        )


def _averages() -> tuple[float, float, float]:
    one, five, fifteen = (round(average, 2) for average in psutil.getloadavg())
    return one, five, fifteen


def _measured(measure: Callable[[], T]) -> T | None:
    """Return what ``measure`` returns; ``None`` if it fails, which is to cost nobody a lease."""
    try:
        return measure()
    except Exception as error:
        log.debug("%s cannot be measured: %s", measure, error)
        return None
