"""One process, as proc(5) shows it.

Its name, command line and environment are its user's to write: they are hints, never a proof.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import EllipsisType
from typing import NamedTuple

from fastx_list.agent.clock import clock
from fastx_list.agent.door import EXHAUSTED, Unanswered, ask
from fastx_list.agent.files import read_beginning, read_up_to
from fastx_list.agent.started_with import MAX_ARGS_BYTES, MAX_ENVIRON_BYTES, args_in, variables_in
from fastx_list.agent.subordinates import Payer, payer

YOUNG_SECONDS = 5.0
MAX_DISPLAYS_READ = 2000  # environments of one user that are read for a display in one look
STAT_BYTES = 4096
TICKS = os.sysconf("SC_CLK_TCK")
NO_PROCESS = ""  # the identity of none
NOBODY = -1  # whose a process is that has several users
_DISPLAY = re.compile(r"(?P<host>[^:]*):(?P<number>[0-9]{1,5})(?:\.[0-9]+)?")


class Stat(NamedTuple):
    """The part of ``/proc/PID/stat`` that tells processes apart; ``start`` is in clock ticks since
    boot."""

    name: str
    state: str
    parent: int
    start: int

    @property
    def has_ended(self) -> bool:
        """Whether the process only waits to be reaped."""
        return self.state in "ZXx"

    def is_like(self, other: Stat) -> bool:
        """Whether both are of one process that runs the same program, whatever it does."""
        return (self.start, self.parent, self.name) == (other.start, other.parent, other.name)


def read_stat(pid: int) -> Stat | None:
    """Return what ``/proc/PID/stat`` says, or ``None`` if the process is gone or only waits to be
    reaped."""
    stat = read_any_stat(pid)
    return None if stat is None or stat.has_ended else stat


def identity_with(pid: int, stat: Stat) -> str:
    """Return the :attr:`Process.identity` of what has this ``pid`` and ``stat`` now."""
    return f"{boot_id()}:{pid}:{stat.start}"


def pid_in(identity: str) -> int | None:
    """Return the pid in the :attr:`Process.identity` of a process of this boot; ``None`` if it is
    no such one."""
    match = re.fullmatch(r"([^:]*):([0-9]{1,10}):[0-9]+", identity)
    return int(match[2]) if match and match[1] == boot_id() else None


def identity_of(pid: int) -> str | None:
    """Return the :attr:`Process.identity` of the process that has this ``pid`` now: ``NO_PROCESS``
    if there is none, or if it only waits to be reaped; ``None`` if we may not know.

    Raises :class:`fastx_list.agent.door.Unanswered` if it cannot be asked for now.
    """
    stat = read_any_stat(pid)
    if stat is not None:
        return NO_PROCESS if stat.has_ended else identity_with(pid, stat)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return NO_PROCESS
    except PermissionError:
        pass
    return None  # /proc is mounted with hidepid


def read_any_stat(pid: int) -> Stat | None:
    """Return what ``/proc/PID/stat`` says, also of a process that only waits to be reaped."""
    try:
        data = read_beginning(f"/proc/{pid}/stat", STAT_BYTES)
        # The name is the process's own choice and may hold anything, also brackets and blanks.
        begin, end = data.index(b"(") + 1, data.rindex(b")")
        fields = data[end + 1 :].split(None, 20)
        name = data[begin:end].decode("utf-8", "replace")
        return Stat(name, fields[0].decode(), int(fields[1]), int(fields[19]))
    except OSError as error:
        _check_is_said(error)
        return None
    except (ValueError, IndexError):
        return None


def _check_is_said(error: OSError) -> None:
    """Raise :class:`fastx_list.agent.door.Unanswered` if ``error`` says nothing of the process, but
    only that we cannot ask now."""
    if error.errno in EXHAUSTED:
        raise Unanswered(error.strerror) from None


def read_uid(pid: int) -> int | None:
    """Return the user that all of the process's work is done as, ``NOBODY`` if its real, effective,
    saved and file system user differ, or ``None`` if the process is gone.

    A program that is set to run as another user (setuid) has several, and its name, command line
    and environment are those of who started it.
    """
    try:
        status = read_beginning(f"/proc/{pid}/status", STAT_BYTES)
        # Names cannot forge it: proc(5) writes their line ends as two characters
        uids = set(status.split(b"\nUid:\t", 1)[1].split(b"\n", 1)[0].split())
    except OSError as error:
        _check_is_said(error)
        return None
    except IndexError:
        return None
    return int(uids.pop()) if len(uids) == 1 else NOBODY


def socket_inode(descriptor: str) -> int | None:
    """Return the inode of the socket that ``/proc/PID/fd/NUMBER`` is; ``None`` if it is none, or if
    we may not know."""
    try:
        match = re.fullmatch(r"socket:\[([0-9]+)]", os.readlink(descriptor))
    except OSError:
        return None
    return int(match[1]) if match else None


def is_unix_socket(descriptor: str) -> bool:
    """Return whether the socket ``/proc/PID/fd/NUMBER`` is a unix socket, by the name of its
    protocol (socket.c), as lsof(8) looks it up."""
    try:
        return os.getxattr(descriptor, "system.sockprotoname").startswith(b"UNIX")
    except OSError:
        return False


@dataclass(eq=False)
class Process:
    """One process, as it was when it was last looked at."""

    pid: int
    uid: int  # whose it is, or NOBODY
    stat: Stat
    may_look_inside: bool = True  # until we are refused its environment
    _environ: Mapping[str, str] | None = None  # None until asked for
    _args: list[str] | None = None  # None until asked for
    _display: int | EllipsisType | None = ...  # ... until asked for

    @cached_property
    def identity(self) -> str:
        """What no other process on any boot of this machine has: pids are used again, these are
        not."""
        return identity_with(self.pid, self.stat)

    @cached_property
    def payer(self) -> Payer:
        """Who pays for what it costs us."""
        return payer(self.uid)

    @property
    def started(self) -> int:
        """When it started, in milliseconds since the Unix epoch by the clock as read last."""
        return round((clock.booted + self.stat.start / TICKS) * 1000)

    @property
    def age(self) -> float:
        """How long it has run, in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.stat.start / TICKS

    @property
    def is_young(self) -> bool:
        """Whether it may still be about to become another program, by ``exec``."""
        return self.stat.start > young_since()

    @property
    def args(self) -> list[str]:
        """Its command line, as it is shown to others: a process may write there what it likes.

        Raises :class:`fastx_list.agent.door.Unanswered` if it cannot be read now.
        """
        if self._args is None:
            self._args = ask(self.uid, f"the command line of process {self.pid}", self._read_args)
        return self._args

    @property
    def environ(self) -> Mapping[str, str]:
        """What of its environment, as it was started with, concerns us; empty if we may not read
        it.

        Raises :class:`fastx_list.agent.door.Unanswered` if it cannot be read now.
        """
        if self._environ is None:
            self._environ = ask(
                self.uid, f"the environment of process {self.pid}", self._read_environ
            )
        return self._environ

    @property
    def display(self) -> int | None:
        """The X display of this machine that it was started on.

        Raises :class:`fastx_list.agent.door.Unanswered` if it cannot be read now.
        """
        if isinstance(self._display, EllipsisType):
            ask(self.uid, f"the environment of process {self.pid}", self.read_display)
        return None if isinstance(self._display, EllipsisType) else self._display

    @property
    def has_told_display(self) -> bool:
        """Whether its environment was asked for that."""
        return not isinstance(self._display, EllipsisType)

    def _read_args(self) -> list[str]:
        try:
            data = read_up_to(f"/proc/{self.pid}/cmdline", MAX_ARGS_BYTES)
        except OSError as error:
            _check_is_said(error)
            return []
        except ValueError:
            return []
        return args_in(data)

    def read_display(self) -> None:
        """Ask its environment for that. It may hang."""
        # What else stands in the environments of so many processes is not kept.
        environ = self._read_environ() if self._environ is None else self._environ
        match = _DISPLAY.fullmatch(environ.get("DISPLAY", ""))
        # X(7): "localhost:10" is a forwarded display of another machine, so only these names mean a
        # server here
        is_here = match and match["host"] in ("", "unix", socket.gethostname())
        self._display = int(match["number"]) if match and is_here else None

    def _read_environ(self) -> Mapping[str, str]:
        try:
            data = read_up_to(f"/proc/{self.pid}/environ", MAX_ENVIRON_BYTES)
        except OSError as error:
            _check_is_said(error)
            self.may_look_inside = not isinstance(error, PermissionError)
            return {}
        except ValueError:
            return {}
        return dict(variables_in(data))

    @cached_property
    def network(self) -> str | None:
        """A name of the network namespace that it is in; ``None`` if we may not know."""
        return _namespace(self.pid, "net")

    @cached_property
    def mounts(self) -> str | None:
        """A name of the mount namespace that it is in; ``None`` if we may not know."""
        return _namespace(self.pid, "mnt")

    def path(self, path: str) -> str:
        """Return the absolute ``path`` of this process's own tree of files as we can open it."""
        return self._root + path

    @cached_property
    def _root(self) -> str:
        """What our path to its root starts with: nothing if that is ours, which it likely is if we
        may not know."""
        root = f"/proc/{self.pid}/root"
        try:
            is_ours = os.readlink(root) == "/" and self.mounts == own_namespace("mnt")
        except OSError:
            return ""
        return "" if is_ours else root


