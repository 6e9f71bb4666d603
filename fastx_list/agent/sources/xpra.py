"""Sessions of xpra, versions 3 to 6: ``seamless`` (windows of their own, rootless), ``desktop``,
``monitor``, ``expand`` and ``shadow``, by all of their names.

The session is xpra's server process, which its clients connect to. It may write any title over its
name and its command line, as with setproctitle, so it is also found by the socket at which it waits
and by the X server that it has started. That one is xpra's tool and may outlive a server that
crashed; on its own it is no session. Options are those of xpra(1).
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import socket
from collections.abc import Iterable, Iterator

from fastx_list.agent.display import STARTING_SECONDS, find_display, path_of
from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.holders import Holders
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import NOBODY, Process, by_age
from fastx_list.agent.sockets import Sockets, all_of
from fastx_list.agent.x11 import socket_path
from fastx_list.agent.xserver import XServers, XSession, parse_args

# Each may be "start-…", and the first three "upgrade-…" (xpra/scripts/parsing.py, MODE_ALIAS).
_WINDOW_MODES = {
    "seamless": "rootless",
    "desktop": "desktop",
    "monitor": "desktop",
    "expand": "desktop",
    "shadow": "desktop",
    "shadow-screen": "desktop",
}
_OTHERS_DISPLAY = {"expand", "shadow", "shadow-screen"}  # these show a display that is there
# Where it waits: named for host and display, or in a directory named for the display
_PATH = re.compile(
    r"/(?:.*/)?\.?xpra/(?:[^/]+-(?P<display>[0-9]{1,5})|(?P<place>[0-9]{1,5})/socket)"
)
MODES = {
    **{name: name for name in _WINDOW_MODES},
    **{f"start-{name}": name for name in _WINDOW_MODES},
    **{f"upgrade-{name}": name for name in ("seamless", "desktop", "monitor")},
    "start": "seamless",
    "upgrade": "seamless",
}
LEAST_BYTES = 8 + 1  # that a client sends: more than a packet's header
X_SERVERS = ("Xvfb", "Xorg", "Xdummy", "X")
_HELPERS = re.compile(
    r"Xvfb|Xorg|Xdummy|X|xpra.*|_?dbus.*|pulseaudio|pipewire.*|ibus.*|gpg-agent|ssh-agent|xsettingsd"
)
_START = re.compile(r"--start(?:-child)?(?:=(.*))?", re.DOTALL)


class _XpraSession(XSession):
    def __init__(self, process: Process, display: int, mode: str, machine: Machine) -> None:
        self.window_mode = _WINDOW_MODES.get(mode)
        self.owns_display = mode not in _OTHERS_DISPLAY
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
        return self._is_in_title(args) or any(
            os.path.basename(args[-len(asked)]) == os.path.basename(asked[0])
            and args[-len(asked) :][1:] == asked[1:]
            for asked in self._asked
            if 0 < len(asked) <= len(args)
        )

    def _is_in_title(self, args: list[str]) -> bool:
        """Return the same of a title, of which nobody knows where its arguments end."""
        title = " ".join([*self.process.args, ""])
        return any(
            f"--start{kind}={' '.join([name, *args[first + 1 :], ''])}" in title
            for first in range(min(2, len(args)))
            for name in (args[first], os.path.basename(args[first]))
            for kind in ("", "-child")
        )


class Xpra(XServers):
    """Finds xpra's servers by the sockets on which they wait for clients."""

    programs = ("xpra", *X_SERVERS[:3])
    own_programs = ("xpra",)

    def __init__(self, listed: bool = True) -> None:
        super().__init__(listed)
        # Who waits at a socket of xpra's.
        self._holders = Holders(likely=("xpra", "python", "/usr/bin/python"))

    def candidates(self, machine: Machine) -> Iterable[Process]:
        named = machine.named(self.programs)
        starters = [
            machine.processes.get(each.stat.parent) for each in named if _is_xpras_x_server(each)
        ]
        waiting = machine.own_network.unix_listeners_at(_PATH)
        listeners = {inode: uid for each in waiting.values() for inode, uid in each.items()}
        holders = self._holders.find(listeners, machine)
        found = {
            each.pid: each
            for each in [*named, *starters, *holders.values()]
            if each is not None and each.uid != NOBODY
        }
        return sorted(found.values(), key=by_age)

    def recognises(self, process: Process, machine: Machine) -> bool:
        if process.stat.name in X_SERVERS:
            # It may outlive its server.
            config = parse_args(process.args)[1].get("config", "")
            return (
                machine.parent_name(process).partition(" ")[0] == "xpra"
                or _is_xpras_x_server(process)
                or "/xpra/" in config
            )
        mode = _mode(process)
        if mode is not None or _x_server_of(process, machine) is None:
            return mode in MODES
        # Who does not say what it is has one of xpra's sockets, and the X server for it
        doors = _listening(process, machine)
        return doors is not None and any(map(_PATH.fullmatch, doors[0]))

    def session(self, process: Process, machine: Machine) -> _XpraSession | None:
        mode = _mode(process)
        if process.stat.name in X_SERVERS:
            return None
        doors = _listening(process, machine)
        # xpra's own socket has its host's and its display's name; a user may ask for others beside
        # it.
        paths = sorted(
            doors[0] if doors else [], key=lambda path: f"/{socket.gethostname()}-" not in path
        )
        display = _display_of(process, paths, machine)
        if doors is None and display is None and (why := machine.sockets(process).unanswered):
            raise Unanswered(why)
        if display is None or (doors is not None and not any(doors)):
            return None  # a client, a helper, or a server that is not ready yet
        if not paths and not _is_there(process, display, machine):
            return None  # it waits for clients before it has a display
        return _XpraSession(process, display, MODES.get(mode or "", ""), machine)


def _mode(process: Process) -> str | None:
    """Return what ``process`` says that it is: for a server one of :data:`MODES`, for xpra's
    clients and tools, which have the same name, another word; ``None`` if it says nothing."""
    for position, arg in enumerate(process.args[:3]):
        if os.path.basename(arg) == "xpra":
            # "seamless,backend=x11"
            return next(
                (each.partition(",")[0] for each in process.args[position + 1 : position + 2]), ""
            )
    return None


def _is_xpras_x_server(process: Process) -> bool:
    return (
        process.stat.name in X_SERVERS
        and process.args[:1] != []
        and "-for-Xpra-" in process.args[0]
    )


def _x_server_of(process: Process, machine: Machine) -> Process | None:
    """Return the X server that ``process`` has started for itself."""
    for child in machine.children(process.pid):
        if child.uid == process.uid and _is_xpras_x_server(child):
            return child
    return None


def _display_of(process: Process, paths: Iterable[str], machine: Machine) -> int | None:
    """Return the display of the server ``process``, which waits at ``paths``: the one that its
    command line asks for, its sockets are named for, or its X server has."""
    for arg in process.args:
        if re.fullmatch(r":[0-9]{1,5}(\.[0-9]+)?", arg):
            return int(arg[1:].partition(".")[0])
    for path in paths:
        if match := _PATH.fullmatch(path) or re.fullmatch(r".*-(?P<display>[0-9]{1,5})", path):
            return int(match[match.lastgroup or 0])
    server = _x_server_of(process, machine)
    if server is None:
        return None
    display = parse_args(server.args)[0]
    return find_display(server, machine) if display is None else display


def _is_there(process: Process, display: int, machine: Machine) -> bool:
    """Return whether there is an X server on ``display``, as far as that may be known."""
    sockets = machine.sockets(process)
    return not sockets.unix_is_known or bool(sockets.unix_listeners(socket_path(display)))


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
