"""One process, as proc(5) shows it.

Its name, command line and environment are its user's to write: they are hints, never a proof.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import psutil

YOUNG_SECONDS = 5.0
MAX_TEXT = 4096  # characters of a command line or an environment variable that are kept
TICKS = os.sysconf("SC_CLK_TCK")
# X(7): "localhost:10" is a forwarded display of another machine, so only these forms mean a server
# here.
_DISPLAY = re.compile(
    rf"(?:unix|{re.escape(socket.gethostname())})?:(?P<number>[0-9]{{1,5}})(?:\.[0-9]+)?"
)


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
    """One process, as it was when it was last looked at."""

    pid: int
    uid: int  # the owner of /proc/PID
    stat: Stat
    may_look_inside: bool = True  # until we are refused its environment
    _environ: Mapping[str, str] | None = None  # None until asked for
    _args: list[str] | None = None  # None until asked for

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
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.stat.start / TICKS

    @property
    def is_young(self) -> bool:
        """Whether it may still be about to become another program, by ``exec``."""
        return self.stat.start > young_since()

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
            return own_network()

    @cached_property
    def display(self) -> int | None:
        """The X display of this machine that it was started on."""
        match = _DISPLAY.fullmatch(self.environ.get("DISPLAY", ""))
        return int(match["number"]) if match else None


def young_since() -> float:
    """Return when the oldest of the young processes may have started, as :attr:`Stat.start`."""
    return (time.clock_gettime(time.CLOCK_BOOTTIME) - YOUNG_SECONDS) * TICKS


def _concerns_us(variable: str) -> bool:
    return variable in ("DISPLAY", "XAUTHORITY") or variable.startswith("FASTX_LIST_SESSION_")


def _clean(text: str) -> str:
    """Return text of another user's making as Unicode that can be stored and sent, cut where it
    gets too long."""
    return text[:MAX_TEXT].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@lru_cache(maxsize=1)
def own_network() -> str:
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
