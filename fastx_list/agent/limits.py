"""What one login may cost: the number of its sessions, our connections to its X servers, and our
time. What is over that is left out or done later, so that others pay for none of it."""

from __future__ import annotations

import math
import resource
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Protocol

from fastx_list.agent.door import Unanswered, work
from fastx_list.agent.process import Process, by_age
from fastx_list.agent.subordinates import Payer

MAX_SESSIONS = 200
# Of a login in a look, in seconds of processor time: so many, and more for each of its sessions. A
# session takes a fifth of that as a rule. Who takes more than a quarter in look after look has to
# wait until that is made up for.
LOGIN_SECONDS, SESSION_SECONDS = 0.02, 0.0001
LASTING = 1 / 4
# Who took longer, or has yet to make up for that, is left out of looks made sooner for others.
OTHERS_SECONDS = 0.003
WAITING_PAUSE = 10.0  # seconds in which nobody waits for X servers after having done so in vain
MAX_LINES, SAYING_SECONDS = 300, 600.0  # of the log about a login's, and in which so many
RESERVED_DESCRIPTORS = 128  # for proc(5), the store, and threads that wait


class Connected(Protocol):
    """Holds a connection to something of a login's."""

    def close(self) -> None:
        """Let go of it."""


class Connections:
    """Who holds a connection to an X server: one for each display."""

    def __init__(self, most: int, per_login: int) -> None:
        self._most = most
        self._per_login = per_login
        # By the users whose servers they are, and by the displays, the oldest connection first.
        self._held: dict[Payer, dict[Hashable, Connected]] = {}
        # Whether there was no room for somebody who has fewer than others.
        self.is_full = False

    def enter(self, payer: Payer, display: Hashable, holder: Connected) -> bool:
        """Return whether ``holder`` may connect to a server of ``payer``, and count it. Where there
        is no room left, whoever holds most lets go of the youngest one."""
        held = self._held.get(payer, {})
        if display in held or len(held) >= self._per_login:
            return False
        if sum(map(len, self._held.values())) >= self._most:
            self.is_full = True
            largest = max(self._held.values(), key=len, default={})
            if len(largest) <= len(held) + 1:
                return False
            largest[next(reversed(largest))].close()
        self._held.setdefault(payer, {})[display] = holder
        return True

    def leave(self, payer: Payer, display: Hashable, holder: Connected) -> None:
        """Count ``holder`` no longer, if it was."""
        held = self._held.get(payer, {})
        if held.get(display) is holder:
            del held[display]
            if not held:
                del self._held[payer]


