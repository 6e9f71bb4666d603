"""An in-memory copy of the store, indexed by login, that follows it by revision.

A request for a list asks the store whether anything was written since, which touches no row if nothing was, and answers from
here: the same question over unchanged sessions is answered with the same bytes.
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

from fastx_list.query import Query
from fastx_list.store import Changes, Followed, Record, ServerRecord, SnapshotNeeded, StoreError
from fastx_list.view import Entry, View

MAX_PAGES_BYTES = 64 * 1024 * 1024  # of finished answers kept, all logins together
MAX_PAGES = 10_000
RETRY_SECONDS = 1.0  # between attempts to reach a store that could not be reached

MANY = 8  # more than an eighth of all sessions changed at once are quicker sorted anew than put in place one by one

_NOBODY = View()

log = logging.getLogger(__name__)


class Everything(Enum):
    """What an administrator may ask for: the sessions of all logins, and the servers."""

    SESSIONS = "session"
    SERVERS = "server"


Topic = str | Everything  # the sessions of a login, or everything of a kind


class Change(NamedTuple):
    """The new state of a session, or of a server, ``None`` once it has ended, and the one before, ``None`` if it is new.

    ``topic`` is the session's login, or for a server :attr:`Everything.SERVERS`.
    """

    id: str
    topic: Topic
    entry: Entry | None
    before: Entry | None


class Page(NamedTuple):
    """A finished answer: a JSON array, how many sessions there were before paging, and a strong entity tag of the array."""

    body: bytes
    total: int
    etag: str


class Replica:
    """Follows one store. May be shared by threads."""

    def __init__(self, store: Followed) -> None:
        self._store = store
        self._revision: int | None = None
        self._sessions, self._servers = View(), View()
        self._views: dict[Topic, View] = {Everything.SESSIONS: self._sessions, Everything.SERVERS: self._servers}
        self._revoked: dict[str, int] = {}
        self._pages: OrderedDict[tuple[Topic, Query], tuple[int, Page]] = OrderedDict()
        self._pages_bytes = 0
        self._lock = Lock()
        self._retry_at = 0.0
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

        While the store cannot be reached the last copy stays and :attr:`problem` says why. Raises :class:`StoreError` if there
        is no copy yet.
        """
        with self._lock:
            if self.problem is None or time.monotonic() >= self._retry_at:
                self._follow(0)
        if self._revision is None:
            raise StoreError(self.problem or "the store has not been read yet")

    def follow(self, timeout: float) -> list[Change]:
        """Wait up to ``timeout`` seconds for something to be written, take it over, and return what has changed.

        For one follower, which publishes the changes; everyone else calls :meth:`refresh`.
        """
        return self._follow(timeout)

    def _follow(self, timeout: float) -> list[Change]:
        try:
            if self._revision is None:
                changes = self._restart(self._store.snapshot())
            else:
                try:
                    written = self._store.changes(self._revision, timeout)
                except SnapshotNeeded:
                    changes = self._restart(self._store.snapshot())
                else:
                    changes = [] if written is None else self._take(written)
        except StoreError as error:
            if self.problem is None:
                log.error("%s; going on with the last copy", error)
            self.problem, self._retry_at = str(error), time.monotonic() + RETRY_SECONDS
            return []
        if self.problem is not None:
            log.warning("the store can be read again")
            self.problem = None
        return changes

    def _restart(self, snapshot: Changes) -> list[Change]:
        """Make the copy what ``snapshot`` says; return how it differs from what it was."""
        running = {record.id for record in snapshot.records}
        ended = [Record(entry.id, entry.login, "", None) for entry in self._sessions.entries.values() if entry.id not in running]
        there = {server.id for server in snapshot.servers}
        gone = [ServerRecord(name, None) for name in self._servers.entries if name not in there]
        self._revoked.clear()
        records, servers = [*ended, *snapshot.records], [*gone, *snapshot.servers]
        return self._take(Changes(snapshot.revision, records, snapshot.revoked, servers))

    def _take(self, written: Changes) -> list[Change]:
        changes = [*self._apply(written.records), *self._apply_servers(written.servers)]
        now = time.time()
        self._revoked = {jti: expires for jti, expires in {**self._revoked, **written.revoked}.items() if expires > now}
        self._revision = written.revision
        return changes

    def _apply(self, records: Sequence[Record]) -> Iterator[Change]:
        if len(records) > len(self._sessions.entries) / MANY:
            self._sessions.forget()
        for record in records:
            before = self._sessions.entries.get(record.id)
            entry = None if record.text is None else Entry(record.id, record.login, record.text.encode())
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
            view = self._views.get(topic, _NOBODY).narrow(query.filters)
            kept = self._pages.get((topic, query))
            if kept is not None and kept[0] == view.version:
                return kept[1]
            body = b"[" + b",".join([entry.text for entry in view.page(query)]) + b"]"
            total = len(view.entries)
            page = Page(body, total, hashlib.blake2b(body + b"%d" % total, digest_size=12).hexdigest())
            self._keep((topic, query), view.version, page)
        return page

    def _keep(self, key: tuple[Topic, Query], version: int, page: Page) -> None:
        stale = self._pages.pop(key, None)
        self._pages[key] = (version, page)
        self._pages_bytes += len(page.body) - (len(stale[1].body) if stale else 0)
        while len(self._pages) > 1 and (self._pages_bytes > MAX_PAGES_BYTES or len(self._pages) > MAX_PAGES):
            _, (_, dropped) = self._pages.popitem(last=False)
            self._pages_bytes -= len(dropped.body)
