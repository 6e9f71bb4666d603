"""The embedded store: one SQLite database that several processes on one machine share.

Write-ahead logging lets readers go on while one process writes. ``PRAGMA data_version`` (https://sqlite.org/pragma.html) tells a
connection for a few microseconds whether anybody else has committed since it last asked, so a reader that finds nothing new
touches no row, and nothing that was committed can be missed. A killed process leaves a database as of its last commit.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastx_list.session import Session, encode, merge_params, to_json
from fastx_list.state import give_to_owner_of, make_state_dir
from fastx_list.store import HISTORY_SECONDS, Changes, Record, SnapshotNeeded, StoreError

POLL_SECONDS = 0.01
BUSY_SECONDS = 5.0
VERSION = 1

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS meta (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, horizon INTEGER NOT NULL,
    store TEXT NOT NULL);
INSERT OR IGNORE INTO meta VALUES (1, 0, 0, hex(randomblob(16)));
CREATE TABLE IF NOT EXISTS session (
    id TEXT PRIMARY KEY, revision INTEGER NOT NULL UNIQUE, server_id TEXT NOT NULL, login TEXT NOT NULL,
    digest TEXT, params TEXT NOT NULL, text TEXT, ended INTEGER
);
CREATE INDEX IF NOT EXISTS session_ended ON session (ended) WHERE ended IS NOT NULL;
CREATE INDEX IF NOT EXISTS session_server ON session (server_id) WHERE ended IS NULL;
CREATE TABLE IF NOT EXISTS revoked (jti TEXT PRIMARY KEY, revision INTEGER NOT NULL UNIQUE, expires INTEGER NOT NULL);
PRAGMA user_version = {VERSION};
COMMIT;
"""


def database_path(url: str) -> Path:
    """Return the file that ``sqlite:///PATH`` names."""
    return Path(url.removeprefix("sqlite://").replace("/", "", 1))


