"""Servers of RFB (RFC 6143), the protocol of VNC, and their viewers: those that connect to a
server, and those that it was told to call.

Some show the screen of an X server that is not theirs: x11vnc(1), TigerVNC's x0vncserver(1), krfb.
Their viewers are clients of the session whose display they show. Which one that is, their command
lines and environments say; those are their users', who show their own displays alone, and root's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fastx_list.agent.arguments import parse_args
from fastx_list.agent.door import Unanswered
from fastx_list.agent.process import Process
from fastx_list.agent.sockets import all_of

if TYPE_CHECKING:
    from fastx_list.agent.machine import Machine

# Section 7.1: who has sent the version (12 bytes) and the security type (1) may be a probe; a
# client goes on.
LEAST_BYTES = 12 + 1 + 1
MIRRORS = ("x11vnc", "X0tigervnc", "x0vncserver", "krfb")
_DISPLAY = re.compile(r"(?:unix)?:([0-9]{1,5})(?:\.[0-9]+)?")


class Called:
    """The viewers that one server was told to call."""

    def __init__(self, process: Process) -> None:
        self._process = process
        # Connections that its user has made, and those of them that are its own; None if we may not
        # know.
        self._checked: tuple[frozenset[int], frozenset[int] | None] = (frozenset(), frozenset())

    def connections(self, machine: Machine) -> frozenset[int] | None:
        """Return their connections; ``None`` if they cannot be known."""
        sockets = machine.sockets(self._process)
        made = sockets.tcp_made(self._process.uid)
        if made is None:
            return None
        if made is not self._checked[0] or self._checked[1] is None:
            new = made - self._checked[0] if self._checked[1] is not None else made
            own = machine.opened(self._process, new)
            if own is not None:
                own |= (self._checked[1] or frozenset()) & made
            self._checked = (made, own)
        own = self._checked[1]
        if not own:
            return own
        return sockets.tcp_spoken(f"called {self._process.identity}", own, LEAST_BYTES)


class Mirror:
    """A program that shows a display."""

    def __init__(self, process: Process) -> None:
        options = parse_args(process.args)[1]
        self.process = process
        self._is_handed_its_viewer = "inetd" in options
        said = options.get("display")
        match = _DISPLAY.fullmatch(said or "")
        # The display that it shows; None if it does not say which.
        self.display = (int(match[1]) if match else None) if said else process.display
        # The TCP ports at which it waits for viewers; None if we may not know.
        self._ports: frozenset[int] | None = None
        self._called = Called(process)
        # The connections that were checked last, and those of them that are really its own.
        self._checked: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    def connections(self, machine: Machine) -> frozenset[int] | None:
        """Return its viewers' connections; ``None`` if they cannot be known."""
        if self._ports is None or self.process.is_young:
            self._ports = machine.waits_at(self.process)
        if self._ports is None or self._is_handed_its_viewer:
            return None
        sockets = machine.sockets(self.process)
        accepted = all_of(*(sockets.tcp_clients(port, LEAST_BYTES) for port in self._ports))
        if accepted is not None and accepted != self._checked[0]:
            self._checked = (accepted, machine.own_sockets(self.process, accepted))
        return all_of(accepted and self._checked[1], self._called.connections(machine))


class Mirrors:
    """The programs that show displays."""

    def __init__(self) -> None:
        # By the identities of their processes.
        self._known: dict[str, Mirror] = {}
        # Those that run; None until asked for in this look.
        self._running: list[Mirror] | None = None

    def begin(self) -> None:
        """Begin a look."""
        self._running = None

    def of(self, server: Process, display: int, machine: Machine) -> list[Mirror]:
        """Return those that show ``display`` of ``server``."""
        if self._running is None:
            self._running = self._find(machine)
        if not self._running:
            return self._running
        return [
            mirror
            for mirror in self._running
            if mirror.display == display
            and mirror.process.uid in (server.uid, 0)
            and mirror.process.network == server.network
        ]

    def _find(self, machine: Machine) -> list[Mirror]:
        known, self._known = self._known, {}
        for process in machine.named(MIRRORS):
            identity = process.identity
            try:
                mirror = known.get(identity)
                if mirror is None or process.is_young:
                    mirror = Mirror(process)
                self._known[identity] = mirror
            except Unanswered:
                continue
        return list(self._known.values())
