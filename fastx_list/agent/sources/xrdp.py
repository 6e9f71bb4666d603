"""Sessions of xrdp, on its Xorg and its Xvnc backend.

In 0.9 ``xrdp-sesman`` starts the X server, in 0.10 ``xrdp-sesexec`` does.

What an RDP client connects to is not the X server but xrdp, which has one connection to the session
for as long as the client is there: with Xorg to the module's own unix socket ``xrdp_display_N``,
with Xvnc to its RFB port.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.sockets import Sockets
from fastx_list.agent.sources import tigervnc
from fastx_list.agent.sources.tigervnc import VncSession
from fastx_list.agent.xserver import XServers, XSession, parse_args

STARTERS = ("xrdp-sesman", "xrdp-sesexec")
XORG = ("Xorg", "Xorg.bin", "X")


def _applications(server: Process, machine: Machine) -> Iterable[Process]:
    """Return what was started beside the X server: the window manager, or the program that the
    client asked for."""
    others = (*STARTERS, *XORG, *tigervnc.PROGRAMS, "xrdp-chansrv")
    return [
        process
        for process in machine.children(server.stat.parent)
        if process.stat.name not in others
    ]


class _Xorg(XSession):
    _path: str | None = None  # of the socket that xrdp connects to; None until it is found

    def follow(self, machine: Machine) -> None:
        if self._path is None:
            # Its directory differs by version and by build: /run/xrdp/sockdir, /run/xrdp/UID,
            # /tmp/.xrdp. Anybody may have a socket of this name in a directory of their own.
            sockets = machine.sockets(self.process)
            self._path = next(
                (
                    path
                    for path in sockets.listening_paths()
                    if path.endswith(f"/xrdp_display_{self.display}")
                    and machine.own_listeners(self.process, sockets.unix_listeners(path))
                    != frozenset()
                ),
                None,
            )
        super().follow(machine)

    def connections(self, sockets: Sockets) -> frozenset[int] | None:
        if self._path is None:
            return frozenset() if sockets.unix_is_known else None
        return sockets.unix_clients(self._path)

    def applications(self, machine: Machine) -> Iterable[Process]:
        return _applications(self.process, machine)


class _Xvnc(VncSession):
    def applications(self, machine: Machine) -> Iterable[Process]:
        return _applications(self.process, machine)


class Xrdp(XServers):
    """Finds the X servers that xrdp's session manager has started."""

    programs = (*XORG, *tigervnc.PROGRAMS)
    own_programs = STARTERS

    def recognises(self, process: Process, machine: Machine) -> bool:
        return machine.parent_name(process) in STARTERS

    def session(self, process: Process, machine: Machine) -> XSession | None:
        display, options = parse_args(process.args)
        if display is None:
            return None
        if process.stat.name in XORG:
            return _Xorg(process, display, options, machine, lingers="noreset" in options)
        return _Xvnc(process, display, options, machine)