class Limits:
    """What each login has used, as of this look."""

    def __init__(self, sessions: int = MAX_SESSIONS, descriptors: int | None = None) -> None:
        # How many sessions of a login are listed.
        self.sessions = sessions
        if descriptors is None:
            descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        reserved = min(RESERVED_DESCRIPTORS, descriptors // 2)
        # Of how many processes the end is waited for; each takes a descriptor.
        self.processes = (descriptors - reserved) // 4
        self.connections = Connections(descriptors - reserved - self.processes, sessions)
        # The users who have more than is listed or looked at.
        self.over: set[Payer] = set()
        # How many sessions of each user a source has, by the source; and all sources together.
        self._sessions: dict[object, Counter[Payer]] = {}
        self._held: Counter[Payer] = Counter()
        # How much of our time each user has had in this look, and too much in those before; nothing
        # in the first one, in which nothing is to be missed.
        self._spent: dict[Payer, float] = {}
        self._is_first = True
        # The users who have none in this look, which is made for others.
        self.left_out: Set[Payer] = frozenset()
        # On what is whose our time is being spent; None if it is nobody's. Since and until when, by
        # the clock of our processor time.
        self.spends_on: Payer | None = None
        self._since = self._until = 0.0
        # Until when that certainly lasts, by a clock that is read in a tenth of the time: nothing
        # takes less time than processor time.
        self._surely_until = 0.0
        # How much was said of what is each user's, and since when, by the monotonic clock.
        self._said: dict[Payer, tuple[int, float]] = {}
        # When new X servers of a user were waited for last, by the monotonic clock.
        self._waited: dict[Payer, float] = {}

    def begin(self, is_first: bool, made_for: Set[Payer | None] = frozenset()) -> None:
        """Begin a look: one that is ``made_for`` some users sooner than at the interval leaves out
        what of others takes long, until the next one. ``None`` is whoever cannot be told."""
        self.over, self._is_first = set(), is_first
        spent, self._spent = self._spent, {}
        self.left_out = frozenset(
            payer
            for payer, seconds in spent.items()
            if made_for and seconds > OTHERS_SECONDS and made_for.isdisjoint({payer, None})
        )
        for payer, seconds in spent.items():
            most = self._most(payer)
            if payer in self.left_out:
                self._spent[payer] = seconds
            elif seconds > LASTING * most:
                self._spent[payer] = min(seconds - LASTING * most, most)

    def choose(self, processes: Iterable[Process]) -> set[int]:
        """Return the pids of those of ``processes``, which may all serve sessions, that are one too
        many: the oldest of each user are looked at."""
        by_user: dict[Payer, list[Process]] = {}
        for process in processes:
            by_user.setdefault(process.payer, []).append(process)
        most = 2 * self.sessions  # some serve none, or belong to a session that has another
        passed_over: set[int] = set()
        for payer, theirs in by_user.items():
            if len(theirs) > most:
                self.over.add(payer)
                theirs.sort(key=by_age)
                passed_over.update(process.pid for process in theirs[most:])
        return passed_over

    def has_room(self, payer: Payer, new: int) -> bool:
        """Return whether ``payer`` may have another session, beside those that the sources have
        told of and ``new`` ones."""
        if self._held[payer] + new < self.sessions:
            return True
        self.over.add(payer)
        return False

    def count(self, source: object, sessions: Counter[Payer]) -> None:
        """Take note of how many ``sessions`` of each user ``source`` has."""
        if self._sessions.get(source) != sessions:
            self._sessions[source] = sessions
            self._held = sum(self._sessions.values(), Counter())

    def spend_on(self, payer: Payer | None) -> None:
        """Take note that processor time is from now on spent on what is ``payer``'s, and how much
        was spent on what was whoever's came before."""
        now = work()
        if self.spends_on is not None and not self._is_first:
            took, payer_before = now - self._since, self.spends_on
            self._spent[payer_before] = self._spent.get(payer_before, 0.0) + took
        self.spends_on, self._since = payer, now
        if payer is not None:
            left = self._most(payer) - self._spent.get(payer, 0.0)
            self._until = math.inf if self._is_first else now + left
            self._surely_until = math.inf if self._is_first else time.perf_counter() + left

    def has_time(self) -> bool:
        """Return whether there is time left in this look for what time is spent on."""
        if self.spends_on is None:
            return True
        return time.perf_counter() <= self._surely_until or work() <= self._until

    def has_spent_all(self, payer: Payer) -> bool:
        """Return whether there is no time left in this look for what is ``payer``'s."""
        return self._spent.get(payer, 0.0) > self._most(payer)

    @contextmanager
    def spending(self, payer: Payer) -> Iterator[None]:
        """Do what is ``payer``'s, maybe within what is another's, who pays again after it. Raises
        :class:`fastx_list.agent.door.Unanswered` if there is no time left for it in this look."""
        if self.has_spent_all(payer):
            raise Unanswered(f"what is {payer}'s")
        before = self.spends_on
        self.spend_on(payer)
        try:
            if not self.has_time():
                raise Unanswered(f"what is {payer}'s")
            yield
        finally:
            self.spend_on(before)

    def may_say(self, payer: Payer | None) -> bool:
        """Return whether there is room in the log for one more line about what is ``payer``'s,
        or about that on which our time is being spent; count it."""
        payer = self.spends_on if payer is None else payer
        if payer is None:
            return True
        now = time.monotonic()
        number, since = self._said.get(payer, (0, now))
        if now - since > SAYING_SECONDS:
            self._said = {
                each: said for each, said in self._said.items() if now - said[1] <= SAYING_SECONDS
            }
            number, since = 0, now
        self._said[payer] = number + 1, since
        return number < MAX_LINES

    def may_wait(self, payer: Payer) -> bool:
        """Return whether new X servers of ``payer`` may be waited for."""
        return time.monotonic() - self._waited.get(payer, -WAITING_PAUSE) >= WAITING_PAUSE

    def waited(self, payer: Payer) -> None:
        """Take note that new X servers of ``payer`` were waited for in vain."""
        now = time.monotonic()
        self._waited = {each: at for each, at in self._waited.items() if now - at < WAITING_PAUSE}
        self._waited[payer] = now

    def _most(self, payer: Payer) -> float:
        return LOGIN_SECONDS + SESSION_SECONDS * self._held[payer]