def by_age(process: Process) -> tuple[int, int]:
    """Sort processes by this, and the oldest comes first."""
    return process.stat.start, process.pid


def by_display(uid: int, processes: Sequence[Process]) -> Mapping[int, list[Process]]:
    """Return those of the ``processes`` of user ``uid`` that were started on a display, by its
    number, the first one first; of which it is not known on which one is left out."""
    unknown = [each for each in processes if not each.has_told_display]
    found: dict[int, list[Process]] = {}

    def read() -> None:
        for process in unknown[:MAX_DISPLAYS_READ]:
            process.read_display()

    with suppress(Unanswered):
        if unknown:
            ask(uid, "the environments of its processes", read)
    for process in processes:
        if isinstance(process._display, int):
            found.setdefault(process._display, []).append(process)
    for started in found.values():
        started.sort(key=by_age)
    return found


def young_since() -> float:
    """Return when the oldest of the young processes may have started, as :attr:`Stat.start`."""
    return (time.clock_gettime(time.CLOCK_BOOTTIME) - YOUNG_SECONDS) * TICKS


def _namespace(pid: int | str, kind: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


@lru_cache(maxsize=2)
def own_namespace(kind: str) -> str | None:
    """Return the name of the namespace of this ``kind``, "net" or "mnt", that we are in."""
    return _namespace("self", kind)


@lru_cache(maxsize=1)
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def login_of(uid: int) -> str:
    """Return the login of ``uid``; as ps(1) does, its number where it has none. It may take long:
    see :class:`fastx_list.agent.logins.Logins`."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, UnicodeDecodeError):
        return str(uid)
