"""Sessions of TigerVNC's X server, ``Xvnc`` (Debian: ``Xtigervnc``), however it was started.
Options are those of Xvnc(1)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fastx_list.agent.display import find_display
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, socket_inode
from fastx_list.agent.sockets import Sockets, all_of
from fastx_list.agent.xserver import XServers, XSession, parse_args

PROGRAMS = ("Xvnc", "Xtigervnc")
DEFAULT_GEOMETRY = "1024x768"
# RFC 6143, section 7.1: who has sent the version (12 bytes) and the security type (1) may be a
# probe; a client goes on.
LEAST_BYTES = 12 + 1 + 1


class VncSession(XSession):
    """One running Xvnc; its clients speak RFB, over TCP or a unix socket."""

    def __init__(
        self, process: Process, display: int, options: Mapping[str, str], machine: Machine
    ) -> None:
        lingers = "terminate" not in options and "reset" not in options
        super().__init__(
            process, display, options, machine, geometry=DEFAULT_GEOMETRY, lingers=lingers
        )
        # Where clients connect: a TCP port, -1 for none, and the path of a unix socket.
        port = options.get("rfbport", "0")
        self._port = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else -1
        if self._port == 0:
            self._port = 5900 + display
        self._path = options.get("rfbunixpath")
        # The one connection of an Xvnc that was started for it.
        self._inetd = _socket_of(process) if "inetd" in options else frozenset()

    def connections(self, sockets: Sockets) -> frozenset[int] | None:
        return all_of(
            sockets.tcp_clients(self._port, LEAST_BYTES),
            sockets.unix_clients(self._path) if self._path else frozenset(),
            self._inetd,
        )


class TigerVnc(XServers):
    """Finds every Xvnc that no other kind of session stands on."""

    programs = PROGRAMS

    def recognises(self, process: Process, machine: Machine) -> bool:
        return True

    def session(self, process: Process, machine: Machine) -> VncSession | None:
        display, options = parse_args(process.args)
        if display is None:
            display = find_display(process, machine)
        return None if display is None else VncSession(process, display, options, machine)


def _socket_of(process: Process) -> frozenset[int]:
    """Return the connection that a server for a single client was started with (``-inetd``)."""
    inode = socket_inode(f"/proc/{process.pid}/fd/0")
    return frozenset() if inode is None else frozenset({inode})
