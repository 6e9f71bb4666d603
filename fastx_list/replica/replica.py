"""An in-memory copy of the store, indexed by login, that follows it by revision.

A request for a list asks the store whether anything was written since, which touches no row if
nothing was, and answers from here: the same question over unchanged sessions is answered with the
same bytes.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from threading import Lock
from typing import NamedTuple

from fastx_list.model.query import Query
from fastx_list.replica.view import Entry, View
from fastx_list.store import (
    Changes,
    Followed,
    OrderLost,
    Record,
    ServerRecord,
    SnapshotNeeded,
    StoreError,
)

# Of finished answers kept with their questions, all logins together
MAX_PAGES_BYTES = 64 * 1024 * 1024
MAX_PAGES = 10_000
RETRY_SECONDS = 1.0  # between attempts to reach a store that could not be reached
REFILL_SECONDS = 10.0  # that servers have to come back to a store that has lost what it had

# More than an eighth of all sessions changed at once are quicker sorted anew than put in place one
# by one
MANY = 8

_NOBODY = View()

log = logging.getLogger(__name__)


class Everything(Enum):
    """What an administrator may ask for: the sessions of all logins, and the servers."""

    SESSIONS = "session"
    SERVERS = "server"


Topic = str | Everything  # the sessions of a login, or everything of a kind


class Change(NamedTuple):
    """The new state of a session, or of a server, ``None`` once it has ended, and the one before,
    ``None`` if it is new.

    ``topic`` is the session's login, or for a server :attr:`Everything.SERVERS`.
    """

    id: str
    topic: Topic
    entry: Entry | None
    before: Entry | None


class Page(NamedTuple):
    """A finished answer: a JSON array, how many sessions there were before paging, and a strong
    entity tag of the array."""

    body: bytes
    total: int
    etag: str


class _Kept(NamedTuple):
    """A page; the versions of the view that it shows, and of the one that was narrowed to that;
    about how many bytes it takes."""

    page: Page
    version: int
    of_all: int
    size: int


class Replica:
    """Follows one store. May be shared by threads."""

    def __init__(self, store: Followed) -> None:
        self._store = store
        self._revision: int | None = None
        self._sessions, self._servers = View(), View()
        self._views: dict[Topic, View] = {
            Everything.SESSIONS: self._sessions,
            Everything.SERVERS: self._servers,
        }
        self._revoked: dict[str, int] = {}
        self._pages: OrderedDict[tuple[Topic, Query], _Kept] = OrderedDict()
        self._pages_bytes = 0
        self._lock = Lock()
        self._retry_at, self._pause = 0.0, RETRY_SECONDS
        self._lost_at: float | None = None  # since when the store knows less than this copy
        self.problem: str | None = None

    @property
    def revoked(self) -> Collection[str]:
        """The ids of the tokens that are revoked."""
        return self._revoked.keys()

    @property
    def loaded(self) -> bool:
        """Whether the store has been read at least once."""
        return self._revision is not None

    def refresh(self) -> None:
        """Take over what was written to the store since the last time.

        While the store cannot be reached the last copy stays and :attr:`problem` says why. Raises
        :class:`StoreError` if there is no copy yet.
        """
        with self._lock:
            if self.problem is None or time.monotonic() >= self._retry_at:
                self._follow(0)
        if self._revision is None:
            raise StoreError(self.problem or "the store has not been read yet")

    def follow(self, timeout: float) -> list[Change]:
        """Wait up to ``timeout`` seconds for something to be written, take it over, and return what
        has changed.

        For one follower, which publishes the changes; everyone else calls :meth:`refresh`.
        """
        return self._follow(timeout)

    def _follow(self, timeout: float) -> list[Change]:
        try:
            if self._revision is None or self._lost_at is not None:
                changes = self._start_over()
            else:
                try:
                    written = self._store.changes(self._revision, timeout)
                except SnapshotNeeded as reason:
                    self._lost_at = time.monotonic() if isinstance(reason, OrderLost) else None
                    changes = self._start_over()
                else:
                    changes = [] if written is None else self._take(written)
        except StoreError as error:
            if self.problem is None:
                log.error("%s; going on with the last copy", error)
            self.problem, self._retry_at = str(error), time.monotonic() + self._pause
            self._pause = RETRY_SECONDS
            return []
        if self.problem is not None:
            log.warning("the store can be read again")
            self.problem = None
        return changes

    def _start_over(self) -> list[Change]:
        """Make the copy what the store says now; return how it differs from what it was.

        Of a store that has lost what it had only this copy knows which tokens are revoked, and for
        a moment its servers. Raises :class:`StoreError` until they have come back, or that moment
        is over.
        """
        began = time.monotonic()
        try:
            snapshot = self._store.snapshot()
        except StoreError:
            if self._lost_at is not None:
                self._lost_at = time.monotonic()  # agents cannot write either
            raise
        there = {server.id for server in snapshot.servers}
        if self._lost_at is not None:
            self._revoke_again(snapshot.revoked)
            if (
                self._servers.entries.keys() - there
                and time.monotonic() - self._lost_at < REFILL_SECONDS
            ):
                self._pause = max(RETRY_SECONDS, 10 * (time.monotonic() - began))
                raise StoreError(
                    "the store has lost what it had, and agents have not written it again yet"
                )
            self._lost_at = None
        running = {record.id for record in snapshot.records}
        ended = [
            Record(entry.id, entry.login, "", None)
            for entry in self._sessions.entries.values()
            if entry.id not in running
        ]
        gone = [ServerRecord(name, None) for name in self._servers.entries if name not in there]
        records, servers = [*ended, *snapshot.records], [*gone, *snapshot.servers]
        return self._take(Changes(snapshot.revision, records, snapshot.revoked, servers))

    def _revoke_again(self, revoked: Collection[str]) -> None:
        for jti in self._revoked.keys() - revoked:
            try:
                self._store.revoke(jti, self._revoked[jti])
            except StoreError as error:  # a full disk, say; here it stays revoked
                log.error("a revoked token could not be written to the store again: %s", error)

    def _take(self, written: Changes) -> list[Change]:
        changes = [*self._apply(written.records), *self._apply_servers(written.servers)]
        now = time.time()
        self._revoked = {
            jti: expires
            for jti, expires in {**self._revoked, **written.revoked}.items()
            if expires > now
        }
        self._revision = written.revision
        return changes

    def _apply(self, records: Sequence[Record]) -> Iterator[Change]:
        if len(records) > len(self._sessions.entries) / MANY:
            self._sessions.forget()
        for record in records:
            before = self._sessions.entries.get(record.id)
            entry = (
                None
                if record.text is None
                else Entry(record.id, record.login, record.text.encode())
            )
            if entry == before:
                continue
            self._sessions.update(before, entry)
            if before is not None and before.login != record.login:
                self._update_login(before.login, before, None)
                self._update_login(record.login, None, entry)
            else:
                self._update_login(record.login, before, entry)
            yield Change(record.id, record.login, entry, before)

    def _update_login(self, login: str, before: Entry | None, entry: Entry | None) -> None:
        view = self._views.setdefault(login, View())
        view.update(before, entry)
        if not view.entries:
            del self._views[login]

    def _apply_servers(self, records: Iterable[ServerRecord]) -> Iterator[Change]:
        for record in records:
            before = self._servers.entries.get(record.id)
            entry = None if record.text is None else Entry(record.id, "", record.text.encode())
            if entry != before:
                self._servers.update(before, entry)
                yield Change(record.id, Everything.SERVERS, entry, before)

    def entries(self, topic: Topic) -> Mapping[str, Entry]:
        """Return the present sessions or servers of ``topic`` by id, in no particular order."""
        return self._views.get(topic, _NOBODY).entries

    def page(self, topic: Topic, query: Query) -> Page:
        """Return the answer to ``query`` over ``topic``."""
        with self._lock:
            all_of_it = self._views.get(topic, _NOBODY)
            kept = self._pages.get((topic, query))
            if kept is not None and kept.of_all == all_of_it.version:
                return kept.page
            view = all_of_it.narrow(query.filters)
            if kept is not None and kept.version == view.version:
                self._pages[topic, query] = kept._replace(of_all=all_of_it.version)
                return kept.page
            body = b"[" + b",".join([entry.text for entry in view.page(query)]) + b"]"
            total = len(view.entries)
            page = Page(
                body, total, hashlib.blake2b(body + b"%d" % total, digest_size=12).hexdigest()
            )
            self._keep(
                (topic, query), _Kept(page, view.version, all_of_it.version, len(body) + query.size)
            )
        return page

    def _keep(self, key: tuple[Topic, Query], kept: _Kept) -> None:
        stale = self._pages.pop(key, None)
        self._pages[key] = kept
        self._pages_bytes += kept.size - (stale.size if stale else 0)
        while len(self._pages) > 1 and (
            self._pages_bytes > MAX_PAGES_BYTES or len(self._pages) > MAX_PAGES
        ):
            _, dropped = self._pages.popitem(last=False)
            self._pages_bytes -= dropped.size
