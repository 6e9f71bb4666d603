"""What the sources look at: this machine's processes and sockets, as of one scan.

A scan lists the pids and looks closely only at processes that are new. ``exec`` replaces a program
under the same pid, so young processes are looked at again, and older ones in turn, a few at each
scan. File formats are those of proc(5).
"""

from __future__ import annotations

import logging
import os
import pwd
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import psutil

from fastx_list.agent.sockets import Sockets

YOUNG_SECONDS = 5.0
TURNS = 10  # an older process is looked at again every so many scans
MAX_TEXT = 4096  # characters of a command line or an environment variable that are kept
_TICKS = os.sysconf("SC_CLK_TCK")
# X(7): "localhost:10" is a forwarded display of another machine, so only these forms mean a server
# here.
_DISPLAY = re.compile(
    rf"(?:unix|{re.escape(socket.gethostname())})?:(?P<number>[0-9]{{1,5}})(?:\.[0-9]+)?"
)

# capabilities(7), by number: CAP_SYS_PTRACE, and either of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
_LOOK_INTO_PROCESSES, _READ_FILES = 1 << 19, 1 << 1 | 1 << 2

log = logging.getLogger(__name__)


def sees_everything() -> bool:
    """Return whether we may look into every user's processes and files: as root, as a rule, or with
    the rights for just that."""
    match = re.search(
        r"^CapEff:\s*([0-9a-f]+)$",
        Path("/proc/self/status").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    rights = int(match[1], 16) if match else 0
    return bool(rights & _LOOK_INTO_PROCESSES and rights & _READ_FILES)


class Stat(NamedTuple):
    """The part of ``/proc/PID/stat`` that tells processes apart; ``start`` is in clock ticks since
    boot."""

    name: str
    state: str
    parent: int
    start: int


def read_stat(pid: int) -> Stat | None:
    """Return what ``/proc/PID/stat`` says, or ``None`` if the process is gone or only waits to be
    reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
        # The name is the process's own choice and may hold anything, also brackets and blanks.
        name, rest = (
            data[data.index(b"(") + 1 : data.rindex(b")")],
            data[data.rindex(b")") + 2 :].split(),
        )
        stat = Stat(name.decode("utf-8", "replace"), rest[0].decode(), int(rest[1]), int(rest[19]))
    except (OSError, ValueError, IndexError):
        return None
    return None if stat.state in "ZXx" else stat


def socket_inode(descriptor: str) -> int | None:
    """Return the inode of the socket that ``/proc/PID/fd/NUMBER`` is; ``None`` if it is none, or if
    we may not know."""
    try:
        match = re.fullmatch(r"socket:\[([0-9]+)]", os.readlink(descriptor))
    except OSError:
        return None
    return int(match[1]) if match else None


@dataclass(eq=False)
class Process:
    """One process, as it was when it was last looked at; ``uid`` is that of ``/proc/PID``.

    ``may_look_inside`` is false once we were refused its environment.
    """

    pid: int
    uid: int
    stat: Stat
    may_look_inside: bool = True
    _environ: Mapping[str, str] | None = None
    _args: list[str] | None = None

    @property
    def identity(self) -> str:
        """What no other process on any boot of this machine has: pids are used again, these are
        not."""
        return f"{boot_id()}:{self.pid}:{self.stat.start}"

    @property
    def started(self) -> int:
        """When it started, in milliseconds since the Unix epoch."""
        return round((time.time() - self.age) * 1000)

    @property
    def age(self) -> float:
        """How long it has run, in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.stat.start / _TICKS

    @property
    def is_young(self) -> bool:
        """Whether it may still be about to become another program, by ``exec``."""
        return self.age < YOUNG_SECONDS

    @property
    def args(self) -> list[str]:
        """Its command line, as it is shown to others: a process may write there what it likes."""
        if self._args is None:
            try:
                self._args = [_clean(text) for text in psutil.Process(self.pid).cmdline()]
            except (psutil.Error, OSError, ValueError):
                self._args = []
        return self._args

    @property
    def environ(self) -> Mapping[str, str]:
        """What of its environment, as it was started with, concerns us; empty if we may not read
        it."""
        if self._environ is None:
            try:
                found = psutil.Process(self.pid).environ()
            except (psutil.Error, OSError, ValueError) as error:
                found, self.may_look_inside = (
                    {},
                    not isinstance(error, (psutil.AccessDenied, PermissionError)),
                )
            self._environ = {
                key: _clean(value) for key, value in found.items() if _concerns_us(key)
            }
        return self._environ

    @cached_property
    def network(self) -> str:
        """A name of the network namespace that it is in; that of an unknown one is that of ours,
        which is the likely one."""
        try:
            return os.readlink(f"/proc/{self.pid}/ns/net")
        except OSError:
            return _own_network()

    @cached_property
    def display(self) -> int | None:
        """The X display of this machine that it was started on."""
        match = _DISPLAY.fullmatch(self.environ.get("DISPLAY", ""))
        return int(match["number"]) if match else None


def _concerns_us(variable: str) -> bool:
    return variable in ("DISPLAY", "XAUTHORITY") or variable.startswith("FASTX_LIST_SESSION_")


def _clean(text: str) -> str:
    """Return text of another user's making as Unicode that can be stored and sent, cut where it
    gets too long."""
    return text[:MAX_TEXT].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@lru_cache(maxsize=1)
def _own_network() -> str:
    return os.readlink("/proc/self/ns/net")


@lru_cache(maxsize=1)
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


@lru_cache(maxsize=4096)
def login_of(uid: int) -> str:
    """Return the login of ``uid``; as ps(1) does, its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, UnicodeDecodeError):
        return str(uid)


class Machine:
    """The processes and sockets of this machine. :meth:`look` takes a new look at it."""

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self.last_look: float | None = None
        # Identities of the processes that a source has made a session of, in this look
        self.claimed: set[str] = set()
        self.claimed_displays: set[int] = set()
        self._turn = 0
        self._sockets: dict[str, Sockets] = {}
        self._on_displays: dict[int, dict[int, list[Process]]] = {}
        self._children: dict[int, list[Process]] | None = None
        self._explained: dict[str, str] = {}

    def look(self) -> None:
        """Bring :attr:`processes` up to date and forget the sockets of the last look."""
        self._turn = (self._turn + 1) % TURNS
        self._sockets, self._on_displays, self._children = {}, {}, None
        self.claimed, self.claimed_displays = set(), set()
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        kept: dict[int, Process] = {}
        young_since = (time.clock_gettime(time.CLOCK_BOOTTIME) - YOUNG_SECONDS) * _TICKS
        for pid in pids:
            process: Process | None = self.processes.get(pid)
            if process is None or pid % TURNS == self._turn or process.stat.start > young_since:
                process = self._look_at(pid, process)
            if process is not None:
                kept[pid] = process
        self.processes = kept
        self.last_look = time.time()

    def _look_at(self, pid: int, known: Process | None) -> Process | None:
        stat = read_stat(pid)
        if stat is None:
            return None
        if known is not None and known.stat == stat and not known.is_young:
            return known
        try:
            return Process(pid, os.stat(f"/proc/{pid}").st_uid, stat)
        except OSError:
            return None

    def still_runs(self, process: Process) -> bool:
        """Whether ``process`` is still the one it was, and no zombie."""
        stat = read_stat(process.pid)
        return stat is not None and stat.start == process.stat.start

    def named(self, names: Iterable[str]) -> list[Process]:
        """Return the processes that run a program of one of ``names``."""
        wanted = {name[:15] for name in names}  # TASK_COMM_LEN cuts it
        return [process for process in self.processes.values() if process.stat.name in wanted]

    def on_display(self, uid: int, display: int) -> list[Process]:
        """Return the processes of ``uid`` that were started on ``display``, the first one first."""
        if uid not in self._on_displays:
            found: dict[int, list[Process]] = {}
            for process in self.processes.values():
                if process.uid == uid and process.display is not None:
                    found.setdefault(process.display, []).append(process)
            for processes in found.values():
                processes.sort(key=lambda process: (process.stat.start, process.pid))
            self._on_displays[uid] = found
        return self._on_displays[uid].get(display, [])

    def children(self, pid: int) -> list[Process]:
        """Return the child processes of ``pid``, the oldest first."""
        if self._children is None:
            self._children = {}
            for process in self.processes.values():
                self._children.setdefault(process.stat.parent, []).append(process)
            for processes in self._children.values():
                processes.sort(key=lambda process: (process.stat.start, process.pid))
        return self._children.get(pid, [])

    def is_copy(self, process: Process) -> bool:
        """Return whether a claimed process has forked ``process``, which is like it until it
        becomes another by ``exec``."""
        parent = self.processes.get(process.stat.parent)
        return (
            parent is not None and parent.identity in self.claimed and parent.args == process.args
        )

    def parent_name(self, process: Process) -> str:
        """Return the name of the program that started ``process``; nothing if that has ended."""
        parent = self.processes.get(process.stat.parent)
        return parent.stat.name if parent is not None else ""

    def sockets(self, process: Process) -> Sockets:
        """Return the sockets of the network namespace that ``process`` is in."""
        if process.network not in self._sockets:
            self._sockets[process.network] = Sockets(
                None if process.network == _own_network() else process.pid
            )
        return self._sockets[process.network]

    def own_sockets(self, process: Process, inodes: frozenset[int]) -> frozenset[int]:
        """Return those of ``inodes`` that ``process`` really has open; all of them if we may not
        know."""
        opened = self.open_sockets(process)
        return inodes if opened is None else inodes & opened

    def open_sockets(self, process: Process) -> frozenset[int] | None:
        """Return the inodes of the sockets that ``process`` has open; ``None`` if we may not
        know."""
        directory = f"/proc/{process.pid}/fd"
        try:
            names = os.listdir(directory)
        except OSError:
            return None
        inodes = (socket_inode(f"{directory}/{name}") for name in names)
        return frozenset(inode for inode in inodes if inode is not None)

    def explain(self, subject: str, problem: str, level: int = logging.WARNING) -> None:
        """Say, once for each ``subject``, what could not be seen and why."""
        if self._explained.get(subject) != problem:
            self._explained[subject] = problem
            log.log(level, "%s: %s", subject, problem)

    def settle(self, subject: str) -> None:
        """Forget what was explained about ``subject``, and about "``subject``, …": it is over."""
        for explained in [
            name for name in self._explained if name == subject or name.startswith(f"{subject}, ")
        ]:
            del self._explained[explained]
