"""Other X servers that serve sessions: those that listen on an X socket of their own, whatever they
are. TightVNC's Xvnc, KasmVNC's, Xnest, DCV's Xdcv, NoMachine's nxagent, and what comes after them.

Their clients are the connections to the other TCP ports at which they wait, such as one for RFB or
for a browser's WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from fastx_list.agent.display import STARTING_SECONDS, find_display
from fastx_list.agent.holders import Holders
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, by_age
from fastx_list.agent.rfb import LEAST_BYTES
from fastx_list.agent.sockets import Sockets, all_of
from fastx_list.agent.sources.plain import XORG, is_for_people
from fastx_list.agent.x11 import FIRST_PORT, socket_path
from fastx_list.agent.xserver import XServers, XSession, parse_args

_PATH = re.compile("\0?" + re.escape(socket_path(0)[:-1]) + "[0-9]{1,5}")
# X servers by their name: the first is a part of a Wayland desktop, the others have kinds of their
# own.
_X_SERVER = re.compile(r"(?:X(?!wayland)|nx)\w+")
_OF_OTHER_KINDS = {*XORG, "Xvfb", "Xephyr", "Xdummy"}


class _Other(XSession):
    def __init__(
        self, process: Process, display: int, options: Mapping[str, str], machine: Machine
    ) -> None:
        lingers = "noreset" in options and "terminate" not in options
        super().__init__(process, display, options, machine, lingers=lingers)
        # The TCP ports at which it waits for others than X clients; None if we may not know.
        self._ports = machine.waits_at(process)

    def follow(self, machine: Machine) -> None:
        if self.process.age < STARTING_SECONDS or self._ports is None:
            self._ports = machine.waits_at(self.process)
        self.serves_viewers = self._ports is None or bool(self._ports - {FIRST_PORT + self.display})
        super().follow(machine)

    def connections(self, sockets: Sockets) -> frozenset[int] | None:
        ports = (self._ports or frozenset()) - {FIRST_PORT + self.display}
        if not ports:
            return None  # who looks at its screen, if anybody, the kernel does not know
        return all_of(*(sockets.tcp_clients(port, LEAST_BYTES) for port in ports))


class Other(XServers):
    """Finds the X servers that no other kind has claimed."""

    programs = ("Xnest", "Xtightvnc", "Xkasmvnc", "Xturbovnc", "Xdcv", "nxagent")

    def __init__(self, listed: bool = True) -> None:
        super().__init__(listed)
        # Who listens on an X socket.
        self._holders = Holders(likely=("X", "nx"))

    def candidates(self, machine: Machine) -> Iterable[Process]:
        found = {each.pid: each for each in machine.named(self.programs)}
        listeners = {
            inode: uid for inode, uid in x_listeners(machine).items() if inode not in machine.held
        }
        for process in self._holders.find(listeners, machine).values():
            if process.stat.name not in _OF_OTHER_KINDS and _X_SERVER.match(process.stat.name):
                found[process.pid] = process
        return sorted(found.values(), key=by_age)

    def recognises(self, process: Process, machine: Machine) -> bool:
        return is_for_people(process, machine)

    def session(self, process: Process, machine: Machine) -> _Other | None:
        display, options = parse_args(process.args)
        if display is None:
            display = find_display(process, machine)
        if display is None or machine.is_claimed(process, display):
            return None
        return _Other(process, display, options, machine)


def x_listeners(machine: Machine) -> dict[int, int | None]:
    """Return the sockets in our own network at which X servers wait, with the users who made
    them."""
    listeners = machine.own_network.unix_listeners_at(_PATH)
    return {inode: uid for each in listeners.values() for inode, uid in each.items()}
