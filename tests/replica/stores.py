"""What the tests of this folder follow: stores, and what is written to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastx_list.model.query import Query
from fastx_list.model.server import Server, encode_server
from fastx_list.model.session import Session, encode
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Change
from fastx_list.replica.view import Entry
from fastx_list.store import Changes, Lease, Revision, Store, StoreError

FAR = 2**40  # seconds since the epoch: a token that outlives the tests
ALL = Query()


class Wrapped:
    """A store that counts the calls of its readers; it cannot be read while ``failing`` says why,
    nor be written by a reader while it ``is_full``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: list[str] = []
        self.failing: str | None = None
        self.is_full = False
        # Called while all is read
        self.reading_takes: Callable[[], None] = lambda: None

    def _count(self, name: str) -> None:
        self.calls.append(name)
        if self.failing is not None:
            raise StoreError(self.failing)

    def read_all(self) -> Generator[None, None, Changes]:
        self._count("read_all")
        self.reading_takes()
        return (yield from self._store.read_all())

    def changes(self, revision: Revision, timeout: float = 0) -> Changes | None:
        self._count("changes")
        return self._store.changes(revision, timeout)

    @property
    def overdue(self) -> Sequence[str]:
        return self._store.overdue

    @property
    def renewed(self) -> Mapping[str, float]:
        return self._store.renewed

    def end_leases(self) -> None:
        if self.is_full:
            raise StoreError("the disk is full")
        self._store.end_leases()

    def observe(self, server_id: str, sessions: Mapping[str, Session]) -> None:
        self._store.observe(server_id, sessions)

    def set_params(self, session_id: str, login: str, patch: Mapping[str, Any]) -> str | None:
        return self._store.set_params(session_id, login, patch)

    def revoke(self, tokens: Mapping[str, int]) -> int:
        if self.is_full:
            raise StoreError("the disk is full")
        return self._store.revoke(tokens)

    def close(self) -> None:
        self._store.close()


def numbered(number: int = 1, login: str = "alice", **facts: Any) -> Session:
    return Session(
        id=f"s{number}", login=login, server_id="server", hostname="host", started=number, **facts
    )


def observe(store: Store, *sessions: Session) -> None:
    store.observe("server", {session.id: session for session in sessions})


def ids_of(replica: Replica[Entry], login: str) -> set[str]:
    return set(replica.entries(login))


def listed(replica: Replica[Entry], login: str, query: Query = ALL) -> list[str]:
    return [members["id"] for members in json.loads(replica.page(login, query).body)]


def entry_of(session: Session, params: Mapping[str, Any] | None = None) -> Entry:
    return Entry(session.id, session.login, encode(session, params or {}).encode())


def remove_database(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def make_server(server_id: str = "server", **facts: Any) -> Entry:
    return Entry(server_id, "", encode_server(_server(server_id, **facts)).encode())


def _server(server_id: str, **facts: Any) -> Server:
    """Return one whose agent has looked."""
    return Server(server_id, "host", **{"last_look": 1, **facts})


def beat(store: Store, server_id: str = "server", **facts: Any) -> None:
    store.heartbeat(_server(server_id, **facts), Lease("agent", "1", "host", 3600))


def by_id(changes: Iterable[Change[Entry]]) -> list[Change[Entry]]:
    return sorted(changes, key=lambda change: change.id)
