"""Which processes that serve sessions have ended: pidfd_open(2), which takes no rights."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Set
from contextlib import suppress
from typing import NamedTuple

from fastx_list.agent.door import Unanswered
from fastx_list.agent.look import Seen
from fastx_list.agent.process import Process, read_stat
from fastx_list.agent.signs import Change

ENDED = "the end of a session's server"
# Python may have been built where there was no such call yet
_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None)


class _Followed(NamedTuple):
    """A process whose end is told."""

    pid: int
    uid: int | None  # whose it is; None if nobody knows
    identity: str | None  # None if the pid may have become another process's before it was followed


class Ends:
    """Tells of the ends of the processes that serve the sessions of the last look."""

    def __init__(self, most: int) -> None:
        """Up to ``most`` processes are followed, each of which takes a descriptor."""
        self._most = most
        self._epoll = select.epoll()
        # Can be read when there is one to tell of.
        self.descriptor = self._epoll.fileno()
        # Those that are followed: descriptors by pid, and the other way round.
        self._descriptors: dict[int, int] = {}
        self._processes: dict[int, _Followed] = {}
        # The facts of the look that they are of.
        self._facts: object = None
        # Why some ends cannot be told; None if all can.
        self.problem: str | None = None

    def follow(self, seen: Seen) -> set[Change]:
        """Follow the processes that serve the sessions that were ``seen``, and no others; return
        what has ended meanwhile."""
        changes: set[Change] = set()
        if seen.facts is self._facts:
            return changes
        self._facts, self.problem = seen.facts, None
        pids = {each.server_pid for each in seen.facts if each.server_pid is not None}
        for pid in self._descriptors.keys() - pids:
            self._leave(pid)
        for pid in sorted(pids - self._descriptors.keys()):
            if len(self._descriptors) >= self._most:
                self.problem = f"there are descriptors for {self._most} processes"
                break
            process = (seen.processes or {}).get(pid)
            try:
                self._enter(pid, process)
            except ProcessLookupError:
                changes.add(Change(ENDED, None if process is None else process.uid))
            except OSError as error:
                self.problem = error.strerror
                break
        return changes

    def changes(self) -> set[Change]:
        """Return what has ended, each process once."""
        ended = [self._processes[descriptor] for descriptor in self._ended()]
        for process in ended:
            self._leave(process.pid)
        return {Change(ENDED, process.uid) for process in ended}

    def running(self) -> Set[str]:
        """Return the identities of those that are followed and have not ended: others may run as
        well."""
        ended = self._ended()
        return {
            process.identity
            for descriptor, process in self._processes.items()
            if process.identity is not None and descriptor not in ended
        }

    def close(self) -> None:
        for pid in list(self._descriptors):
            self._leave(pid)
        self._epoll.close()

    def _ended(self) -> Set[int]:
        """Return the descriptors of all that have ended, which epoll(7) would tell of in parts."""
        return {descriptor for descriptor, _ in self._epoll.poll(0, len(self._processes) or 1)}

    def _enter(self, pid: int, process: Process | None) -> None:
        """Follow ``pid``, which was that of ``process``. Raises ``OSError``."""
        if _open is None:
            raise OSError(errno.ENOSYS, "this Python has no pidfd_open")
        descriptor = _open(pid)
        try:
            self._epoll.register(descriptor, select.EPOLLIN)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptors[pid] = descriptor
        uid, identity = (None, None) if process is None else (process.uid, _identity(process))
        self._processes[descriptor] = _Followed(pid, uid, identity)

    def _leave(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid)
        del self._processes[descriptor]
        os.close(descriptor)


def _identity(process: Process) -> str | None:
    """Return the identity of ``process`` if its pid is still its own."""
    with suppress(Unanswered):
        stat = read_stat(process.pid)
        if stat is not None and stat.start == process.stat.start:
            return process.identity
    return None