class SqliteStore:
    """See :class:`fastx_list.store.Store`. Not for use by several threads at once."""

    def __init__(self, url: str, *, create: bool = True) -> None:
        self._path = database_path(url)
        self._create = create
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        # Which file is open and the random name in it; and those that the last snapshot was of, for a revision means nothing
        # in another store, nor in the same one once it was restored from an older copy.
        self._which: tuple[object, ...] | None = None
        self._followed: tuple[object, ...] | None = None
        self._data_version: int | None = None
        self._seen_revision = -1

    def observe(self, server_id: str, sessions: Mapping[str, Session]) -> None:
        with self._write() as db:
            known = dict(db.execute("SELECT id, digest FROM session WHERE server_id = ? AND ended IS NULL", (server_id,)))
            for session_id, session in sessions.items():
                if known.pop(session_id, None) != session.digest:
                    self._put(db, session)
            now = int(time.time())
            for session_id in known:
                db.execute(
                    "UPDATE session SET revision = ?, digest = NULL, params = '{}', text = NULL, ended = ? WHERE id = ?",
                    (_next_revision(db), now, session_id),
                )
            _forget(db, now)

    def _put(self, db: sqlite3.Connection, session: Session) -> None:
        row = db.execute("SELECT params FROM session WHERE id = ? AND ended IS NULL", (session.id,)).fetchone()
        params = json.loads(row[0]) if row else session.params
        db.execute(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (session.id, _next_revision(db), session.server_id, session.login, session.digest, to_json(params),
             encode(session, params)),
        )

    def set_params(self, session_id: str, login: str, patch: Mapping[str, Any]) -> str | None:
        with self._write() as db:
            row = db.execute(
                "SELECT params, text FROM session WHERE id = ? AND login = ? AND ended IS NULL", (session_id, login)
            ).fetchone()
            if row is None:
                return None
            old = json.loads(row[0])
            params = merge_params(old, patch)
            if to_json(params) == row[0]:  # as text, for in Python 1 equals true
                return str(row[1])
            text = to_json({**json.loads(row[1]), "params": params})
            db.execute(
                "UPDATE session SET revision = ?, params = ?, text = ? WHERE id = ?",
                (_next_revision(db), to_json(params), text, session_id),
            )
            return text

    def revoke(self, jti: str, expires: int) -> None:
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO revoked VALUES (?, ?, ?)", (jti, _next_revision(db), expires))

    def snapshot(self) -> Changes:
        with self._read() as db:
            version = _data_version(db)
            changes = self._changes_since(db, -1)
            self._data_version, self._followed = version, self._which
            return changes

    def changes(self, revision: int, timeout: float = 0) -> Changes | None:
        deadline = time.monotonic() + timeout
        while True:
            changes = self._new_changes(revision)
            if changes is not None or time.monotonic() >= deadline:
                return changes
            time.sleep(POLL_SECONDS)

    def _new_changes(self, revision: int) -> Changes | None:
        with self._read() as db:
            if self._followed not in (None, self._which):
                raise SnapshotNeeded
            # Asked before the rows are read: a commit between the two is read now and asked about once more, never missed.
            version = _data_version(db)
            if version == self._data_version and revision == self._seen_revision:
                return None
            changes = self._changes_since(db, revision)
            self._data_version = version
        return changes if changes.revision > revision else None

    def _changes_since(self, db: sqlite3.Connection, revision: int) -> Changes:
        db.execute("BEGIN")  # one view of all tables
        try:
            current, horizon = db.execute("SELECT revision, horizon FROM meta").fetchone()
            if -1 < revision < horizon or revision > current:  # ahead of the store: it was made anew
                raise SnapshotNeeded
            running = "AND ended IS NULL" if revision < 0 else ""
            rows = db.execute(
                f"SELECT id, login, server_id, text FROM session WHERE revision > ? {running} ORDER BY revision", (revision,)
            )
            records = [Record(*row) for row in rows]
            revoked = dict(db.execute("SELECT jti, expires FROM revoked WHERE revision > ?", (revision,)))
        finally:
            db.execute("COMMIT")
        self._seen_revision = current
        return Changes(current, records, revoked)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._open()
        except (sqlite3.Error, OSError) as error:
            self.close()  # a replaced or repaired file is found again by opening it again
            raise StoreError(f"the store {self._path} cannot be read: {error}") from error

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:  # a full disk may have rolled it back already
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreError(f"the store {self._path} cannot be written: {error}") from error
        self._data_version = None  # data_version does not count a connection's own commits

    def _open(self) -> sqlite3.Connection:
        """Return the connection, a new one if there is none yet or if the file is no longer the one that was opened."""
        identity = _identity(self._path)
        if self._connection is not None and identity == self._file:
            return self._connection
        self.close()
        if identity is None:
            if not self._create:
                raise StoreError(f"there is no store at {self._path} yet; start one with: fastx-list up, or fastx-list agent")
            make_state_dir(self._path.parent)
            # SQLite gives its -wal and -shm files the mode and, for root, the owner of the database.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            give_to_owner_of(self._path.parent, self._path)
        # One thread at a time uses a connection, though not always the same one.
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise StoreError(f"the store {self._path} was made by a newer fastx-list; install that, or use another store")
            if version < VERSION:
                _use_write_ahead_log(db)
                db.executescript(_SCHEMA)
            self._file = _identity(self._path)
            self._which = (self._file, db.execute("SELECT store FROM meta").fetchone()[0])
            db.execute("PRAGMA synchronous = FULL")  # with WAL, anything less may lose the last commits in a power failure
        except BaseException:
            db.close()
            raise
        self._connection, self._data_version, self._seen_revision = db, None, -1
        return db


def _use_write_ahead_log(db: sqlite3.Connection) -> None:
    # Unlike other statements this one does not wait for a process that is just doing the same.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _data_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def _next_revision(db: sqlite3.Connection) -> int:
    return int(db.execute("UPDATE meta SET revision = revision + 1 RETURNING revision").fetchone()[0])


def _forget(db: sqlite3.Connection, now: int) -> None:
    """Drop ends and revocations that nobody needs any more, and note how far back the order is now complete."""
    horizon = db.execute("SELECT max(revision) FROM session WHERE ended < ?", (now - HISTORY_SECONDS,)).fetchone()[0]
    if horizon is not None:
        db.execute("DELETE FROM session WHERE ended < ?", (now - HISTORY_SECONDS,))
        db.execute("UPDATE meta SET horizon = max(horizon, ?)", (horizon,))
    db.execute("DELETE FROM revoked WHERE expires < ?", (now,))
