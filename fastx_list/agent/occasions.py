"""Tells when to look at the machine sooner than at the next interval, never what there is.

What is missed costs no more than the interval, at which the agent looks anyway. So nothing here
has to be complete, and whoever gives occasion without end is not heard for as long as the looks
for that have taken more than their share.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Iterable, Set
from functools import partial
from pathlib import Path
from typing import TypeVar

from fastx_list.agent.accounts import Account, Accounts
from fastx_list.agent.directories import Directories
from fastx_list.agent.ends import Ends
from fastx_list.agent.look import Seen
from fastx_list.agent.signs import WAITS, Change
from fastx_list.agent.subordinates import Payer, payer
from fastx_list.agent.traffic import Traffic

# Between two times of asking what has happened; and where nothing has for some time.
ASK_SECONDS, ASK_SELDOM_SECONDS, QUIET_SECONDS = 0.05, 0.1, 10.0
MAKING_SECONDS = 0.02  # in which a new X server makes all its sockets, so that one look has them
# Of a core, for looks that are made sooner: for what is one login's, and for all of it.
LOGIN_SECONDS, LOGIN_SHARE = 1.0, 0.03
ALL_SECONDS, ALL_SHARE = 3.0, 0.1

LATE = "what there was no time for"
MAX_AGAIN = 3  # looks, one after the other, for that alone

T = TypeVar("T")
log = logging.getLogger(__name__)


class Occasions:
    """Tells whether something has happened since the last look."""

    def __init__(self, most_processes: int, directories: Iterable[Path] = ()) -> None:
        """The ends of up to ``most_processes`` are told, each of which takes a descriptor, and what
        changes in ``directories``."""
        self._ends = Ends(most_processes)
        self._directories = Directories(directories)
        self._traffic = Traffic()
        # Wakes us at an end, a change of a directory and a new X server, and what it has woken us
        # for; until when a new X server does not, by the monotonic clock.
        self._poll = select.poll()
        for each in (self._ends.descriptor, self._directories.descriptor):
            if each is not None:
                self._poll.register(each, select.POLLIN)
        self._woken: list[tuple[int, int]] = []
        self._deaf_until = 0.0
        # Processor time for looks that are made sooner; None pays where nobody knows whose it is.
        self._accounts = Accounts(LOGIN_SECONDS, LOGIN_SHARE)
        self._all = Account(ALL_SECONDS, ALL_SHARE, time.monotonic())
        # What has happened since the last look, and for which of it one is made sooner.
        self._happened: set[Change] = set()
        self.causes: set[Change] = set()
        # When there was one last, by the monotonic clock.
        self._last_cause = time.monotonic()
        # What had happened when the last look began.
        self._happened_before: set[Change] = set()
        # How many looks before this one were made only for what there was no time for.
        self._again = 0
        # When the last look began, and what it has taken, in seconds of processor time.
        self._began = self._cost = 0.0
        # Whether something has failed, since all was well, for a reason that nobody has thought of.
        self._is_failing = False
        # Why not all can be told, as it was said last.
        self._said: dict[str, str] = {}

    @property
    def made_for(self) -> Set[Payer | None]:
        """The users for whose occasions the next look is made: none if it comes anyway. ``None`` is
        whoever cannot be told."""
        return {_payer(cause) for cause in self.causes}

    def begin(self) -> Set[str]:
        """Begin a look, and return the identities of processes that certainly run now."""
        return self._try(self._begin) or frozenset()

    def follow(self, seen: Seen) -> None:
        """Follow what the look has ``seen``; it and what came of it are done."""
        self._try(partial(self._follow, seen))

    @property
    def users_of_new_servers(self) -> Set[int]:
        """The users who have begun to wait for somebody at a socket."""
        return {each.uid for each in self.causes if each.what == WAITS and each.uid is not None}

    def rest(self, seconds: float) -> None:
        """Wait until it is time to ask what has happened, or something does that wakes us; no
        longer than ``seconds``."""
        now, arrivals = time.monotonic(), self._traffic.descriptor
        is_quiet = now - self._last_cause > QUIET_SECONDS
        most = ASK_SELDOM_SECONDS if is_quiet else ASK_SECONDS
        if arrivals is not None:
            # Not without end by somebody who makes their sockets so
            self._poll.register(arrivals, select.POLLIN if now >= self._deaf_until else 0)
        self._woken = self._poll.poll(min(seconds, most) * 1000)
        if any(descriptor == arrivals for descriptor, _ in self._woken):
            time.sleep(min(seconds, MAKING_SECONDS))
            self._deaf_until = time.monotonic() + ASK_SECONDS

    def is_due(self) -> bool:
        """Return whether to look now, since something has happened."""
        return self._try(self._is_due) or False

    def _try(self, call: Callable[[], T]) -> T | None:
        """Return what ``call`` returns. Whatever fails there, the looks that come anyway go on."""
        try:
            return call()
        except Exception:
            if not self._is_failing:
                log.exception("what happens cannot be followed; will try again")
            self._is_failing = True
            return None

    def _begin(self) -> Set[str]:
        self._traffic.begin()
        self._directories.follow()
        self._directories.changes()  # up to now, which the look sees
        self._happened, self._happened_before = set(), self._happened
        self._began = time.process_time()
        return self._ends.running()

    def _follow(self, seen: Seen) -> None:
        now = time.monotonic()
        self._cost = time.process_time() - self._began
        payers = self.made_for
        for each in payers:
            self._accounts.of(each, now).spend(self._cost / len(payers), now)
        if payers:
            self._all.spend(self._cost, now)
        # What a look was made for is not to wait for the one that comes anyway
        self._again = self._again + 1 if {each.what for each in self.causes} == {LATE} else 0
        if self._again < MAX_AGAIN:
            self._happened |= {Change(LATE, uid) for uid in seen.late if payer(uid) in payers}
        self.causes = set()
        self._happened |= self._ends.follow(seen)
        self._happened |= self._traffic.follow(seen.signs, seen.left_out)
        self._happened |= {each for each in self._happened_before if _payer(each) in seen.left_out}
        self._explain("a new session or client", self._traffic.problem)
        self._explain("the end of a session", self._ends.problem)
        self._explain("a session file", self._directories.problem)

    def _is_due(self) -> bool:
        if self._woken:
            self._happened |= self._ends.changes() | self._directories.changes()
            self._happened |= self._traffic.arrived()
        self._happened |= self._traffic.changes()
        self._is_failing = False
        if not self._happened:
            return False
        now = time.monotonic()
        if self._all.balance(now) < min(self._cost, ALL_SECONDS):
            return False
        least = min(self._cost, LOGIN_SECONDS)
        self.causes = {
            each
            for each in self._happened
            if self._accounts.of(_payer(each), now).balance(now) >= least
        }
        if self.causes:
            self._last_cause = now
            log.debug("looking sooner: %s", ", ".join(sorted(each.what for each in self.causes)))
        return bool(self.causes)

    def close(self) -> None:
        self._ends.close()
        self._directories.close()
        self._traffic.close()

    def _explain(self, what: str, problem: str | None) -> None:
        if problem is not None and self._said.get(what) != problem:
            self._said[what] = problem
            log.info("%s may be told at the next look only: %s", what, problem)


def _payer(change: Change) -> Payer | None:
    return None if change.uid is None else payer(change.uid)
