"""Sessions of xpra: ``start`` (windows of their own, rootless), ``start-desktop`` and ``shadow``;
newer names of the same included.

The session is xpra's server process, which its clients connect to. The X server beside it is xpra's
tool and may outlive a server that crashed; on its own it is no session. Options are those of
xpra(1).
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import socket
from collections.abc import Iterable, Iterator

from fastx_list.agent.display import STARTING_SECONDS, path_of
from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.sockets import Sockets, all_of
from fastx_list.agent.xserver import XServers, XSession, parse_args

MODES = {
    "start": "rootless",
    "seamless": "rootless",
    "upgrade": "rootless",
    "upgrade-seamless": "rootless",
    "start-desktop": "desktop",
    "desktop": "desktop",
    "upgrade-desktop": "desktop",
    "shadow": "desktop",
}
LEAST_BYTES = 8 + 1  # that a client sends: more than a packet's header
X_SERVERS = ("Xvfb", "Xorg", "Xdummy", "X")
_HELPERS = re.compile(
    r"Xvfb|Xorg|Xdummy|X|xpra.*|_?dbus.*|pulseaudio|pipewire.*|ibus.*|gpg-agent|ssh-agent|xsettingsd"
)
_START = re.compile(r"--start(?:-child)?(?:=(.*))?", re.DOTALL)


class _XpraSession(XSession):
    def __init__(self, process: Process, display: int, mode: str, machine: Machine) -> None:
        self.window_mode = MODES[mode]
        self.owns_display = mode != "shadow"
        self.is_x_server = False
        # The paths and the TCP ports at which it waits for clients; None if we may not know.
        self._doors = _listening(process, machine)
        # The commands that its command line asks for, as arguments.
        self._asked = list(_asked_commands(process.args))
        # xpra itself stays connected to the X server, so we are never its last client.
        super().__init__(
            process, display, {}, machine, authority=_authority(process, machine), lingers=True
        )

    def follow(self, machine: Machine) -> None:
        # It opens its sockets one after the other.
        if self.process.age < STARTING_SECONDS or self._doors is None:
            self._doors = _listening(self.process, machine)
        super().follow(machine)

    def connections(self, sockets: Sockets) -> frozenset[int] | None:
        if self._doors is None:
            return None
        paths, ports = self._doors
        return all_of(
            *map(sockets.unix_clients, paths),
            *(sockets.tcp_clients(port, LEAST_BYTES) for port in ports),
        )

    def applications(self, machine: Machine) -> Iterable[Process]:
        # Its configuration may start more (Debian's does), so what the command line asks for comes
        # first. xpra also runs programs for itself, now and then and for a moment, so anything else
        # only counts once it has run for a while.
        children = [
            process
            for process in machine.children(self.process.pid)
            if not _HELPERS.fullmatch(process.stat.name)
        ]
        asked = [process for process in children if self._is_asked(process.args)]
        return asked + [
            process for process in children if not process.is_young and process not in asked
        ]

    def _is_asked(self, args: list[str]) -> bool:
        """Return whether ``args`` are those of a command that was asked for, maybe with its
        interpreter and its path."""
        return any(
            os.path.basename(args[-len(asked)]) == os.path.basename(asked[0])
            and args[-len(asked) :][1:] == asked[1:]
            for asked in self._asked
            if 0 < len(asked) <= len(args)
        )


class Xpra(XServers):
    """Finds xpra's servers by the sockets on which they wait for clients."""

    programs = ("xpra", "Xvfb", "Xorg", "Xdummy")
    own_programs = ("xpra",)

    def recognises(self, process: Process, machine: Machine) -> bool:
        if process.stat.name in X_SERVERS:
            # It may outlive its server.
            config = parse_args(process.args)[1].get("config", "")
            return (
                machine.parent_name(process) == "xpra"
                or (process.args[:1] != [] and "-for-Xpra-" in process.args[0])
                or "/xpra/" in config
            )
        return _mode(process) is not None

    def session(self, process: Process, machine: Machine) -> _XpraSession | None:
        mode = _mode(process)
        if mode is None:
            return None
        doors = _listening(process, machine)
        # xpra's own socket has its host's and its display's name; a user may ask for others beside
        # it.
        paths = sorted(
            doors[0] if doors else [], key=lambda path: f"/{socket.gethostname()}-" not in path
        )
        numbers = [
            arg[1:].partition(".")[0]
            for arg in process.args
            if re.fullmatch(r":[0-9]{1,5}(\.[0-9]+)?", arg)
        ]
        if not numbers:
            numbers = [
                match[1] for path in paths if (match := re.fullmatch(r".*-([0-9]{1,5})", path))
            ]
        if doors is None and not numbers and (why := machine.sockets(process).unanswered):
            raise Unanswered(why)
        if not numbers or (doors is not None and not paths):
            return None  # a client, a helper, or a server that is not ready yet
        return _XpraSession(process, int(numbers[0]), mode, machine)


def _mode(process: Process) -> str | None:
    """Return what kind of server ``process`` is; ``None`` for xpra's clients and tools, which have
    the same name."""
    for position, arg in enumerate(process.args[:3]):
        if os.path.basename(arg) == "xpra":
            return next(
                (mode for mode in process.args[position + 1 : position + 2] if mode in MODES), None
            )
    return None


def _listening(process: Process, machine: Machine) -> tuple[list[str], list[int]] | None:
    """Return the paths and the TCP ports at which ``process`` waits for clients; ``None`` if we may
    not know."""
    sockets = machine.sockets(process)
    by_path = {
        path: sockets.unix_listeners(path)
        for path in sockets.listening_paths()
        if not path.startswith("\0/tmp/")
    }
    by_port = sockets.tcp_listeners()
    own = machine.own_listeners(
        process,
        {
            inode: uid
            for each in (*by_path.values(), *by_port.values())
            for inode, uid in each.items()
        },
    )
    if own is None:
        return None
    return (
        [path for path, inodes in by_path.items() if inodes.keys() & own],
        [port for port, inodes in by_port.items() if inodes.keys() & own],
    )


def _asked_commands(args: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(args)
    for arg in rest:
        match = _START.fullmatch(arg)
        if match:
            try:
                yield shlex.split(match[1] if match[1] is not None else next(rest, ""))
            except ValueError:
                continue


def _authority(process: Process, machine: Machine) -> str | None:
    """Return the authority file of the X server that ``process`` started, or that its user has as a
    rule."""
    for child in machine.children(process.pid):
        if child.stat.name in X_SERVERS:
            path = path_of(child, parse_args(child.args)[1].get("auth"))
            if path:
                return path
    named = process.environ.get("XAUTHORITY")

    def usual() -> str | None:
        path = path_of(process, named or f"{pwd.getpwuid(process.uid).pw_dir}/.Xauthority")
        return path if path is not None and os.path.isfile(path) else None

    try:
        return ask(process.uid, "its authority file", usual)
    except KeyError:
        return None
    except Unanswered:
        return path_of(process, named)
