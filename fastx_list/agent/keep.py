"""Keeping: the agent's loop, which looks, merges and has the keeper write."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from fastx_list.agent.clock import clock
from fastx_list.agent.facts import Facts, Source
from fastx_list.agent.keeper import Keeper
from fastx_list.agent.limits import Limits
from fastx_list.agent.look import Look, Looker, Seen, Stopped
from fastx_list.agent.merge import Known, Moment, merge, session_id
from fastx_list.agent.occasions import Occasions
from fastx_list.agent.rights import missing, rights
from fastx_list.agent.sources import load_sources
from fastx_list.agent.start import SessionJson
from fastx_list.config import Settings
from fastx_list.store import REFILL_SECONDS, Store
from fastx_list.text import amount, version

LONG_SECONDS = 10.0  # a look that takes so long hangs

log = logging.getLogger(__name__)


class Agent:
    """Looks at this machine, merges what is seen into what is known, and keeps it in the store."""

    def __init__(
        self, settings: Settings, store: Store, sources: Mapping[str, Source] | None = None
    ) -> None:
        self._server_id = settings.server_id
        # Seconds from the beginning of one look to that of the next.
        self._interval = settings.scan_interval
        # When this agent began, and when it looks for everybody next, by the monotonic clock.
        self._began = self._next_for_all = time.monotonic()
        # Looks at the machine.
        self.look = Look(
            load_sources(settings) if sources is None else sources,
            SessionJson(settings.session_json),
            Limits(settings.max_sessions_per_login),
        )
        self._keeper = Keeper(settings, store)
        # What the last look saw, and its facts by the sessions' ids.
        self._seen: Seen | None = None
        self._facts: dict[str, Facts] = {}
        # What is known of the sessions, by their ids; None until the store has been read.
        self._known: dict[str, Known] | None = None
        # For how many seconds a store without us is not written while not all has been seen, and
        # when they are over.
        self._waits = self._writes_from = 0.0
        # The host's name, and when it was booted, as what is known has it.
        self._hostname, self._booted = "", clock.booted
        # Whether what was seen is in what is known, and nothing of it is left to decide.
        self._is_merged = True
        # Whether the last update failed for a reason that nobody has thought of.
        self._is_failing = False
        # What is to be said of a look that hangs.
        self._hanging: str | None = None

    @property
    def problem(self) -> str | None:
        """Why the store could not be read or written at the last scan."""
        return self._keeper.problem

    def run(self, looker: Looker, occasions: Occasions | None = None) -> None:
        """Look at every interval, through ``looker``, until that is stopped; and sooner for
        ``occasions``."""
        self._waits = REFILL_SECONDS
        with suppress(Stopped):
            while True:
                if occasions is not None:
                    self.look.machine.running = occasions.begin()
                    self._say_for_whom(occasions)
                if not self.look.machine.made_for:
                    self._next_for_all = time.monotonic() + self._interval
                looker.start()
                while (seen := looker.wait(min(self._keeper.beat_interval, LONG_SECONDS))) is None:
                    self._update()
                is_first = self._seen is None
                self._take(seen)
                if is_first:
                    self._say_what_it_does()
                if occasions is not None:
                    occasions.follow(seen)
                while self._rest(looker, occasions):
                    self._update()  # a lease may be shorter than what lies between two looks

    def _say_for_whom(self, occasions: Occasions) -> None:
        """Say for whom the next look is made. One that is made for some puts off none that is made
        for everybody, and what that takes keeps nobody waiting whose occasion has come first."""
        machine = self.look.machine
        machine.made_for = occasions.made_for
        machine.users_of_new_servers = occasions.users_of_new_servers

    def _rest(self, looker: Looker, occasions: Occasions | None) -> bool:
        """Wait until it is time for a heartbeat, and return ``True``; or for a look."""
        now = time.monotonic()
        until = min(self._next_for_all, now + self._keeper.beat_interval)
        if occasions is None:
            looker.wait(max(0.0, until - now))
        while occasions is not None and now < until:
            occasions.rest(until - now)
            if looker.is_stopped:
                looker.wait(0.0)
            if occasions.is_due():
                self.look.machine.doubt_tables()
                return False
            now = time.monotonic()
        return time.monotonic() < self._next_for_all

    def _say_what_it_does(self) -> None:
        lacks = missing(rights())
        log.info(
            "fastx-list %s, server %r: %s; looks for %s; %s",
            version() or "of a checkout",
            self._server_id,
            f"lacks {' and '.join(lacks)}" if lacks else "sees all users' sessions in full",
            " ".join(self.look.kinds),
            amount(len(self._facts), "session"),
        )

    def scan(self) -> int:
        """Look once, write what has changed, and return how many sessions there are."""
        self._take(self.look.take())
        return len(self._facts)

    def _take(self, seen: Seen) -> None:
        # As a rule they are the same objects, which compare in no time.
        if self._seen is None or seen.facts != self._seen.facts:
            self._is_merged = False
            self._facts = {session_id(self._server_id, each.identity): each for each in seen.facts}
        self._seen = seen
        self._update()

    def _update(self) -> None:
        """Bring what is known, and the store, up to date with what was seen. Whatever fails there
        is tried again, and does not end the agent."""
        try:
            self._merge_and_keep()
            self._is_failing = False
        except Exception:
            if not self._is_failing:
                log.exception("what was seen cannot be kept; will try again")
            self._is_failing = True

    def _merge_and_keep(self) -> None:
        if self._known is None:
            recalled = self._keeper.recall()
            if recalled is None:
                return
            self._known = {name: Known(None, session) for name, session in recalled.items()}
            self._writes_from = time.monotonic() + self._waits
        # A store that has nothing of us may be one that has lost it, and of what runs not all was
        # seen yet: to leave that out would end it for readers, who wait for us, but not for longer
        has_seen_all = self._seen is not None and self._seen.all_answered
        if not (has_seen_all or time.monotonic() >= self._writes_from or self._keeper.is_known()):
            return
        has_changed, hostname, booted = False, socket.gethostname(), clock.read()
        if (hostname, booted) != (self._hostname, self._booted):
            self._hostname, self._is_merged = hostname, False
        # Of a clock that was set since then the next look has the moments
        if self._seen is not None and self._seen.booted == booted and not self._is_merged:
            moment = self._moment(self._seen, booted - self._booted)
            self._booted = booted
            merged = merge(self._known, self._facts, moment, self._keep_lease)
            for refused, reason in merged.refused.items():
                self.look.machine.explain(f"session {refused!r}", f"skipped: {reason}")
            self._known, has_changed = merged.known, merged.has_changed
            lacks_start = any(each.lacks_start for each in merged.known.values())
            self._is_merged = not (
                moment.is_early or moment.unanswered or moment.unread or lacks_start
            )
        self._keep(has_changed)

    def _keep(self, has_changed: bool) -> None:
        """Write what is known."""
        assert self._known is not None
        problems, looked = (self._seen.problems, self._seen.looked) if self._seen else ((), None)
        sessions = {name: each.session for name, each in self._known.items()}
        problems = (*self._hangs(), *problems)
        self._keeper.keep(self._hostname, sessions, has_changed, problems, looked)

    def _keep_lease(self) -> None:
        """Renew the lease with what was known before, when it is time to."""
        if self._keeper.is_due:
            self._keep(False)

    def _hangs(self) -> list[str]:
        """Return what there is to say of a look that hangs, and log when that changes."""
        at, hanging = self.look.at, None
        if at is not None and (took := time.monotonic() - at[1]) > LONG_SECONDS:
            since = time.strftime("%H:%M", time.localtime(time.time() - took))
            hanging = f"has not finished a look since {since} ({at[0]})"
        if hanging != self._hanging:
            if hanging is not None:
                log.error("the agent %s; the sessions stay as they were", hanging)
            else:
                log.warning("the look that hung is over")
            self._hanging = hanging
        return [hanging] if hanging is not None else []

    def _moment(self, seen: Seen, set_by: float) -> Moment:
        return Moment(
            server_id=self._server_id,
            hostname=self._hostname,
            now=round(time.time() * 1000),
            set_by=round(set_by * 1000),
            previous_look=None if seen.previous_look is None else seen.previous_look + set_by,
            age=time.monotonic() - self._began,
            all_answered=seen.all_answered,
            processes=seen.processes,
            unanswered=seen.unanswered,
            unread=seen.unread,
            start=lambda: seen.start,
            kinds=seen.kinds,
        )
