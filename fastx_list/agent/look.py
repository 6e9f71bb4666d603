"""Looking: what the sources see on this machine now."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial
from queue import Empty, SimpleQueue
from typing import NamedTuple

from fastx_list.agent.door import Unanswered, door
from fastx_list.agent.facts import Facts, Source
from fastx_list.agent.limits import Limits
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.signs import Signs
from fastx_list.agent.start import SessionJson
from fastx_list.agent.subordinates import Payer
from fastx_list.agent.unclaimed import explain_unclaimed
from fastx_list.agent.xserver import XServers
from fastx_list.config import PREFIX
from fastx_list.model.session import Start

MAX_PROBLEM = 200  # characters of what was asked that are said
OVER_SECONDS = 600.0  # in which it is not said again that a login has too many sessions

log = logging.getLogger(__name__)


class Looked(NamedTuple):
    """A look that has been made."""

    at: int  # when, in ms since the Unix epoch
    seconds: float  # that it took


class Seen(NamedTuple):
    """What one look saw."""

    facts: list[Facts]
    previous_look: float | None  # when the one before was, in seconds since the Unix epoch
    processes: Mapping[int, Process] | None  # those that run, by pid; None if nobody could tell yet
    all_answered: bool  # whether every source has succeeded at least once
    unanswered: Set[str]  # see Machine.unanswered; and the names of sources
    unread: Set[str | None]  # see Machine.unread
    problems: tuple[str, ...]  # what kept us from seeing all
    start: Start | None  # what a session that is new starts with; None while that is not known
    kinds: Mapping[str, str]  # by the sessions' identities: the names of their sources
    booted: float  # when the machine was, by the clock that moments of this look are of
    late: Set[int] = frozenset()  # see Machine.late
    signs: Signs | None = None  # by which it is told that our network's sockets have changed
    left_out: Set[Payer] = frozenset()  # see Limits.left_out
    looked: Looked | None = None  # None before the first look


class Look:
    """Asks the sources, again and again."""

    def __init__(
        self, sources: Mapping[str, Source], session_json: SessionJson, limits: Limits | None = None
    ) -> None:
        # What the sources look at.
        self.machine = Machine(limits, programs_of(sources.values()))
        # By their names, in the order in which they claim processes.
        self._sources = sources
        # Those in which a change is news of sessions.
        self.directories = [
            path for source in sources.values() for path in getattr(source, "directories", ())
        ]
        # The file that says what new sessions start with.
        self._session_json = session_json
        # What each source saw when it last succeeded.
        self._facts: dict[str, list[Facts]] = {}
        # What a session that is new starts with; None while that is not known.
        self._start: Start | None = None
        # What the last look saw that succeeded.
        self._last = Seen(
            [], None, None, False, set(), set(), (), self._start, {}, self.machine.booted
        )
        # What failed when it was asked last.
        self._failing: set[str] = set()
        # Whom the last look was not answered by.
        self._unanswered: set[str] = set()
        # What all sources saw together, their names by identities, and those that are listed.
        self._seen: list[Facts] = []
        self._kinds: Mapping[str, str] = {}
        self._listed: list[Facts] = []
        # The logins that have more sessions than are listed, and when that was seen last, by the
        # monotonic clock.
        self._over: dict[str, float] = {}
        # Those that have in what all sources saw.
        self._too_many: set[str] = set()
        # When the last look began, by the monotonic clock.
        self._began = 0.0
        # What is being asked just now, and when that look began; None between looks.
        self.at: tuple[str, float] | None = None

    @property
    def kinds(self) -> list[str]:
        """The kinds of session that are listed, by name."""
        return [name for name, each in self._sources.items() if getattr(each, "listed", True)]

    def take(self) -> Seen:
        """Look once, and return what all sources see. One that fails costs the others nothing, and
        its sessions stay as they were."""
        self._succeeds("a look", self._take)
        self.at = None
        return self._last

    def _take(self) -> None:
        machine = self.machine
        previous_look = machine.last_look
        self._began = time.monotonic()
        if self._succeeds("the list of processes", machine.look):
            for name, source in self._sources.items():
                self._succeeds(f"the source {name}", partial(self._ask, name, source))
        self._succeeds("session.json", self._read_session_json)
        self._seen, seen = (
            [each for name in self._sources for each in self._facts.get(name, ())],
            self._seen,
        )
        if self._seen != seen:
            self._listed = self._choose(self._seen)
            self._kinds = {
                each.identity: name for name in self._sources for each in self._facts.get(name, ())
            }
        self._succeeds("what sessions use", partial(machine.meter.go_on, machine))
        self.machine.report_sockets()
        self._succeeds("what is of no kind", partial(explain_unclaimed, machine))
        self._report_unanswered()
        self._report_limits()
        self._last = Seen(
            facts=self._listed,
            previous_look=previous_look,
            processes=None if machine.last_look is None else machine.processes,
            all_answered=self._sources.keys() == self._facts.keys(),
            unanswered=machine.unanswered,
            unread=machine.unread,
            problems=tuple(machine.problems.values()),
            start=self._start,
            kinds=self._kinds,
            booted=machine.booted,
            late=machine.late,
            signs=machine.own_network.signs,
            left_out=machine.limits.left_out,
            looked=Looked(round(time.time() * 1000), round(time.monotonic() - self._began, 3)),
        )

    @property
    def unseen(self) -> list[str]:
        """The kinds of which nothing could be seen since the first look."""
        return [name for name in self._sources if name not in self._facts]

    def _read_session_json(self) -> None:
        self._start = self._session_json.read(self.machine)

    def _choose(self, seen: list[Facts]) -> list[Facts]:
        """Return those of the sessions that are listed: of each login the oldest, and what was
        listed before comes first."""
        most = self.machine.limits.sessions
        numbers = Counter(each.login for each in seen if not each.is_vouched)
        self._too_many = {login for login, number in numbers.items() if number > most}
        if not self._too_many:
            return seen
        before = {each.identity for each in self._listed}
        rooms = dict.fromkeys(self._too_many, most)
        left_out: set[str] = set()
        by_age = partial(_age, before)
        for each in sorted(seen, key=by_age):
            if each.login in rooms and not each.is_vouched:
                rooms[each.login] -= 1
                if rooms[each.login] < 0:
                    left_out.add(each.identity)
        return [each for each in seen if each.identity not in left_out]

    def _ask(self, name: str, source: Source) -> None:
        self._facts[name] = list(source.scan(self.machine))

    def _succeeds(self, what: str, call: Callable[[], None]) -> bool:
        self.at = what, self._began
        try:
            call()
        except Unanswered:
            self.machine.unanswered.add(what)
            return False
        except Exception:
            problem = "failed; its sessions stay as they were"
            if what not in self._failing:
                log.exception("%s %s", what, problem)
            self._failing.add(what)
            self.machine.unanswered.add(what)
            self.machine.problems[what] = f"{what} {problem}; the log says why"
            return False
        self._failing.discard(what)
        return True

    def _report_unanswered(self) -> None:
        """Say who does not answer, and when that is over."""
        machine = self.machine
        unanswered = {
            (
                f"login {machine.logins.of(owner) or owner}" if isinstance(owner, int) else owner
            ): what
            for owner, what in door.unanswered().items()
        }
        for subject in self._unanswered - unanswered.keys():
            machine.settle(subject)
        for subject, what in unanswered.items():
            problem = f"no answer: {what[:MAX_PROBLEM]}; until there is one, it stays as it was"
            machine.explain(subject, problem)
            machine.problems[subject] = f"{subject}: {problem}"
        self._unanswered = set(unanswered)

    def _report_limits(self) -> None:
        """Say which logins have more sessions than are listed; once for each that goes on doing
        so."""
        machine, now = self.machine, time.monotonic()
        limits = machine.limits
        users = {
            (machine.logins.of(payer) or str(payer)) if isinstance(payer, int) else payer
            for payer in limits.over
        }
        for login in self._too_many | users:
            subject = f"sessions of {login}"
            problem = (
                f"more than {limits.sessions}: the oldest are listed, the others are not"
                f" ({PREFIX}MAX_SESSIONS_PER_LOGIN)"
            )
            machine.explain(subject, problem)
            machine.problems[subject] = f"{subject}: {problem}"
            self._over[login] = now
        for login in [each for each, seen in self._over.items() if now - seen > OVER_SECONDS]:
            del self._over[login]
            machine.settle(f"sessions of {login}")
        if limits.connections.is_full:
            problem = (
                "there are too few descriptors for a connection to each of them; the sizes of some"
                " screens are those that they were started with (LimitNOFILE)"
            )
            machine.explain("X servers", problem)
            machine.problems["X servers"] = f"X servers: {problem}"


def programs_of(sources: Iterable[Source]) -> set[str]:
    """Return the names of the programs that serve the sessions of ``sources``."""
    return {name for source in sources if isinstance(source, XServers) for name in source.programs}


def _age(listed: Set[str], facts: Facts) -> tuple[bool, float, str]:
    """Sorts sessions, those that are ``listed`` first, then the oldest."""
    started = float("inf") if facts.started is None else facts.started
    return facts.identity not in listed, started, facts.identity


class Stopped(Exception):
    """We were told to stop."""


class Looker:
    """Looks from a thread of its own, which may hang, so that the lease is renewed meanwhile."""

    def __init__(self, look: Look) -> None:
        self._look = look
        # What that thread saw, and None when we are to stop. A queue of this kind is one that the
        # handler of a signal may put something into.
        self._inbox: SimpleQueue[Seen | None] = SimpleQueue()
        # Whether that thread is to look again, or to end.
        self._orders: SimpleQueue[bool] = SimpleQueue()
        # Whether we were told to stop.
        self.is_stopped = False
        # A daemon, for a look that hangs is not to hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="look", daemon=True)

    def _run(self) -> None:
        while self._orders.get():
            self._inbox.put(self._look.take())

    def start(self) -> None:
        """Begin a look."""
        if not self._thread.ident:
            self._thread.start()
        self._orders.put(True)

    def wait(self, seconds: float) -> Seen | None:
        """Return what the look saw that was begun; ``None`` if there is nothing yet after so many
        seconds. Raises :class:`Stopped` at once when it is stopped."""
        try:
            seen = self._inbox.get(timeout=seconds)
        except Empty:
            return None
        if seen is None:
            self._orders.put(False)
            raise Stopped
        return seen

    def stop(self) -> None:
        """Let whoever waits stop. The handler of a signal may call this."""
        self.is_stopped = True
        self._inbox.put(None)
