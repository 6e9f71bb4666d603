"""An in-memory copy of the store, indexed by login, that follows it by revision.

A request for a list asks the store whether anything was written since, which touches no row if nothing was, and answers from
here: the same question over unchanged sessions is answered with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple

from fastx_list import query as queries
from fastx_list.frames import session_frame
from fastx_list.query import Query
from fastx_list.store import Changes, Record, SnapshotNeeded, Store, StoreError

MAX_PAGES_BYTES = 64 * 1024 * 1024  # of finished answers kept, all logins together
MAX_PAGES = 10_000
RETRY_SECONDS = 1.0  # between attempts to reach a store that could not be reached

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One session: its JSON as UTF-8, and its members, parsed when first needed."""

    id: str
    login: str
    text: bytes

    @cached_property
    def members(self) -> Mapping[str, Any]:
        members: Mapping[str, Any] = json.loads(self.text)
        return members

    @cached_property
    def frame(self) -> bytes:
        """The published WebSocket message about this session, as one frame that all its subscribers share."""
        return session_frame(self.id, self.text)


class Change(NamedTuple):
    """A session's new state, ``None`` once it has ended, and the one before, ``None`` if it is new."""

    id: str
    login: str
    entry: Entry | None
    before: Entry | None


class Page(NamedTuple):
    """A finished answer: a JSON array, how many sessions there were before paging, and a strong entity tag of the array."""

    body: bytes
    total: int
    etag: str


@dataclass
class _Login:
    """The sessions of one login; ``version`` changes with each of them."""

    entries: dict[str, Entry] = field(default_factory=dict)
    version: int = 0


class Replica:
    """Follows one store. May be shared by threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._revision: int | None = None
        self._logins: dict[str, _Login] = {}
        self._entries: dict[str, Entry] = {}
        self._revoked: dict[str, int] = {}
        self._pages: OrderedDict[tuple[str, Query], tuple[int, Page]] = OrderedDict()
        self._pages_bytes = 0
        self._version = 0
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
        ended = [Record(entry.id, entry.login, "", None) for entry in self._entries.values() if entry.id not in running]
        self._revoked.clear()
        return self._take(Changes(snapshot.revision, [*ended, *snapshot.records], snapshot.revoked))

    def _take(self, written: Changes) -> list[Change]:
        changes = list(self._apply(written.records))
        now = time.time()
        self._revoked = {jti: expires for jti, expires in {**self._revoked, **written.revoked}.items() if expires > now}
        self._revision = written.revision
        return changes

    def _apply(self, records: Iterable[Record]) -> Iterator[Change]:
        for record in records:
            before = self._entries.get(record.id)
            entry = None if record.text is None else Entry(record.id, record.login, record.text.encode())
            if entry == before:
                continue
            if before is not None:
                del self._entries[before.id], self._changed(before.login).entries[before.id]
            if entry is not None:
                self._entries[entry.id] = self._changed(entry.login).entries[entry.id] = entry
            for login in {before.login if before else record.login, record.login}:
                if not self._changed(login).entries:
                    del self._logins[login]
            yield Change(record.id, record.login, entry, before)

    def _changed(self, login: str) -> _Login:
        self._version += 1
        state = self._logins.setdefault(login, _Login())
        state.version = self._version
        return state

    def entries(self, login: str) -> Collection[Entry]:
        """Return the sessions of ``login``, in no particular order."""
        state = self._logins.get(login)
        return state.entries.values() if state else ()

    def page(self, login: str, query: Query) -> Page:
        """Return the answer to ``query`` over the sessions of ``login``."""
        state = self._logins.get(login)
        version = state.version if state else 0
        kept = self._pages.get((login, query))
        if kept is not None and kept[0] == version:
            return kept[1]
        with self._lock:
            page = self._make_page(state.entries if state else {}, query)
            self._keep((login, query), version, page)
        return page

    def _make_page(self, entries: Mapping[str, Entry], query: Query) -> Page:
        ordered = queries.order([entry.members for entry in entries.values()], query)
        body = b"[" + b",".join(entries[members["id"]].text for members in queries.page(ordered, query)) + b"]"
        return Page(body, len(ordered), hashlib.blake2b(body + b"%d" % len(ordered), digest_size=12).hexdigest())

    def _keep(self, key: tuple[str, Query], version: int, page: Page) -> None:
        stale = self._pages.pop(key, None)
        self._pages[key] = (version, page)
        self._pages_bytes += len(page.body) - (len(stale[1].body) if stale else 0)
        while len(self._pages) > 1 and (self._pages_bytes > MAX_PAGES_BYTES or len(self._pages) > MAX_PAGES):
            _, (_, dropped) = self._pages.popitem(last=False)
            self._pages_bytes -= len(dropped.body)
