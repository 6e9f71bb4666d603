"""Sessions of X2Go: its X server ``x2goagent`` lives on while a session is suspended, only without
a connection.

The agent's options file, whose path is in its environment's ``DISPLAY``, names the port at which
the client's proxy is connected.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping

from fastx_list.agent.display import STARTING_SECONDS, path_of
from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.files import FileError, read_regular
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.sockets import Sockets
from fastx_list.agent.xserver import XServers, XSession, parse_args

MAX_OPTIONS_BYTES = 64 * 1024
MAX_NAMES = 4096
TICK_SECONDS = 0.1  # more than the kernel's, which is at most 0.01
_WRAPPERS = ("x2goruncommand", "dbus-run-sessio", "dbus-launch")  # TASK_COMM_LEN cuts names
_HELPERS = ("x2go", "dbus-")  # such as x2gosetkeyboard, which runs beside the command for a moment
_BECOMES_THE_COMMAND = "Xsession"


class _X2GoSession(XSession):
    def __init__(
        self, process: Process, display: int, options: Mapping[str, str], machine: Machine
    ) -> None:
        self.window_mode = "rootless" if "-R" in process.args else "desktop"
        super().__init__(process, display, options, machine, lingers=True)
        match = re.fullmatch(r"nx/nx,options=(/.+):[0-9]+", process.environ.get("DISPLAY", ""))
        # The path of the options file.
        self._options_path = match[1] if match else None
        # Inode and date of that file as it was read last.
        self._version: tuple[int, ...] | None = None
        # Where the client's proxy is connected; None until the file has told.
        self._port: int | None = None

    def connections(self, sockets: Sockets) -> frozenset[int] | None:
        self._read_port()
        return None if self._port is None else sockets.tcp_clients(self._port)

    def _read_port(self) -> None:
        """Take the port from the options file, which is written anew each time the session is
        resumed."""
        path, uid = path_of(self.process, self._options_path), self.process.uid
        if path is None:
            return

        def read() -> tuple[tuple[int, ...], bytes] | None:
            status = os.stat(path, follow_symlinks=False)
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version == self._version:
                return None
            return version, read_regular(path, MAX_OPTIONS_BYTES, owner=uid)[0]

        try:
            found = ask(uid, f"the file {path!r}", read)
        except (Unanswered, OSError, ValueError, FileError):
            return  # what was known last is the best there is
        if found is not None:
            version, data = found
            text = data.decode("utf-8", "replace")
            match = re.search(r"(?:^|,)listen=([0-9]{1,5})(?:,|:|$)", text)
            if match:  # else it may only be half written
                self._port = int(match[1])
            # The kernel dates changes by its tick: one that was written just now may be again under
            # the same date.
            is_fresh = abs(time.time() - version[1] / 1e9) < TICK_SECONDS
            self._version = None if is_fresh or not match else version

    def applications(self, machine: Machine) -> Iterable[Process]:
        for process in machine.named(["x2goruncommand"]):
            if process.uid == self.process.uid and process.args[3:4] == [str(self.process.pid)]:
                yield from _innermost(process, machine)


class X2Go(XServers):
    """Finds X2Go's X servers; an ``nxagent`` that X2Go did not start is none."""

    programs = ("x2goagent", "nxagent")

    def __init__(self, listed: bool = True) -> None:
        super().__init__(listed)
        # By user and session's name, the identity of the X server that had the name first.
        self._first: dict[tuple[int, str], str] = {}

    def recognises(self, process: Process, machine: Machine) -> bool:
        name = parse_args(process.args)[1].get("name", "")
        # Now and then a server forks children that look like itself, and they may outlive it. The
        # name of a session holds when it was started and is not used again.
        if not name.startswith("X2GO-") or machine.parent_name(process) in self.programs:
            return False
        if len(self._first) >= MAX_NAMES:
            del self._first[next(iter(self._first))]
        return self._first.setdefault((process.uid, name), process.identity) == process.identity

    def session(self, process: Process, machine: Machine) -> _X2GoSession | None:
        display, options = parse_args(process.args)
        return None if display is None else _X2GoSession(process, display, options, machine)


def _innermost(process: Process, machine: Machine) -> Iterable[Process]:
    """Return what runs inside of ``process`` once its wrappers are taken off."""
    name = process.stat.name
    if name not in _WRAPPERS:
        is_on_the_way = name == _BECOMES_THE_COMMAND and process.age < STARTING_SECONDS
        return [] if is_on_the_way or name.startswith(_HELPERS) else [process]
    return [
        inner for child in machine.children(process.pid) for inner in _innermost(child, machine)
    ]
