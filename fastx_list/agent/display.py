"""What can be learnt about one X server, whatever kind of session it serves: the size of its
screen, and its first application."""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import time
from collections.abc import Callable, Iterable

from fastx_list.agent.clock import clock
from fastx_list.agent.door import Unanswered
from fastx_list.agent.limits import Connections, Limits
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, own_namespace
from fastx_list.agent.started_with import MAX_TEXT
from fastx_list.agent.x11 import Denied, DisplayWatch, Flood, X11Error, socket_path

FIRST_ANSWER_SECONDS = 0.1  # that all new servers together get, once
# In which a server may not listen yet, and a session's first program may still be a passing one
STARTING_SECONDS = 10.0
RETRY_SECONDS = 30.0
MAX_FLOOD_PAUSE = 3600.0


class Screen:
    """The size of one X server's screen."""

    def __init__(
        self,
        process: Process,
        display: int,
        authority: str | None,
        size: str | None,
        lingers: bool,
        is_x_server: bool = True,
    ) -> None:
        """``process`` is the X server's, or that of a program that has the X server beside it;
        ``authority`` is the path of its authority file, ``size`` what the command line says.
        ``lingers``: it goes on when its last client has left it."""
        # Who pays for it.
        self.payer = process.payer
        self._process = process
        self._display = display
        self._authority = authority
        self._lingers = lingers
        self._is_x_server = is_x_server
        # As far as it is known, such as "1280x720"; and as the X server has told it last.
        self._size = size
        self._told: tuple[int, int] | None = None
        # Our connection, while there is one.
        self._watch: DisplayWatch | None = None
        # The inodes that were counted last, and how many of them are the X server's own.
        self._counted: tuple[frozenset[int], int] = (frozenset(), 0)
        # When our connection was made, and when to connect again after a failure, by the monotonic
        # clock.
        self._since = self._retry_at = 0.0
        # For how long the server is left alone when it next sends too much, in seconds.
        self._flood_pause = RETRY_SECONDS
        # Where our connection is counted.
        self._connections: Connections | None = None
        # Whether nobody has waited for its first answer yet.
        self.is_new = True

    def follow(self, machine: Machine, subject: str) -> None:
        """Take what the X server has told since; connect to it if that does no harm."""
        others = 1 if self._lingers else self._count_clients(machine) - (self._watch is not None)
        if others < 1:
            self.close()
            return
        try:
            if self._watch is not None:
                self._watch.poll()
            elif time.monotonic() >= self._retry_at and self._has_room(machine):
                self._watch = DisplayWatch(
                    self._display,
                    self._addresses,
                    lambda pid: self._is_served_by(pid, machine),
                    self._process.uid,
                    self._authority,
                    socket.gethostname(),
                    machine.idle_seconds,
                )
                self._since = time.monotonic()
                machine.settle(subject)
        except (X11Error, OSError) as error:
            self._fail(error, machine, subject)

    def _has_room(self, machine: Machine) -> bool:
        self._connections = machine.limits.connections
        return self._connections.enter(self.payer, self._place, self)

    def _fail(self, error: Exception, machine: Machine, subject: str) -> None:
        """Leave the server, and decide when to ask it again."""
        was_known = self._watch is not None and self._watch.size is not None
        self.close()
        now = time.monotonic()
        if isinstance(error, Flood):
            self._retry_at = now + self._flood_pause
            self._flood_pause = min(2 * self._flood_pause, MAX_FLOOD_PAUSE)
        elif was_known:
            # As a rule the server is just ending; if not, the next look connects again, but not
            # again and again.
            self._retry_at = self._since + RETRY_SECONDS
            return
        elif isinstance(error, Denied) or self._process.age > STARTING_SECONDS:
            self._retry_at = now + RETRY_SECONDS
        else:
            return
        machine.explain(
            subject, f"the size of its screen is the one it was started with, since {error}"
        )

    @property
    def _place(self) -> tuple[object, ...]:
        """Which display it is, on the whole machine."""
        return self._process.network, self._process.mounts, self._display

    @property
    def _addresses(self) -> list[str]:
        """Where the X server may listen: not on the machine, but where it is itself."""
        path = socket_path(self._display)
        is_in_our_network = self._process.network in (None, own_namespace("net"))
        return ["\0" + path] * is_in_our_network + [self._process.path(path)]

    def _is_served_by(self, pid: int, machine: Machine) -> bool:
        """Return whether process ``pid`` is the X server that is meant."""
        if self._is_x_server:
            return pid == self._process.pid
        server = machine.processes.get(pid)
        return server is not None and (server.uid, server.mounts) == (
            self._process.uid,
            self._process.mounts,
        )

    def _count_clients(self, machine: Machine) -> int:
        inodes = machine.sockets(self._process).unix_clients(socket_path(self._display))
        if inodes is None:  # it is not to be kept alive by us
            return 0
        if inodes != self._counted[0]:
            self._counted = (inodes, len(machine.own_sockets(self._process, inodes)))
        return self._counted[1]

    @property
    def geometry(self) -> str | None:
        """Width and height, such as ``1280x720``."""
        size = self._watch.size if self._watch is not None else None
        if size is not None and size != self._told:
            self._told, self._size = size, "{}x{}".format(*size)
        return self._size

    @property
    def idle_since(self) -> int | None:
        """When the last keyboard or pointer event came, in ms since the Unix epoch; ``None`` while
        it is used, or that is not known."""
        since = self._watch.idle.since if self._watch is not None else None
        if since is None:
            return None
        return max(round((clock.booted + since) * 1000), self._process.started)

    @property
    def knows_idle(self) -> bool:
        """Whether that was told, or will not be."""
        return self._watch is None or self._watch.idle.is_known

    @property
    def awaited(self) -> DisplayWatch | None:
        """The watch that has not been told a size yet."""
        return self._watch if self._watch is not None and self._watch.size is None else None

    def close(self) -> None:
        """Leave the server, which keeps its last known size."""
        if self._watch is not None:
            self._size = self.geometry
            self._watch.close()
            self._watch = None
        if self._connections is not None:
            self._connections.leave(self.payer, self._place, self)
            self._connections = None


