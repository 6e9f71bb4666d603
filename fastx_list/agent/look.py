"""Looking: what the sources see on this machine now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Set
from functools import partial
from queue import Empty, SimpleQueue
from typing import NamedTuple

from fastx_list.agent.door import Unanswered, door
from fastx_list.agent.facts import Facts, Source
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.start import SessionJson
from fastx_list.model.session import Start

MAX_PROBLEM = 200  # characters of what was asked that are said

log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """What one look saw."""

    facts: list[Facts]
    previous_look: float | None  # when the one before was, in seconds since the Unix epoch
    processes: Mapping[int, Process]  # those that run, by pid
    all_answered: bool  # whether every source has succeeded at least once
    unanswered: Set[str]  # see Machine.unanswered; and the names of sources
    problems: tuple[str, ...]  # what kept us from seeing all
    start: Start  # what a session that is new starts with


class Look:
    """Asks the sources, again and again."""

    def __init__(self, sources: Mapping[str, Source], session_json: SessionJson) -> None:
        # What the sources look at.
        self.machine = Machine()
        # By their names, in the order in which they claim processes.
        self._sources = sources
        # The file that says what new sessions start with.
        self._session_json = session_json
        # What each source saw when it last succeeded.
        self._facts: dict[str, list[Facts]] = {}
        # What failed when it was asked last.
        self._failing: set[str] = set()
        # Whom the last look was not answered by.
        self._unanswered: set[str] = set()
        # When the last look began, by the monotonic clock.
        self._began = 0.0
        # What is being asked just now, and when that look began; None between looks.
        self.at: tuple[str, float] | None = None

    def take(self) -> Seen:
        """Look once, and return what all sources see. One that fails costs the others nothing, and
        its sessions stay as they were."""
        try:
            return self._take()
        finally:
            self.at = None

    def _take(self) -> Seen:
        machine = self.machine
        previous_look = machine.last_look
        self._began = time.monotonic()
        if self._succeeds("the list of processes", machine.look):
            for name, source in self._sources.items():
                self._succeeds(f"the source {name}", partial(self._ask, name, source))
        self.at = "session.json", self._began
        start = self._session_json.read(machine)
        self._report_unanswered()
        return Seen(
            facts=[facts for name in self._sources for facts in self._facts.get(name, [])],
            previous_look=previous_look,
            processes=machine.processes,
            all_answered=self._sources.keys() == self._facts.keys(),
            unanswered=machine.unanswered,
            problems=tuple(machine.problems.values()),
            start=start,
        )

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
            if what not in self._failing:
                log.exception("%s failed; its sessions stay as they were", what)
            self._failing.add(what)
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
        self._inbox.put(None)
