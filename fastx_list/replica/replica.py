"""A copy in memory of what the store holds, which follows the store by revision.

Before each answer the store is asked whether anything was written, which reads no row if nothing
was. Only what was written is read.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from threading import Lock
from typing import Generic

from fastx_list.model.query import Query
from fastx_list.model.server import first_part
from fastx_list.model.session import published_part
from fastx_list.replica.doubt import RETRY_SECONDS, Refill, is_silent
from fastx_list.replica.many import kept_at_once
from fastx_list.replica.owed import Owed, in_a_thread
from fastx_list.replica.pages import Page, Pages
from fastx_list.replica.reading import Reading
from fastx_list.replica.topics import Change, Everything, Topic
from fastx_list.replica.trail import Trail
from fastx_list.replica.view import E, View
from fastx_list.store import (
    AT_ONCE,
    REFILL_SECONDS,
    Changes,
    Followed,
    OrderLost,
    Record,
    Revision,
    ServerRecord,
    SnapshotNeeded,
    StoreError,
)

CATCH_UP_SECONDS = 0.1  # that one request may read what others have written

log = logging.getLogger(__name__)


class Replica(Generic[E]):
    """Follows one store. May be shared by threads."""

    def __init__(
        self,
        store: Followed,
        entry: type[E],
        apart: Callable[[Callable[[], None]], object] = in_a_thread,
        hides_ours: bool = False,
    ) -> None:
        """``entry`` is the class of the entries that it holds; ``apart`` runs what takes long in a
        thread of its own. With ``hides_ours`` sessions have the published members alone."""
        # Why this may not be what the store should say now; None while it is
        self.problem: str | None = None
        # By the monotonic clock, when this copy was last what the store said, and when it was asked
        self.right_at = self._looked = -math.inf
        # After which step what has changed
        self.trail = Trail()
        # What it follows
        self._store = store
        # Makes an entry of each session and server
        self._entry = entry
        # Make of a session's and of a server's JSON what is told of it
        self._told: Callable[[str], str] = published_part if hides_ours else str
        self._told_of_server: Callable[[str], str] = first_part if hides_ours else str
        # Up to where the store has been read; None before it was read for the first time
        self._revision: Revision | None = None
        # All sessions, and all servers
        self._sessions: View[E] = View()
        self._servers: View[E] = View()
        # By topic: these two, and the sessions of each login that has any
        self._views: dict[Topic, View[E]] = {
            Everything.SESSIONS: self._sessions,
            Everything.SERVERS: self._servers,
        }
        # That of logins without sessions
        self._empty: View[E] = View()
        # The ids of revoked tokens, with when they expire, in seconds since the epoch
        self._revoked: dict[str, int] = {}
        # Those of them that the store has lost
        self._owed = Owed(store, apart)
        # What was read of sessions and not taken over yet, up to where the store has been read once
        # it is, and whether more was written than that
        self._rest: Sequence[Record] = ()
        self._goal: Revision | None = None
        self._more = False
        # What is read of all that there is; None while there is no need to
        self._reading: Reading | None = None
        self._pages = Pages()
        # Held by who reads the store or makes a page for a request
        self._lock = Lock()
        # When to try again to read a store that could not be read
        self._next_attempt = 0.0
        # How long it waits after the next failure, in seconds
        self._pause = RETRY_SECONDS
        # The time in which a store that has lost what it had is written again; None if it has not,
        # or if that is over
        self._refill: Refill | None = None
        # When the store was begun, if it was new when it was first read: whose servers are missing
        # then nobody knows
        self._begun: float | None = None

    @property
    def revoked(self) -> Collection[str]:
        """The ids of the tokens that are revoked."""
        return self._revoked.keys()

    @property
    def pause(self) -> float:
        """For how many seconds a store that could not be read is better left alone; not positive
        if it can be read."""
        return self._next_attempt - time.monotonic() if self._next_attempt else 0.0

    @property
    def loaded(self) -> bool:
        """Whether the store has been read at least once."""
        return self._revision is not None

    def entries(self, topic: Topic) -> Mapping[str, E]:
        """Return what there is of ``topic`` by id, in the order in which it last changed."""
        return self._views.get(topic, self._empty).entries

    def takes_long(self, topic: Topic, query: Query) -> bool:
        """Whether the answer to ``query`` over ``topic`` is better prepared in parts."""
        return self._views.get(topic, self._empty).takes_long(query)

    def prepare(self, topic: Topic, query: Query) -> Iterator[None]:
        """Work out in parts what :meth:`page` needs; between them this may be asked and may follow
        the store, by the same thread."""
        return self._views.get(topic, self._empty).prepare(query)

    def page(self, topic: Topic, query: Query) -> Page:
        """Return the answer to ``query`` over ``topic``."""
        with self._lock:
            return self._pages.page(topic, self._views.get(topic, self._empty), query)

    def refresh(self, since: float = math.inf) -> None:
        """Take over what was written to the store, at least until ``since`` (``time.monotonic()``).

        While the store cannot be reached the last copy stays and :attr:`problem` says why. So it
        does when a server's lease has run out and its end cannot be carried out: then nobody can
        tell whether its sessions run. Raises :class:`StoreError` if there is no copy yet.
        """
        with self._lock:
            if (self._looked < since or self.is_behind) and self.pause <= 0:
                self._catch_up()
        if self._revision is None:
            raise StoreError(self.problem)

    @property
    def is_behind(self) -> bool:
        """Whether there is more to take over, without waiting for it."""
        return self._more or bool(self._rest) or self._reading is not None

    @property
    def is_read_anew(self) -> bool:
        """Whether the store has lost what it had, or all of it is being read: others may have taken
        over already what this copy is yet to say."""
        return self._refill is not None or self._reading is not None

    def _catch_up(self) -> None:
        give_up = time.monotonic() + CATCH_UP_SECONDS
        while True:
            reads = not self._rest
            self._follow(0)
            if self.pause > 0 or (reads and not self.is_behind):
                return
            # The last part may be of a reading long ago; who has no copy yet has no answer either
            if time.monotonic() >= give_up and self.loaded:
                self._note("more was written to the store than could be read yet")
                return

    def follow(self, timeout: float) -> list[Change[E]]:
        """Wait up to ``timeout`` seconds for something to be written, take it over, and return what
        has changed. Of very much that is the first part, and the next call returns more at once.

        For one follower, which publishes the changes; everyone else calls :meth:`refresh`.
        """
        return list(self._follow(timeout))

    def _follow(self, timeout: float) -> Iterable[Change[E]]:
        self._owed.pay()
        reads, began = not self._rest, time.monotonic()
        try:
            changes = self._read(timeout) if reads else self._take_part()
        except StoreError as error:
            self._next_attempt = time.monotonic() + self._pause
            self._pause = RETRY_SECONDS
            self._note(str(error))
            return []
        self._next_attempt = 0.0
        if reads and self._reading is None:
            self._looked, self.right_at = began, time.monotonic()
        problem = self._doubt()
        if problem is not None or (self.problem is not None and not self.is_behind):
            self._note(problem)
        return changes

    def _read(self, timeout: float) -> Iterable[Change[E]]:
        if self._revision is not None and self._refill is None and self._reading is None:
            try:
                written = self._store.changes(self._revision, timeout)
                if written is not None and self.trail.has_lost(written.steps):
                    raise OrderLost
            except SnapshotNeeded as reason:
                self._doubt_store(reason)
                self._read_anew()
            else:
                self._more = written is not None and written.more
                return [] if written is None else self._take_over(written)
        return self._start_over()

    def _read_anew(self) -> Reading:
        self._reading = Reading(self._store, self._doubt_store)
        return self._reading

    def _doubt_store(self, reason: SnapshotNeeded) -> None:
        if isinstance(reason, OrderLost) and self._revision is not None:
            self._refill = Refill()

    def _doubt(self) -> str | None:
        """Return why what could be read may not be what there is."""
        if self._store.overdue:
            return is_silent(self._store.overdue)
        if self._begun is not None:
            if time.monotonic() - self._begun < REFILL_SECONDS:
                return "the store has just been begun, and agents may not have written it yet"
            try:
                self._store.end_leases()
            except StoreError as error:  # nor can agents write it: their time begins once they can
                self._begun = time.monotonic()
                return f"the store has just been begun, and agents cannot write it: {error}"
            self._begun = None
        return None

    def _note(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            log.error("%s; going on with the last copy", problem)
        elif problem is None:
            log.warning("the store is up to date again")
        self.problem = problem

    def _start_over(self) -> Iterable[Change[E]]:
        """Read some more of all that the store has. Once that is read, make the copy what it says;
        return how it differs from what it was.

        Of a store that has lost what it had only this copy knows which tokens are revoked, and for
        a moment its servers. Raises :class:`StoreError` until they have come back, or that moment
        is over.
        """
        reading = self._reading or self._read_anew()
        try:
            snapshot = reading.go_on()
        except StoreError:
            self._reading = None
            if self._refill is not None:
                self._refill.begin_again()
            raise
        if snapshot is None:
            return []
        self._reading, took = None, reading.took
        if self._refill is None and self.trail.has_lost(snapshot.steps):
            self._refill = Refill()
        there = {server.id for server in snapshot.servers}
        if self._revision is None and snapshot.age < REFILL_SECONDS:
            self._begun = time.monotonic() - snapshot.age
        # A store that has lost what it had may also look like one that no longer keeps our step
        lost = {jti: end for jti, end in self._revoked.items() if jti not in snapshot.revoked}
        self._owed.add({jti: end for jti, end in lost.items() if end >= snapshot.kept_from})
        if self._refill is not None:
            copy = self._servers.entries.keys(), self._sessions.entries, self.right_at
            pause = self._refill.pause(self._store, snapshot, *copy, self._told, took)
            if pause is not None:
                self._pause = pause
                raise StoreError(
                    "the store has lost what it had, and agents have not written it again yet"
                )
            self._refill = None
            self.trail.restart(snapshot.steps)
        self._more = False
        self.trail.pass_by(snapshot.steps)
        running = {record.id for record in snapshot.records}
        known = self._sessions.entries.values()
        ended = [Record(each.id, each.login, "", None) for each in known if each.id not in running]
        gone = [ServerRecord(name, None) for name in self._servers.entries if name not in there]
        records, servers = [*ended, *snapshot.records], [*gone, *snapshot.servers]
        steps = [snapshot.revision.step]
        return self._take_over(replace(snapshot, records=records, servers=servers, steps=steps))

    def _fill(self) -> Iterable[Change[E]]:
        """Take over all sessions that there are: none is known yet."""
        logins: dict[str, list[E]] = {}
        with kept_at_once():
            for name, login, _, text in self._rest:
                if text is not None:
                    entry = self._entry(name, login, self._told(text).encode())
                    logins.setdefault(login, []).append(entry)
            self._sessions = View(entry for entries in logins.values() for entry in entries)
            self._views |= {login: View(entries) for login, entries in logins.items()}
            self._views[Everything.SESSIONS] = self._sessions
        self._rest = ()
        self._end_reading()
        return (Change(each.id, each.login, each, None) for each in self._sessions.entries.values())

    def _take_part(self) -> list[Change[E]]:
        """Take over some of the sessions that wait for it."""
        part, self._rest = self._rest[:AT_ONCE], self._rest[AT_ONCE:]
        changes = list(self._change_sessions(part))
        if not self._rest:
            self._end_reading()
        return changes

    def _end_reading(self) -> None:
        self._revision = self._goal
        if not self._more:  # else it is not what the store was like at one moment
            self.trail.end()

    def _take_over(self, written: Changes) -> Iterable[Change[E]]:
        self._rest, self._goal = written.records, written.revision
        self.trail.read(written.steps)
        servers = list(self._change_servers(written.servers))
        changes: Iterable[Change[E]] = self._fill() if self._revision is None else self._take_part()
        self._owed.has(written.revoked, written.kept_from)
        if written.revoked:
            # The store judges, which has seen for how long its clock said so
            revoked = {**self._revoked, **written.revoked}.items()
            self._revoked = {jti: end for jti, end in revoked if end >= written.kept_from}
        return chain(changes, servers)

    def _change_sessions(self, records: Iterable[Record]) -> Iterator[Change[E]]:
        for record in records:
            before = self._sessions.entries.get(record.id)
            text = None if record.text is None else self._told(record.text)
            entry = self._make_entry(record.id, record.login, text)
            if before == entry and not self.trail.takes_several:
                continue
            self._sessions.update(before, entry)
            if before is not None and before.login != record.login:
                self._update_login(before.login, before, None)
                self._update_login(record.login, None, entry)
            else:
                self._update_login(record.login, before, entry)
            change = self.trail.noted(Change(record.id, record.login, entry, before))
            if before != entry:
                yield change

    def _make_entry(self, name: str, login: str, text: str | None) -> E | None:
        return None if text is None else self._entry(name, login, text.encode(), self.trail.place)

    def _update_login(self, login: str, before: E | None, entry: E | None) -> None:
        view = self._views.get(login)
        if view is None:
            view = self._views[login] = View()
        view.update(before, entry)
        if not view.entries:
            del self._views[login]
            self._pages.forget(view)

    def _change_servers(self, records: Iterable[ServerRecord]) -> Iterator[Change[E]]:
        for name, text in records:
            before = self._servers.entries.get(name)
            entry = self._make_entry(name, "", text and self._told_of_server(text))
            if before == entry and not self.trail.takes_several:
                continue
            self._servers.update(before, entry)
            change = self.trail.noted(Change(name, Everything.SERVERS, entry, before))
            if before != entry:
                yield change
