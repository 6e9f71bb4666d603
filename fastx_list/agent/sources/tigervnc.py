"""Sessions of TigerVNC's X server, ``Xvnc`` (Debian: ``Xtigervnc``), however it was started. Options are those of Xvnc(1)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from fastx_list.agent.display import Application, Screen, await_first_answers
from fastx_list.agent.facts import Facts
from fastx_list.agent.machine import Machine, Process, login_of
from fastx_list.agent.x11 import socket_path
from fastx_list.session import GEOMETRY

PROGRAMS = ("Xvnc", "Xtigervnc")
DEFAULT_GEOMETRY = "1024x768"
_VALUED = {"auth", "displayfd", "geometry", "rfbport", "rfbunixpath"}  # as opposed to flags, these take the next argument


class TigerVnc:
    """Finds them by their servers' processes."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}

    def scan(self, machine: Machine) -> Iterator[Facts]:
        servers: dict[str, _Server] = {}
        for process in machine.named(PROGRAMS):
            server = self._servers.get(process.identity)
            if server is None:
                server = _Server.of(process, machine)
            elif not machine.still_runs(process):
                continue
            if server is not None:
                servers[process.identity] = server
        for identity in self._servers.keys() - servers.keys():
            self._servers[identity].close(machine)
        self._servers = servers
        for server in servers.values():
            server.follow(machine)
        await_first_answers(server.screen for server in servers.values())
        for server in servers.values():
            yield server.facts(machine)


class _Server:
    """One running Xvnc."""

    def __init__(self, process: Process, display: int, options: dict[str, str]) -> None:
        self._process = process
        self._display = display
        self._login = login_of(process.uid)
        self._started = process.started
        size = options.get("geometry", DEFAULT_GEOMETRY)
        self.screen = Screen(
            process, display, options.get("auth"), size if re.fullmatch(GEOMETRY, size) else None,
            lingers="terminate" not in options and "reset" not in options,
        )
        self._application = Application(process, display)
        port = options.get("rfbport", "0")
        self._port = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0 if port == "" else -1
        if self._port == 0:
            self._port = 5900 + display
        self._path = options.get("rfbunixpath")
        self._inetd = _socket_of(process) if "inetd" in options else None
        self._sockets: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
        self._facts: Facts | None = None

    @classmethod
    def of(cls, process: Process, machine: Machine) -> _Server | None:
        """Return the server that ``process`` is, or ``None`` if it has no display (yet)."""
        display, options = parse_args(process.args)
        if display is None:
            display = _find_display(process, machine)
        return None if display is None else cls(process, display, options)

    @property
    def _subject(self) -> str:
        return f"session :{self._display} of {self._login} (pid {self._process.pid})"

    def follow(self, machine: Machine) -> None:
        self.screen.follow(machine, self._subject)

    def close(self, machine: Machine) -> None:
        self.screen.close()
        machine.settle(self._subject)

    def facts(self, machine: Machine) -> Facts:
        command, app_pid = self._application.look(machine)
        connections = self._connections(machine)
        facts = Facts(
            identity=self._process.identity, login=self._login, server_pid=self._process.pid, geometry=self.screen.geometry,
            window_mode="desktop", started=self._started, command=command, app_pid=app_pid, clients=len(connections),
            connections=connections, display=self._display,
        )
        if self._facts is None or facts != self._facts:
            self._facts = facts
        return self._facts

    def _connections(self, machine: Machine) -> frozenset[int]:
        sockets = machine.sockets(self._process)
        found = sockets.tcp_clients(self._port)
        if self._path:
            found |= sockets.unix_clients(self._path)
        if self._inetd is not None:
            found |= {self._inetd}
        if found != self._sockets[0]:
            # The command line is its user's to write: what counts is what the process really has open.
            self._sockets = (found, machine.own_sockets(self._process, found))
        return self._sockets[1]


def parse_args(args: list[str]) -> tuple[int | None, dict[str, str]]:
    """Return the display number, if it is given, and the options by lower-case name, of Xvnc's command line.

    A parameter is written ``-name value``, ``-name=value``, ``--name=value`` or ``name=value``, in any case.
    """
    display: int | None = None
    options: dict[str, str] = {}
    rest = iter(args[1:])
    for arg in rest:
        name, equals, value = arg.lstrip("-").partition("=")
        name = name.lower()
        if re.fullmatch(r":[0-9]{1,5}", arg):
            display = int(arg[1:])
        elif equals:
            options[name] = value
        elif arg.startswith("-"):
            options[name] = next(rest, "") if name in _VALUED else ""
    return display, options


def _find_display(process: Process, machine: Machine) -> int | None:
    """Return the display of a server that chose its number itself (``-displayfd``)."""
    sockets = machine.sockets(process)
    prefix = socket_path(0)[:-1]
    for path in sockets.listening_paths():
        number = path.lstrip("@").removeprefix(prefix)
        if path.lstrip("@").startswith(prefix) and re.fullmatch(r"[0-9]{1,5}", number) \
                and machine.own_sockets(process, sockets.unix_listeners(path)):
            return int(number)
    return None


def _socket_of(process: Process) -> int | None:
    try:
        match = re.fullmatch(r"socket:\[([0-9]+)]", os.readlink(f"/proc/{process.pid}/fd/0"))
    except OSError:
        return None
    return int(match[1]) if match else None
