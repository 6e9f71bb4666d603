"""What a source says of a session that it sees now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastx_list.agent.machine import Machine


@dataclass(frozen=True)
class Facts:
    """One session as one source sees it now; members and units are those of
    :class:`fastx_list.model.session.Session`.

    ``identity`` is what no other session of this server has or will have, and the same for the
    session's whole life. ``connections`` are names of the client connections, where the source can
    tell one from another. With ``stated`` a launcher says all this itself, so that it may also
    correct the command; a command that was found out holds for the session's life.
    """

    identity: str
    login: str
    server_pid: int | None = None
    geometry: str | None = None
    window_mode: str | None = None
    started: int | None = None
    command: str | None = None
    app_pid: int | None = None
    clients: int | None = None
    connections: frozenset[int] | None = None
    stated: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    display: int | None = None
    cpu_percentage: float | None = None
    video_ram: int | None = None
    sharing: bool | None = None
    disconnect_timeout: int | None = None


class Source(Protocol):
    """Finds the sessions of one kind."""

    def scan(self, machine: Machine) -> Iterable[Facts]:
        """Return the sessions that run now. Never waits; the same object for a session that has not
        changed is cheapest."""
