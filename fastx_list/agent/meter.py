"""What the sessions use: memory, and processor time over the last minute.

The processes of a user are read in rounds, a few at each look, so that who has very many makes no
look longer and only waits longer. A process is the session's whose X server it is; or on whose
display it was started; or the one of its parent; or the only one in its unit, which is that of a
login or a service (systemd). What its user says of it, the display, moves it between that user's
own sessions alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from fastx_list.agent.accounts import Account
from fastx_list.agent.door import Unanswered, ask, work
from fastx_list.agent.process import Process, by_age
from fastx_list.agent.steady import steady
from fastx_list.agent.usage import Usage, read_slice

if TYPE_CHECKING:
    from fastx_list.agent.machine import Machine
    from fastx_list.agent.processes import Processes

K = TypeVar("K", bound=Hashable)

ROUND_SECONDS = 60.0  # from the beginning of one of a user's rounds to that of the next
MAX_PROCESSES = 20_000  # of a user: of one who has more nothing is known
# Of a core, and of one look
MOST_SECONDS, SHARE = 0.05, 0.02
LOOK_SECONDS = 0.01
ASKING_SECONDS = 0.1  # of one look, in which others answer what it asks


class Used(NamedTuple):
    """What a session uses; ``None`` is what is not known."""

    memory: int | None  # bytes
    cpu: int | None  # percent of one core since the round before


class Metered(NamedTuple):
    """A session whose use is asked for."""

    process: Process  # serves it
    display: int | None


class Meter:
    """Measures what sessions use."""

    def __init__(self, round_seconds: float = ROUND_SECONDS) -> None:
        self.round_seconds = round_seconds
        # Whose sessions were asked for, by user.
        self._users: dict[int, _User] = {}
        self._account = Account(MOST_SECONDS, SHARE, time.monotonic())
        # Until when nothing more is asked in this look, by the monotonic clock.
        self._late = 0.0

    def of(self, process: Process, display: int | None) -> Used | None:
        """Return what the session uses that ``process`` serves on ``display``; ``None`` if it has
        not been measured yet. Once asked for it is measured for as long as ``process`` runs."""
        user = self._users.get(process.uid)
        if user is None:
            user = self._users[process.uid] = _User(process.uid)
        identity = process.identity
        known = user.sessions.get(identity)
        if known is None or known.process is not process or known.display != display:
            known = Metered(process, display)
        user.asked[identity] = known
        return user.told.get(identity)

    def go_on(self, machine: Machine) -> None:
        """Measure what there is time for in this look: nothing if it is made sooner for somebody,
        who is not to wait for it."""
        if machine.made_for:
            return
        for user in self._users.values():
            # Of who had no time in this look, or no part in one, not all were asked for
            user.asked |= _running(user.sessions, user.asked.keys(), machine.processes)
            user.sessions, user.asked = user.asked, {}
        self._users = {uid: user for uid, user in self._users.items() if user.sessions}
        now, began = time.monotonic(), work()
        left = min(self._account.balance(now), LOOK_SECONDS)
        self._late = now + ASKING_SECONDS
        waiting = [user for user in self._users.values() if user.due <= now]
        waiting.sort(key=lambda user: user.due)
        while waiting:
            waiting = [user for user in waiting if self._goes_on(user, machine, began + left)]
        self._account.spend(work() - began, now)

    def _goes_on(self, user: _User, machine: Machine, until: float) -> bool:
        """Read a few more of a user's processes, unless it is late, or ``until`` by the clock of
        our processor time; return whether there are more that can be read in this look."""
        if work() >= until or time.monotonic() >= self._late:
            return False
        try:
            if not user.goes_on(machine.listing):
                user.due += self.round_seconds
                return False
        except Unanswered:
            return False
        return True


@dataclass
class _User:
    """The sessions of one user."""

    uid: int
    asked: dict[str, Metered] = field(default_factory=dict)  # in this look
    sessions: dict[str, Metered] = field(default_factory=dict)  # in the last one
    told: dict[str, Used] = field(default_factory=dict)  # by the sessions' identities
    due: float = field(default_factory=time.monotonic)  # when the next round is
    number: int = 0  # of the round
    # What is yet to be read in it; None between two rounds
    queue: list[Process] | None = None
    read: dict[int, Usage] = field(default_factory=dict)  # in this round, by pid
    before: _Round | None = None

    def goes_on(self, listing: Processes) -> bool:
        """Read a few more processes, and return whether there are more. Raises
        :class:`fastx_list.agent.door.Unanswered` if they cannot be read now."""
        if self.queue is None:
            theirs = listing.by_user.of(self.uid)
            if len(theirs) > MAX_PROCESSES:
                self.told = dict.fromkeys(self.sessions, Used(None, None))
                self.before = None
                return False
            others = sorted(_others_below(theirs, listing), key=attrgetter("uid"))
            self.queue, self.read = [*theirs, *others][::-1], {}
            self.due = max(self.due, time.monotonic())
        before = self.before.read if self.before is not None else {}
        # Another's processes may hang, for which this user does not pay
        uid = self.queue[-1].uid if self.queue else self.uid
        read = partial(read_slice, _of(uid, self.queue), before, self.number)
        try:
            found = ask(uid, "what its processes use", read)
        except Unanswered:
            if uid == self.uid:
                raise
            found = [_as_it_was(each, before.get(each.pid)) for each in _of(uid, self.queue)]
        del self.queue[len(self.queue) - len(found) :]
        self.read |= {usage.process.pid: usage for usage in found if usage is not None}
        if self.queue:
            return True
        self._finish()
        return False

    def _finish(self) -> None:
        now, owned = time.monotonic(), owners(self.sessions, self.read)
        memory, spent = Counter[str](), dict.fromkeys(owned.values(), 0.0)
        for pid, usage in self.read.items():
            if pid in owned:
                memory[owned[pid]] += usage.memory
        if self.before is not None:
            for pid, seconds in _spent(self.read, self.before.read, now - self.before.at).items():
                if pid in owned:
                    spent[owned[pid]] += seconds
        told = {}
        for identity in memory:
            known = self.told.get(identity, Used(None, None))
            cpu = None
            if self.before is not None and identity in self.before.identities:
                percent = 100 * spent[identity] / max(now - self.before.at, 0.001)
                cpu = round(steady("cpu", known.cpu, percent))
            told[identity] = Used(round(steady("memory", known.memory, memory[identity])), cpu)
        self.before, self.told = _Round(now, self.read, memory.keys()), told
        self.queue, self.read, self.number = None, {}, self.number + 1


class _Round(NamedTuple):
    """What was found out in a round."""

    at: float  # when it ended, by the monotonic clock
    read: Mapping[int, Usage]  # by pid
    identities: Set[str]  # of the sessions that were measured


def _running(
    sessions: Mapping[str, Metered], others: Set[str], processes: Mapping[int, Process]
) -> dict[str, Metered]:
    """Return those of ``sessions`` that are none of the ``others`` and whose processes run."""
    return {
        identity: each
        for identity, each in sessions.items()
        if identity not in others
        and (process := processes.get(each.process.pid)) is not None
        and process.stat.start == each.process.stat.start
    }


def _of(uid: int, queue: list[Process]) -> Iterator[Process]:
    return takewhile(lambda each: each.uid == uid, reversed(queue))


def _as_it_was(process: Process, usage: Usage | None) -> Usage | None:
    return usage if usage and usage.process.stat.start == process.stat.start else None


def _others_below(processes: Iterable[Process], listing: Processes) -> list[Process]:
    """Return what processes of other users ``processes`` have started, as with sudo(8)."""
    found, above = list[Process](), [process.pid for process in processes]
    uids = {process.uid for process in processes}
    while above and len(found) < MAX_PROCESSES:
        below = [child for pid in above for child in listing.by_parent.of(pid)]
        others = [child for child in below if child.uid not in uids]
        found += others
        above = [child.pid for child in others]
    return found


def owners(sessions: Mapping[str, Metered], read: Mapping[int, Usage]) -> dict[int, str]:
    """Return the identities of the ``sessions`` whose the processes are that were ``read``, by
    pid. What two sessions have in common tells nothing."""
    roots = {each.process.pid: identity for identity, each in sessions.items()}
    of_display = _only((each.display, identity) for identity, each in sessions.items())
    of_unit = _only((read[pid].unit, identity) for pid, identity in roots.items() if pid in read)
    found: dict[int, str] = {}
    # Who was started later comes later, so a parent comes before its children
    for usage in sorted(read.values(), key=lambda each: by_age(each.process)):
        process = usage.process
        owner = (
            roots.get(process.pid)
            or of_display.get(usage.display)
            or found.get(process.stat.parent)
            or of_unit.get(usage.unit)
        )
        if owner is not None:
            found[process.pid] = owner
    return found


def _only(pairs: Iterable[tuple[K | None, str]]) -> dict[K | None, str]:
    """Return what is found with one session alone, and the session."""
    found: dict[K | None, set[str]] = {}
    for key, identity in pairs:
        if key is not None:
            found.setdefault(key, set()).add(identity)
    return {key: next(iter(each)) for key, each in found.items() if len(each) == 1}


def _spent(
    now: Mapping[int, Usage], before: Mapping[int, Usage], seconds: float
) -> dict[int, float]:
    """Return how much processor time each process has spent in so many ``seconds``, by pid, with
    that of the processes that it has waited for. What these had spent before is no part of it."""
    ended: dict[int, float] = {}
    for pid, usage in before.items():
        if pid not in now:
            parent = usage.process.stat.parent
            ended[parent] = ended.get(parent, 0.0) + usage.own + usage.of_children
    spent = {}
    for pid, usage in now.items():
        known = before.get(pid)
        if known is not None and known.process.stat.start == usage.process.stat.start:
            of_children = max(0.0, usage.of_children - known.of_children)
            spent[pid] = usage.own - known.own + max(0.0, of_children - ended.get(pid, 0.0))
        elif usage.process.age <= seconds:
            spent[pid] = usage.own + usage.of_children
    return spent
