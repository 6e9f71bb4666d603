"""Sessions of xrdp, on its Xorg and its Xvnc backend.

In 0.9 ``xrdp-sesman`` starts the X server, in 0.10 ``xrdp-sesexec`` does. An upgrade stops them, or
somebody kills them, and their sessions go on. So an X server is also known by what xrdp has started
it with, and by what it has open itself.

What an RDP client connects to is not the X server but xrdp, which has one connection to the session
for as long as the client is there: with Xorg to the module's own unix socket ``xrdp_display_N``,
with Xvnc to its RFB port.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from fastx_list.agent.door import Unanswered
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import TICKS, Process
from fastx_list.agent.sockets import Sockets
from fastx_list.agent.sources import tigervnc
from fastx_list.agent.sources.tigervnc import VncSession
from fastx_list.agent.xserver import XServers, XSession, parse_args

STARTERS = ("xrdp-sesman", "xrdp-sesexec")
# They run beside a session; waitforx for a second, until the X server of 0.10 answers.
HELPERS = ("xrdp-chansrv", "waitforx")
XORG = ("Xorg", "Xorg.bin", "X")
_PATH = re.compile(r".*/xrdp_display_[0-9]{1,5}", re.DOTALL)
BESIDE_SECONDS = 1.0  # in which one after the other is started


def _applications(server: Process, display: int, machine: Machine) -> Iterable[Process]:
    """Return what was started beside the X server: the window manager, or the program that the
    client asked for."""
    others = (*STARTERS, *XORG, *tigervnc.PROGRAMS, *HELPERS)
    if machine.parent_name(server) in STARTERS:
        started: Iterable[Process] = machine.children(server.stat.parent)
    else:
        # Who started them has ended, and they have nothing but the display in common. 0.9 starts
        # the window manager first, which waits for the X server.
        since = server.stat.start - BESIDE_SECONDS * TICKS
        started = (
            process for process in machine.on_display(server, display) if process.stat.start > since
        )
    return [process for process in started if process.stat.name not in others]


def _is_marked(process: Process, display: int, options: Mapping[str, str]) -> bool:
    """Whether the X server was started as xrdp's session manager does it (env.c, session.c)."""
    environ = process.environ
    return (
        "/xrdp/" in f"/{options.get('config', '')}"  # Xorg(1), such as xrdp/xorg.conf
        or os.path.basename(options.get("rfbauth", "")).startswith("sesman_")
        # What is started in a session has these, too, but the session's display
        or ("XRDP_SESSION" in environ and process.display == display)
    )


def _socket_of(server: Process, display: int, machine: Machine) -> str | None:
    """Return the path of the socket that xrdp connects to; ``None`` if ``server`` has none (yet).

    Its directory differs by version and by build: /run/xrdp/sockdir, /run/xrdp/UID, /tmp/.xrdp.
    Anybody may have a socket of this name in a directory of their own.
    """
    waiting = machine.sockets(server).unix_listeners_at(_PATH)
    for path, makers in waiting.items():
        if (
            path.endswith(f"/xrdp_display_{display}")
            and any(uid in (None, server.uid) for uid in makers.values())
            and machine.own_listeners(server, makers) != frozenset()
        ):
            return path
    return None


class _Xorg(XSession):
    _path: str | None = None  # of the socket that xrdp connects to; None until it is found

    def follow(self, machine: Machine) -> None:
        if self._path is None:
            self._path = _socket_of(self.process, self.display, machine)
        super().follow(machine)

    def connections(self, sockets: Sockets) -> frozenset[int] | None:
        if self._path is None:
            return frozenset() if sockets.unix_is_known else None
        return sockets.unix_clients(self._path)

    def applications(self, machine: Machine) -> Iterable[Process]:
        return _applications(self.process, self.display, machine)


class _Xvnc(VncSession):
    def applications(self, machine: Machine) -> Iterable[Process]:
        return _applications(self.process, self.display, machine)


class Xrdp(XServers):
    """Finds the X servers that xrdp's session manager has started."""

    programs = (*XORG, *tigervnc.PROGRAMS)
    own_programs = STARTERS

    def recognises(self, process: Process, machine: Machine) -> bool:
        if machine.parent_name(process) in STARTERS:
            return True
        display, options = parse_args(process.args)
        if display is None:
            return False
        if _is_marked(process, display, options):
            return True
        if process.stat.name not in XORG:
            return False
        sockets = machine.sockets(process)
        if not sockets.unix_is_known and sockets.unanswered:
            raise Unanswered(sockets.unanswered)
        return _socket_of(process, display, machine) is not None

    def session(self, process: Process, machine: Machine) -> XSession | None:
        display, options = parse_args(process.args)
        if display is None:
            return None
        if process.stat.name in XORG:
            return _Xorg(process, display, options, machine, lingers="noreset" in options)
        return _Xvnc(process, display, options, machine)
