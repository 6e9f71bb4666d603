"""Which processes serve the sessions of session files that say a ``serverPid``: those that had
these pids when they were first seen.

Pids are used again, above all after a reboot, at which files stay and processes do not. So what was
seen first is kept in a file, with what tells processes of all boots apart.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Set
from pathlib import Path
from typing import NamedTuple

from fastx_list.agent.door import Unanswered
from fastx_list.agent.facts import Facts
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import NO_PROCESS, Process, identity_of
from fastx_list.state import StateError, read_own, replace

MAX_BYTES = 64 * 1024 * 1024  # of the file
NEVER = -1
WRITING_SECONDS = 2.0  # a file that was written so recently may not be finished
WRITE_SECONDS = 10.0  # between two times of writing what is no news of a process

log = logging.getLogger(__name__)


class File(NamedTuple):
    """A session file: which inode was read, as it was changed when (in nanoseconds; ``NEVER`` to
    have it read again), and what it says."""

    inode: int
    changed: int
    facts: Facts | None
    owner: int
    # The user who may only speak for themselves; None if this one may speak for everybody.
    speaker: int | None = None
    # Whether it could ever be read.
    has_answered: bool = True
    # Which change of it was seen unfinished last, and when first, by the monotonic clock.
    unfinished: tuple[int, float] | None = None


def being_written(known: File | None, status: os.stat_result) -> tuple[int, float] | None:
    """Return since when an unfinished file is as it is now, as :attr:`File.unfinished`; ``None``
    once that is too long for one that is being written. What dates it may be another machine's
    clock, which counts only of a file that has said nothing yet."""
    says_nothing = known is None or known.facts is None
    if says_nothing and time.time() - status.st_mtime >= WRITING_SECONDS:
        return None
    now = time.monotonic()
    since = known.unfinished if known is not None else None
    if since is None or since[0] != status.st_ctime_ns:
        since = status.st_ctime_ns, now
    return since if now - since[1] < WRITING_SECONDS else None


class First(NamedTuple):
    """The process that was first seen to have a session's pid."""

    session: str  # the identity of its facts
    pid: int
    process: str  # its identity; NO_PROCESS if there was none, or once it has ended
    inode: int  # of the file, as it was read last
    changed: int