def await_first_answers(
    screens: Iterable[Screen], limits: Limits, seconds: float = FIRST_ANSWER_SECONDS
) -> None:
    """Give servers that were never asked before a moment to answer, all together. One that hangs is
    not waited for again, and its user's others are not for a while."""
    waiting = [
        screen
        for screen in screens
        if screen.is_new and screen.awaited and limits.may_wait(screen.payer)
    ]
    for screen in waiting:
        screen.is_new = False
    deadline = time.monotonic() + seconds
    while waiting and (left := deadline - time.monotonic()) > 0:
        poller = select.poll()
        for screen in waiting:
            if screen.awaited:
                poller.register(screen.awaited, select.POLLIN)
        if not poller.poll(left * 1000):
            break
        for screen in waiting:
            if screen.awaited:
                try:
                    screen.awaited.poll_again()
                except X11Error:
                    screen.close()  # the next scan meets it again, and says why
        waiting = [screen for screen in waiting if screen.awaited]
    for screen in waiting:
        limits.waited(screen.payer)


def find_display(process: Process, machine: Machine) -> int | None:
    """Return the display of an X server that chose its number itself (``-displayfd``): the one
    whose socket it listens on.

    ``None`` if it listens on none yet, or if we may not know. Raises
    :class:`fastx_list.agent.door.Unanswered` if it cannot be known now.
    """
    sockets = machine.sockets(process)
    if not sockets.unix_is_known and sockets.unanswered:
        raise Unanswered(sockets.unanswered)
    prefix = socket_path(0)[:-1]
    for path in sockets.listening_paths():
        number = path.lstrip("\0").removeprefix(prefix)
        if (
            path.lstrip("\0").startswith(prefix)
            and re.fullmatch(r"[0-9]{1,5}", number)
            and machine.own_listeners(process, sockets.unix_listeners(path))
        ):
            return int(number)
    return None


def path_of(process: Process, path: str | None) -> str | None:
    """Return ``path`` of a process's command line as we can open it: a relative one starts from the
    process's directory."""
    if path is None:
        return None
    return process.path(path) if os.path.isabs(path) else f"/proc/{process.pid}/cwd/{path}"


class Application:
    """The program a session was started for. While the session is young a better one may come; then
    the one that is known holds."""

    def __init__(self, serving: Process) -> None:
        # Serves the session.
        self._serving = serving
        # Runs the program; None until one is found.
        self._process: Process | None = None
        # Its command line.
        self._command: str | None = None

    def look(self, candidates: Callable[[], Iterable[Process]]) -> tuple[str | None, int | None]:
        """Return its command line and its pid: those of the first of ``candidates``, which are
        asked for only if need be."""
        if self._process is None or self._serving.age <= STARTING_SECONDS:
            try:
                process = next(iter(candidates()), None)
                if process is not None:
                    command = shlex.join(process.args)[:MAX_TEXT] or None
                    self._process, self._command = process, command
            except Unanswered:
                pass
        return (self._command, self._process.pid) if self._process is not None else (None, None)
