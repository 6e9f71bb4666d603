"""The embedded store: one SQLite database that several processes on one machine share.

Write-ahead logging lets readers go on while one process writes. ``PRAGMA data_version``
(https://sqlite.org/pragma.html) tells a connection for a few microseconds whether anybody else has
committed since it last asked, so a reader that finds nothing new touches no row, and nothing that
was committed can be missed. A killed process leaves a database as of its last commit.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastx_list.model.json import to_json
from fastx_list.model.params import merge_params
from fastx_list.model.server import Server, encode_server
from fastx_list.model.session import Session, encode
from fastx_list.store import (
    HISTORY_SECONDS,
    REMEMBER_SECONDS,
    Changes,
    Held,
    Lease,
    OrderLost,
    Record,
    ServerTaken,
    SnapshotNeeded,
    sqlite_leases,
)
from fastx_list.store.beats import Beats
from fastx_list.store.records import Records
from fastx_list.store.sqlite_file import BUSY_SECONDS, SqliteFile
from fastx_list.store.sqlite_harm import Kept, remember

POLL_SECONDS = 0.01


class SqliteStore:
    """See :class:`fastx_list.store.Store`. Not for use by several threads at once."""

    def __init__(self, path: Path, *, create: bool = True, mends: bool = False) -> None:
        # Opened when it is used
        self._file = SqliteFile(path, create, self._begin_anew, _make_anew if mends else None)
        self._records = Records(path)  # decodes what is read
        # Which store the last snapshot was of, for a revision means nothing in another one
        self._snapshot_of: tuple[object, ...] | None = None
        # What data_version was when the rows were last read; ``None``: they are to be read again
        self._data_version: int | None = None
        self._last_revision = -1  # the revision that the rows were at then
        self._beats = Beats()  # whose leases are renewed

    def observe(
        self, server_id: str, sessions: Mapping[str, Session], lease: Lease | None = None
    ) -> str:
        with self._write() as db:
            taken_by = sqlite_leases.claim(db, server_id, lease) if lease else None
            edition = self._observe(db, server_id, sessions) if taken_by is None else ""
        if taken_by is not None:
            raise ServerTaken(server_id, taken_by)
        return edition

    def _observe(
        self, db: sqlite3.Connection, server_id: str, sessions: Mapping[str, Session]
    ) -> str:
        sqlite_leases.expire(db, partial(_next_revision, db))
        stored = dict(
            db.execute(
                "SELECT id, digest FROM session WHERE server_id = ? AND ended IS NULL", (server_id,)
            )
        )
        changed = [
            session for name, session in sessions.items() if stored.get(name) != session.digest
        ]
        ended = [name for name in stored if name not in sessions]
        for session in changed:
            self._put(db, session)
        now = int(time.time())
        for session_id in ended:
            db.execute(
                "UPDATE session SET revision = ?, digest = NULL, params = '{}', text = NULL, ended"
                " = ? WHERE id = ?",
                (_next_revision(db), now, session_id),
            )
        _forget(db, now)
        # What did not come back has ended
        db.execute("DELETE FROM remembered WHERE server_id = ?", (server_id,))
        edition = _edition(db, server_id)
        if edition is None or changed or ended:
            edition = secrets.token_hex(8)
            db.execute(
                "INSERT INTO server (id, view) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET view ="
                " excluded.view, ended = NULL",
                (server_id, edition),
            )
        return edition

    def _put(self, db: sqlite3.Connection, session: Session) -> None:
        row = db.execute(
            "SELECT params FROM session WHERE id = ? AND ended IS NULL UNION ALL SELECT params FROM"
            " remembered WHERE id = ?",
            (session.id, session.id),
        ).fetchone()
        kept = self._records.params(session.id, row[0]) if row else None
        params = session.params if kept is None else kept
        db.execute(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                session.id,
                _next_revision(db),
                session.server_id,
                session.login,
                session.digest,
                to_json(params),
                encode(session, params),
            ),
        )

    def edition(self, server_id: str) -> str | None:
        with self._file.reading() as db:
            return _edition(db, server_id)

    def heartbeat(self, server: Server, lease: Lease) -> str | None:
        with self._write() as db:
            taken_by = sqlite_leases.claim(db, server.id, lease)
            if taken_by is None:
                sqlite_leases.expire(db, partial(_next_revision, db))
                db.execute(
                    "UPDATE server SET revision = ?, text = ? WHERE id = ?",
                    (_next_revision(db), encode_server(server), server.id),
                )
                _forget(db, int(time.time()))
            held = sqlite_leases.held(db, server.id)
        if taken_by is not None:
            raise ServerTaken(server.id, taken_by)
        return held.rival if held else None

    def holder(self, server_id: str) -> Held | None:
        with self._file.reading() as db:
            return sqlite_leases.held(db, server_id)

    def recall(self, server_id: str) -> list[Record]:
        with self._file.reading() as db:
            rows = db.execute(
                "SELECT id, text FROM remembered WHERE server_id = ? UNION ALL SELECT id, text FROM"
                " session WHERE server_id = ? AND ended IS NULL",
                (server_id, server_id),
            )
            return [
                record
                for name, text in rows
                if text is not None
                for record in self._records.session(name, text)
            ]

    def set_params(self, session_id: str, login: str, patch: Mapping[str, Any]) -> str | None:
        with self._write() as db:
            row = db.execute(
                "SELECT text FROM session WHERE id = ? AND login = ? AND ended IS NULL",
                (session_id, login),
            ).fetchone()
            record = next(self._records.session(session_id, row[0]), None) if row else None
            if record is None or record.text is None:
                return None
            members = json.loads(record.text)
            params = merge_params(members["params"], patch)
            # As text, for in Python 1 equals true
            if to_json(params) == to_json(members["params"]):
                return record.text
            text = to_json({**members, "params": params})
            db.execute(
                "UPDATE session SET revision = ?, params = ?, text = ? WHERE id = ?",
                (_next_revision(db), to_json(params), text, session_id),
            )
            return text

    def revoke(self, jti: str, expires: int) -> None:
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO revoked VALUES (?, ?, ?)",
                (jti, _next_revision(db), expires),
            )

    def snapshot(self) -> Changes:
        with self._file.reading() as db:
            self._beats.expect_news()
            self._look_at_leases(db)
            version = _data_version(db)
            changes = self._changes_since(db, -1)
            self._data_version, self._snapshot_of = version, self._file.which
            return changes

    def changes(self, revision: int, timeout: float = 0) -> Changes | None:
        deadline = time.monotonic() + timeout
        while True:
            changes = self._new_changes(revision)
            if changes is not None or time.monotonic() >= deadline:
                return changes
            time.sleep(POLL_SECONDS)

    def _new_changes(self, revision: int) -> Changes | None:
        with self._file.reading() as db:
            if self._snapshot_of not in (None, self._file.which):
                raise OrderLost
            self._look_at_leases(db)
            # Asked before the rows are read: a commit between the two is read now and asked about
            # once more, never missed.
            version = _data_version(db)
            if version == self._data_version and revision == self._last_revision:
                return None
            changes = self._changes_since(db, revision)
            self._data_version = version
        return changes if changes.revision > revision else None

    @property
    def overdue(self) -> Sequence[str]:
        return self._beats.overdue

    def end_leases(self) -> None:
        with self._write() as db:
            sqlite_leases.expire(db, partial(_next_revision, db))

    def _look_at_leases(self, db: sqlite3.Connection) -> None:
        """See whose leases are renewed, when it is time to; if one is late, see to its end."""
        if sqlite_leases.clock() < self._beats.next_look:
            return
        self._beats.look(sqlite_leases.renewals(db), sqlite_leases.clock())
        if not self._beats.is_late or not sqlite_leases.is_due(db):
            return
        try:
            db.execute("PRAGMA busy_timeout = 0")  # nobody who reads waits for one who writes
            db.execute("BEGIN IMMEDIATE")
            sqlite_leases.expire(db, partial(_next_revision, db))
            db.execute("COMMIT")
            self._data_version = None
        # On a full disk, say, which takes no new state but can still be read
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
        finally:
            db.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")

    def _changes_since(self, db: sqlite3.Connection, revision: int) -> Changes:
        db.execute("BEGIN")  # one state of all tables
        try:
            current, horizon = db.execute("SELECT revision, horizon FROM meta").fetchone()
            _check_revision(current)
            _check_revision(horizon)
            if revision > current:
                raise OrderLost
            if -1 < revision < horizon:
                raise SnapshotNeeded
            running = "AND ended IS NULL" if revision < 0 else ""
            rows = db.execute(
                f"SELECT id, login, server_id, text FROM session WHERE revision > ? {running} ORDER"
                " BY revision",
                (revision,),
            )
            records = [record for row in rows for record in self._record(*row)]
            rows = db.execute("SELECT jti, expires FROM revoked WHERE revision > ?", (revision,))
            revoked = dict(token for row in rows for token in self._records.revoked(*row))
            rows = db.execute(
                f"SELECT id, text FROM server WHERE revision > ? {running} ORDER BY revision",
                (revision,),
            )
            servers = tuple(record for row in rows for record in self._records.server(*row))
            self._beats.look(sqlite_leases.renewals(db), sqlite_leases.clock())
        finally:
            db.execute("COMMIT")
        self._last_revision = current
        return Changes(current, records, revoked, servers)

    def _record(
        self, name: object, login: object, server_id: object, text: object
    ) -> Iterator[Record]:
        if text is None:
            return self._records.ended(name, login, server_id)
        return self._records.session(name, text)

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._file.writing() as db:
            yield db
        self._data_version = None  # data_version does not count a connection's own commits

    def _begin_anew(self) -> None:
        self._data_version, self._last_revision = None, -1


def _make_anew(path: Path, kept: Kept) -> None:
    """Make a store at ``path`` of what could be read of a damaged one."""
    store, records = SqliteStore(path), Records(path)
    try:
        with store._file.writing() as db:
            remember(db, kept)
        for jti, expires in kept.revoked:
            for token in records.revoked(jti, expires):
                store.revoke(*token)
    finally:
        store.close()


def _data_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def _edition(db: sqlite3.Connection, server_id: str) -> str | None:
    row = db.execute("SELECT view FROM server WHERE id = ?", (server_id,)).fetchone()
    return row[0] if row else None


def _next_revision(db: sqlite3.Connection) -> int:
    return _check_revision(
        db.execute("UPDATE meta SET revision = revision + 1 RETURNING revision").fetchone()[0]
    )


def _check_revision(value: object) -> int:
    # SQLite takes values of all types in any column
    if not isinstance(value, int):
        raise sqlite3.DatabaseError("what its table meta holds is no revision; move the file away")
    return value


def _forget(db: sqlite3.Connection, now: int) -> None:
    """Drop ends and revocations that nobody needs any more, and note how far back the order is now
    complete."""
    before = now - HISTORY_SECONDS
    horizon = db.execute(
        "SELECT max(revision) FROM (SELECT revision FROM session WHERE ended < ? UNION ALL"
        " SELECT revision FROM server WHERE ended < ?)",
        (before, before),
    ).fetchone()[0]
    if horizon is not None:
        db.execute("DELETE FROM session WHERE ended < ?", (before,))
        db.execute("DELETE FROM server WHERE ended < ?", (before,))
        db.execute("UPDATE meta SET horizon = max(horizon, ?)", (horizon,))
    db.execute("DELETE FROM revoked WHERE expires < ?", (now,))
    db.execute("DELETE FROM remembered WHERE since < ?", (now - REMEMBER_SECONDS,))
