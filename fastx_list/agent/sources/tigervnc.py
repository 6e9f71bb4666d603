"""Sessions of TigerVNC's X server, ``Xvnc`` (Debian: ``Xtigervnc``), however it was started.
Options are those of Xvnc(1)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fastx_list.agent.display import find_display
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.rfb import LEAST_BYTES, Called
from fastx_list.agent.sockets import Sockets, all_of
from fastx_list.agent.x11 import FIRST_PORT
from fastx_list.agent.xserver import XServers, XSession, parse_args

PROGRAMS = ("Xvnc", "Xtigervnc")
DEFAULT_GEOMETRY = "1024x768"


class VncSession(XSession):
    """One running Xvnc; its clients speak RFB, over TCP or a unix socket."""

    def __init__(
        self, process: Process, display: int, options: Mapping[str, str], machine: Machine
    ) -> None:
        lingers = "terminate" not in options and "reset" not in options
        super().__init__(
            process, display, options, machine, geometry=DEFAULT_GEOMETRY, lingers=lingers
        )
        # Where clients connect: TCP ports, of which KasmVNC has one for browsers, and the path of a
        # unix socket.
        said = (options.get("rfbport", "0"), options.get("websocketport", ""))
        self._ports = {int(port) for port in said if re.fullmatch(r"[0-9]{1,5}", port)}
        if 0 in self._ports:
            self._ports = self._ports - {0} | {5900 + display}
        self._path = options.get("rfbunixpath")
        # What one has open that inetd(8) has started, with the ports: its client's connection, or,
        # with "wait", what it listens at. None if we may not know.
        self._handed: Mapping[int, int] | None = {}
        self._take_handed(machine)
        self._called = Called(process)
        # The connections as they were told last, and of which tables that was.
        self._told_connections: frozenset[int] | None = None
        self._stamp: object = None

    def _take_handed(self, machine: Machine) -> None:
        self._stamp = None
        ports = machine.sockets(self.process).tcp_inodes() if "inetd" in self.options else {}
        opened = None if ports is None else machine.opened(self.process, frozenset(ports))
        self._handed = (
            None
            if ports is None or opened is None
            else {
                inode: port
                for inode, port in ports.items()
                if inode in opened and port != FIRST_PORT + self.display
            }
        )

    def follow(self, machine: Machine) -> None:
        if "inetd" in self.options and (self._handed is None or self.process.is_young):
            self._take_handed(machine)
        super().follow(machine)

    def connections(self, sockets: Sockets) -> frozenset[int] | None:
        if self._handed is None:
            return None
        if not self._handed and not self._path and len(self._ports) == 1:
            [port] = self._ports
            return sockets.tcp_clients(port, LEAST_BYTES)
        listening = sockets.tcp_listeners()
        ports = {*self._ports, *(port for port in self._handed.values() if port in listening)}
        return all_of(
            *(sockets.tcp_clients(port, LEAST_BYTES) for port in ports),
            sockets.unix_clients(self._path) if self._path else frozenset(),
            sockets.tcp_spoken(
                f"handed {self.process.identity}", frozenset(self._handed), LEAST_BYTES
            ),
        )

    def _own_connections(self, machine: Machine) -> frozenset[int] | None:
        """Return also those to viewers that the server was told to call, vncconfig(1)."""
        stamp = machine.sockets(self.process).stamp
        if stamp is None or stamp is not self._stamp:
            self._told_connections = all_of(
                super()._own_connections(machine), self._called.connections(machine)
            )
            self._stamp = None if self._told_connections is None else stamp
        return self._told_connections


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
