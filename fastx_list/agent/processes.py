"""The processes of this machine, as of one look.

A look lists the pids and looks closely only at what is new. ``exec`` replaces a program under the
same pid, so young processes are looked at again, and older ones in turn, a few at each look. The
others cost next to nothing: who has which name, user and parent is noted as they change.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Set
from typing import Generic, TypeVar

from fastx_list.agent.pids import Pids
from fastx_list.agent.process import NOBODY, Process, by_age, read_stat, read_uid, young_since
from fastx_list.agent.subordinates import Payer

MAX_YOUNG = 200  # processes of a user that are looked at again though it is not their turn
MAX_NEWER = 1000  # that have begun since a look and are looked at before the next one
# An older process is looked at again every so many looks; of those that follow sooner one counts
TURNS, TURN_SECONDS = 20, 0.5

K = TypeVar("K", bound=Hashable)


class Group(Generic[K]):
    """Processes that have something in common, by what that is."""

    def __init__(self, key: Callable[[Process], K | None]) -> None:
        """``key`` returns what that is; ``None`` if a process is of none."""
        self._key = key
        self._members: dict[K, dict[int, Process]] = {}
        # The same, the oldest first, as far as it was asked for.
        self._sorted: dict[K, list[Process]] = {}

    def keys(self) -> Set[K]:
        return self._members.keys()

    def of(self, key: K) -> list[Process]:
        """Return those of ``key``, the oldest first: the same list until one of them changes."""
        found = self._sorted.get(key)
        if found is None:
            members = self._members.get(key)
            if members is None:
                return []
            found = self._sorted[key] = sorted(members.values(), key=by_age)
        return found

    def add(self, process: Process) -> None:
        if (key := self._key(process)) is not None:
            self._members.setdefault(key, {})[process.pid] = process
            self._sorted.pop(key, None)

    def remove(self, process: Process) -> None:
        if (key := self._key(process)) is not None:
            members = self._members[key]
            del members[process.pid]
            if not members:
                del self._members[key]
            self._sorted.pop(key, None)


class Processes:
    """Those that run. :meth:`look` takes a new look at them."""

    def __init__(self) -> None:
        # By pid, as of the last look; another dictionary when something has changed.
        self.by_pid: Mapping[int, Process] = {}
        self.by_name, self.by_user = Group(_name_of), Group(_user_of)
        self.by_parent = Group(_parent_of)
        self._groups: tuple[Group[str] | Group[int], ...] = (
            self.by_name,
            self.by_user,
            self.by_parent,
        )
        self._pids = Pids()
        # The pids of those that were young then.
        self._young: set[int] = set()
        # The pids by the turn in which they are looked at again, which turn it was last, and when,
        # by the monotonic clock.
        self._turns: list[set[int]] = [set() for _ in range(TURNS)]
        self._turn, self._turned = 0, 0.0

    def look(self, doubted: Set[int] = frozenset(), left_out: Set[Payer] = frozenset()) -> None:
        """Bring it up to date; of the ``doubted`` users also what old processes run, and of those
        who are ``left_out`` not what young ones do. Raises ``OSError``, and
        :class:`fastx_list.agent.door.Unanswered` if processes cannot be looked at now; then all is
        as it was."""
        turn = self._whose_turn_it_is()
        told = self._pids.look(is_doubted=bool(turn and not self._turn))
        asked = {*told.new, *told.missing, *turn}
        asked |= self._still_young(asked, left_out)
        for uid in doubted:
            asked |= {each.pid for each in self.by_user.of(uid)[-MAX_YOUNG:]}
        self.take({pid: self._look_at(pid) for pid in asked})
        # One that a listing has left out has not gone until it is asked for itself.
        gone = told.missing - self.by_pid.keys()
        self._pids.take(told, told.missing - gone)
        for pid in told.new:
            self._turns[pid % TURNS].add(pid)
        for pid in gone:
            self._turns[pid % TURNS].discard(pid)
        since = young_since()
        self._young = {
            pid
            for pid in self._young | asked
            if (process := self.by_pid.get(pid)) and process.stat.start > since
        }

    def newer(self) -> list[Process]:
        """Return those that have begun since the last look, which knows nothing of them. Raises
        :class:`fastx_list.agent.door.Unanswered` if that cannot be known now."""
        new = sorted(self._pids.newer())[:MAX_NEWER]
        return [each for pid in new if (each := self._look_at(pid)) is not None]

    def take(self, changes: Mapping[int, Process | None]) -> None:
        """Take note that there are other processes, or none, by pid."""
        changes = {pid: each for pid, each in changes.items() if each is not self.by_pid.get(pid)}
        if not changes:
            return
        by_pid = dict(self.by_pid)
        for pid, process in changes.items():
            before = by_pid.pop(pid, None)
            if before is not None:
                for group in self._groups:
                    group.remove(before)
            if process is not None:
                by_pid[pid] = process
                for group in self._groups:
                    group.add(process)
        self.by_pid = by_pid

    def _whose_turn_it_is(self) -> set[int]:
        now = time.monotonic()
        if now - self._turned < TURN_SECONDS:
            return set()
        self._turn, self._turned = (self._turn + 1) % TURNS, now
        return self._turns[self._turn]

    def _still_young(self, asked: Set[int], left_out: Set[Payer]) -> set[int]:
        """Return the pids, beside ``asked``, of those that may be about to become another program:
        of each user no more than there is time for."""
        since, numbers, young = young_since(), Counter[Payer](), set[int]()
        for pid in self._young - asked:
            process = self.by_pid.get(pid)
            if process is None or process.stat.start <= since:
                continue
            if numbers[process.payer] < MAX_YOUNG and process.payer not in left_out:
                numbers[process.payer] += 1
                young.add(pid)
        return young

    def _look_at(self, pid: int) -> Process | None:
        stat = read_stat(pid)
        if stat is None:
            return None
        known = self.by_pid.get(pid)
        if known is not None and known.stat.is_like(stat) and not known.is_young:
            return known
        uid = read_uid(pid)
        return None if uid is None else Process(pid, uid, stat)


def _name_of(process: Process) -> str | None:
    """Return the name of the program that a process of one user runs."""
    if process.uid == NOBODY:
        return None
    name = process.stat.name
    # One that gave itself a title may have its command line for a name
    return os.path.basename(name.partition(" ")[0]) if " " in name else name


def _user_of(process: Process) -> int:
    return process.uid


def _parent_of(process: Process) -> int:
    return process.stat.parent