class Serving:
    """Tells which sessions have ended, since the processes that served them have."""

    def __init__(self, path: Path | None, earlier: Path | None = None) -> None:
        """What was seen first is kept at ``path``, if there is one. While there is no file, what is
        at ``earlier`` is taken over, where earlier releases kept it for all machines."""
        self._path, self._earlier = path, earlier
        # By the files' names; None until what was kept has been read.
        self._first: dict[str, First] | None = None
        # The names of those that only a former agent has seen.
        self._kept: set[str] = set()
        # What served a session when it was asked for last: by pid, what the list of processes has
        # of it, and its identity; None where that may not be known.
        self._served: dict[int, tuple[Process | None, str | None]] = {}
        # Whether what is on the disk is out of date, and when it is written next, by the monotonic
        # clock.
        self._is_stale = False
        self._write_at = 0.0
        # What was judged last, and what of it runs.
        self._judged: Mapping[str, File] = {}
        self._running: list[Facts] = []
        # The names of the files whose sessions have ended.
        self._ended: Set[str] = frozenset()
        # Why what was seen first cannot be kept.
        self.problem: str | None = None

    def running(self, files: Mapping[str, File], machine: Machine) -> list[Facts]:
        """Return what those of all ``files`` say whose sessions run: the same as before if nothing
        has changed.

        Raises :class:`Unanswered` while it cannot be known.
        """
        if files is not self._judged or self._has_changed(machine):
            self._judged = {}  # until all has been asked
            ended = self._find_ended(files, machine)
            self._judged = files
            self._running = [
                file.facts
                for name, file in files.items()
                if file.facts is not None and name not in ended
            ]
            _say(sorted(ended - self._ended))
            self._ended = ended
        return self._running

    def _has_changed(self, machine: Machine) -> bool:
        if self._is_stale and time.monotonic() >= self._write_at:
            return True
        processes = machine.processes
        for pid, (process, _) in self._served.items():
            if process is None:
                return True
            now = processes.get(pid)
            if now is not process and (now is None or now.stat.start != process.stat.start):
                return True
        return False

    def _find_ended(self, files: Mapping[str, File], machine: Machine) -> set[str]:
        """Return the names of those whose sessions have ended, since their processes have."""
        first = self._recall()
        gone = first.keys() - files.keys()
        for name in gone:
            del first[name]
        self._kept -= gone
        before, self._served = self._served, {}
        is_new, ended, running = bool(gone), set[str](), set[int]()
        for name, file in files.items():
            if file.facts is None or file.facts.server_pid is None:
                continue
            session, pid = file.facts.identity, file.facts.server_pid
            known = first.get(name)
            if known is not None and (known.session, known.pid) != (session, pid):
                known = None
            now = self._ask(pid, known is None, before, machine)
            if known is not None and name in self._kept and now != known.process:
                if file.changed == NEVER:
                    running.add(pid)
                    continue  # it may have been written since that was kept
                if (known.inode, known.changed) != (file.inode, file.changed):
                    known = None
            if known is None and now is not None:
                known, is_new = First(session, pid, now, file.inode, file.changed), True
            if known is None:
                running.add(pid)
                continue
            if now not in (None, known.process):
                known = known._replace(process=NO_PROCESS)
                self._is_stale = True
            if known.process == NO_PROCESS:
                ended.add(name)
            else:
                running.add(pid)
            if file.changed != NEVER:
                self._is_stale |= (known.inode, known.changed) != (file.inode, file.changed)
                known = known._replace(inode=file.inode, changed=file.changed)
                self._kept.discard(name)
            first[name] = known
        self._served = {pid: asked for pid, asked in self._served.items() if pid in running}
        self._write(first, is_new)
        return ended

    def _ask(
        self,
        pid: int,
        is_new: bool,
        before: Mapping[int, tuple[Process | None, str | None]],
        machine: Machine,
    ) -> str | None:
        """Return the identity of the process that has ``pid`` now: see :func:`identity_of`. The
        list of processes may be late to show that there is another."""
        if is_new or pid not in self._served:
            process, asked = machine.processes.get(pid), before.get(pid)
            if is_new or asked is None or process is None or not _is_same(asked[0], process):
                asked = process, identity_of(pid)
            self._served[pid] = asked
        return self._served[pid][1]

    def _recall(self) -> dict[str, First]:
        if self._first is None:
            self._first = self._read()
            self._kept = set(self._first)
        return self._first

    def _read(self) -> dict[str, First]:
        for path in (self._path, self._earlier):
            if path is not None and (first := self._read_kept(path)) is not None:
                self._is_stale |= path != self._path  # another machine may write there
                return first
        return {}

    def _read_kept(self, path: Path) -> dict[str, First] | None:
        """Return what was kept at ``path``; ``None`` if there is no such file."""
        self.problem = None
        try:
            kept = json.loads(read_own(path, MAX_BYTES)[0])
            return {name: _checked(first) for name, first in kept.items()}
        except FileNotFoundError:
            return None
        except (
            StateError,
            IsADirectoryError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            self.problem = f"{path} cannot be used, and is begun anew: {error}"
            return {}
        except OSError as error:
            self.problem = (
                f"{path} cannot be read: {error.strerror}; its sessions stay as they were"
            )
            raise Unanswered(self.problem) from None

    def _write(self, first: Mapping[str, First], is_new: bool) -> None:
        """Keep what was seen first: at once if a process ``is_new``, else now and then."""
        now = time.monotonic()
        if self._path is None or not (is_new or (self._is_stale and now >= self._write_at)):
            self._is_stale = self._is_stale and self._path is not None
            return
        self._write_at, self._is_stale = now + WRITE_SECONDS, False
        try:
            replace(self._path, json.dumps(first))
            self.problem = None
        except OSError as error:
            self._is_stale = True
            self.problem = (
                f"{self._path} cannot be written: {error.strerror or error}; after a reboot another"
                " process may be taken for one that served a session"
            )


def _is_same(one: Process | None, other: Process) -> bool:
    return one is other or (one is not None and one.stat.start == other.stat.start)


def _say(names: list[str]) -> None:
    if names:
        some = ", ".join(map(ascii, names[:3])) + ", …" * (len(names) > 3)
        log.info("%d sessions have ended with their processes: %s", len(names), some)


def _checked(kept: list[str | int]) -> First:
    """Raises ``ValueError`` or ``TypeError``."""
    first = First(*kept)  # type: ignore[arg-type]
    if [type(each) for each in first] != [str, int, str, int, int]:
        raise ValueError("a value is of a wrong type")
    return first
