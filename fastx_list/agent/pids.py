"""Which pids are new and which have gone, without listing all of them at each look.

To list ``/proc`` takes over a microsecond for each process. The kernel gives out pids one after the
other, says which was the last one, and how many threads there are: so it is asked for those between
alone, and if these, and the ends of what is young, make up for the other number of threads, all
else is as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from functools import lru_cache
from typing import NamedTuple

from fastx_list.agent.door import Unanswered
from fastx_list.agent.files import read_beginning

# A pid is given out a moment before there is a process: so many are asked for once more
MARGIN = 16
MAX_YOUNG = 64  # whose ends are looked for; any other makes for a listing
STATUS_BYTES = 4096


class Count(NamedTuple):
    """What is another when a process has begun or ended, ``/proc/loadavg``."""

    threads: int
    last: int  # pid that was given out


class Told(NamedTuple):
    """What a look was told."""

    new: Set[int]
    missing: Set[int]  # that may be there all the same
    listed: set[str] | None  # all names; None if not all were listed
    young: Set[int]  # the youngest threads, also those of other processes than new ones
    counted: Count | None  # before that


class Pids:
    """The processes in ``/proc`` as of the last look, by name."""

    def __init__(self) -> None:
        self._listed: set[str] = set()
        # The youngest threads.
        self._young: Set[int] = frozenset()
        # What the kernel had counted before the last two looks.
        self._counted: tuple[Count | None, Count | None] = (None, None)

    def look(self, is_doubted: bool) -> Told:
        """Return which are new, and which are missing. If it ``is_doubted`` all are listed. Raises
        ``OSError``."""
        counted = count()
        if is_doubted or counted is None:
            return self._list(counted)
        # What is just beginning is counted before it is there
        if {counted} == {*self._counted}:
            return Told(frozenset(), frozenset(), None, self._young, counted)
        return self._ask(counted) or self._list(counted)

    def take(self, told: Told, there: Iterable[int]) -> None:
        """Take note of what a look was ``told``; of those that were missing these are ``there``."""
        if told.listed is None:
            self._listed.difference_update(map(str, told.missing))
            self._listed.update(map(str, told.new))
        else:
            self._listed = told.listed
        self._listed.update(map(str, there))
        self._young, self._counted = told.young, (self._counted[1], told.counted)

    def newer(self) -> set[int]:
        """Return which are new since the look. Raises
        :class:`fastx_list.agent.door.Unanswered` if that cannot be known now."""
        try:
            return _pids({*os.listdir("/proc")} - self._listed)
        except OSError as error:
            raise Unanswered(f"the processes: {error.strerror}") from None

    def _list(self, counted: Count | None) -> Told:
        listed = set(os.listdir("/proc"))
        young = set[int]()
        if counted is not None:
            last = range(counted.last - MARGIN, counted.last + 1)
            young.update(filter(_is_there, _unlisted(last, listed)))
            # What was just beginning while others were listed is no thread of another
            listed.update(str(pid) for pid in young if _is_process(pid))
        new = _pids(listed - self._listed)
        return Told(new, _pids(self._listed - listed), listed, _youngest(young | new), counted)

    def _ask(self, now: Count) -> Told | None:
        """Return the same by what is counted ``now``; ``None`` if that does not tell."""
        before = self._counted[1]
        if before is None or not 0 <= now.last - before.last < len(self._listed) / 2:
            return None
        asked = _unlisted(range(before.last - MARGIN, now.last + 1), self._listed)
        found = {pid for pid in asked if pid not in self._young and _is_there(pid)}
        ended = {pid for pid in self._young if not _is_there(pid)}
        if before.threads + len(found) - len(ended) != now.threads:
            return None
        try:
            new = {pid for pid in found if _is_process(pid)}
        except OSError:
            return None
        missing = {pid for pid in ended if str(pid) in self._listed}
        return Told(new, missing, None, _youngest(self._young - ended | found), now)


def _youngest(pids: Set[int]) -> Set[int]:
    return frozenset(sorted(pids)[-MAX_YOUNG:])


def count() -> Count | None:
    """Return what the kernel has counted; ``None`` if that cannot be known."""
    try:
        _, threads, last = read_beginning("/proc/loadavg", 128).rsplit(None, 2)
        return Count(int(threads.partition(b"/")[2]), int(last)) if _counts_here() else None
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1)
def _counts_here() -> bool:
    """Whether it is the kernel's own count, and of the processes that are listed: a container may
    have somebody else's."""
    try:
        return os.readlink("/proc/self") == str(os.getpid()) and (
            os.stat("/proc/loadavg").st_dev == os.stat("/proc/self/stat").st_dev
        )
    except OSError:
        return False


def _is_there(pid: int) -> bool:
    """Whether there is a thread of this ``pid``, of whatever process."""
    return os.access(f"/proc/{pid}", os.F_OK)


def _is_process(pid: int) -> bool:
    """Whether it is a process, which has the pid of its first thread. Raises ``OSError`` if that
    cannot be known."""
    try:
        status = read_beginning(f"/proc/{pid}/status", STATUS_BYTES)
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return False
    return b"\nTgid:\t%d\n" % pid in status


def _unlisted(pids: Iterable[int], listed: Set[str]) -> list[int]:
    return [pid for pid in pids if pid > 0 and str(pid) not in listed]


def _pids(names: Set[str]) -> set[int]:
    return {int(name) for name in names if name.isdigit()}
