"""The file of the SQLite store: made, opened, and opened again when it is no longer the one that
was opened."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastx_list import state
from fastx_list.store import StoreError, sqlite_harm, sqlite_leases, sqlite_order, sqlite_past

BUSY_SECONDS = 5.0
# Who waits to write looks so often whether they can
TURN_SECONDS = 0.002
# Who has written leaves so much of the time that it took to others, who wait, and so much at most
ROOM_SHARE, ROOM_SECONDS = 0.1, 0.05
WAL_POLL_SECONDS = 0.01
VERSION = 6
# Of pages that are kept in memory once they are read: as many as the upper parts of all indexes of
# a history of a million sessions take, so that a session's end reads their last pages alone
CACHE_KIB = 8192

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS session (
    id TEXT PRIMARY KEY, revision INTEGER NOT NULL UNIQUE, server_id TEXT NOT NULL,
    login TEXT NOT NULL, digest TEXT, params TEXT NOT NULL, text TEXT, ended INTEGER
);
DROP INDEX IF EXISTS session_ended;
CREATE INDEX IF NOT EXISTS session_end ON session (revision) WHERE ended IS NOT NULL;
CREATE INDEX IF NOT EXISTS session_server ON session (server_id) WHERE ended IS NULL;
CREATE TABLE IF NOT EXISTS revoked (
    jti TEXT PRIMARY KEY, revision INTEGER NOT NULL UNIQUE, expires INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS revoked_expires ON revoked (expires);
{sqlite_leases.SCHEMA}
CREATE INDEX IF NOT EXISTS remembered_since ON remembered (since);
{sqlite_order.SCHEMA}
{sqlite_past.SCHEMA}
PRAGMA user_version = {VERSION};
"""


class SqliteFile:
    """One connection to the database at ``path``, which is made with ``create`` if there is none;
    ``on_open`` is called whenever it was opened. With ``make_anew`` a damaged one is set aside, and
    that is told where to make a new one, of what could still be read."""

    def __init__(
        self,
        path: Path,
        create: bool,
        on_open: Callable[[], None],
        make_anew: Callable[[Path, sqlite_harm.Kept], None] | None,
    ) -> None:
        self.path = path  # where the database is
        self.create = create  # whether the file is made
        self._on_open = on_open  # what is to be called
        self._make_anew = make_anew  # how a damaged one is, if it is
        self._damage = sqlite_harm.Damage()  # whether it is
        self._connection: sqlite3.Connection | None = None  # once it is opened
        self._identity: tuple[int, int] | None = None  # device and inode of the file it is to
        self._next_write = 0.0  # when others have had room to write, by the monotonic clock
        # As whom root opens it, and the files that SQLite makes beside it at any time
        self._owner: state.Owner | None = None

    def close(self) -> None:
        if self._connection is not None:
            with state.working_as(self._owner):
                self._connection.close()
            self._connection = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for statements that read."""
        try:
            self._find_owner()
            with state.working_as(self._owner):
                yield self._open()
        except (sqlite3.Error, OSError) as error:
            raise self._failure("read", error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection within a transaction, which is rolled back if anything goes wrong.

        Much is written in many of them, one after the other. Between two there is room for
        others."""
        if (pause := self._next_write - time.monotonic()) > 0:
            time.sleep(pause)
        try:
            self._find_owner()
            with state.working_as(self._owner):
                db = self._open()
                _begin(db)
                began = time.monotonic()
                try:
                    yield db
                except BaseException:
                    if db.in_transaction:  # a full disk may have rolled it back already
                        db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
                now = time.monotonic()
                self._next_write = now + min(ROOM_SHARE * (now - began), ROOM_SECONDS)
        except (sqlite3.Error, OSError) as error:
            raise self._failure("written", error) from error

    def _failure(self, done: str, error: sqlite3.Error | OSError) -> StoreError:
        """Return what to say of ``error``, by which the file could not be ``done``; mend it, if it
        can be."""
        self.close()  # a replaced or repaired file is found again by opening it again
        if self._make_anew is not None and sqlite_harm.is_damage(error):
            which = sqlite_harm.identity(self.path)
            if self._damage.lasts(which):
                try:
                    with state.working_as(self._owner):
                        return StoreError(sqlite_harm.set_aside(self.path, which, self._make_anew))
                except StoreError as problem:
                    return problem
                except OSError as problem:
                    error = problem
        explained = sqlite_harm.explain(error, self.path)
        return StoreError(f"the store {self.path} cannot be {done}: {explained}")

    def _open(self) -> sqlite3.Connection:
        """Return the connection, a new one if there is none."""
        if self._connection is not None:
            return self._connection
        for suffix in ("", "-wal", "-shm", "-journal"):
            _check(self.path.with_name(self.path.name + suffix))
        # SQLite gives its -wal and -shm files the mode of the database. One that is there is not
        # opened here: closing it would take the locks of other connections in this process.
        if sqlite_harm.identity(self.path) is None:
            sqlite_harm.make_file(self.path)
        with sqlite_harm.locked(self.path.parent, fcntl.LOCK_SH):
            self._connection = self._connect()
        self._on_open()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        identity = sqlite_harm.identity(self.path)
        # One thread at a time uses a connection, though not always the same one.
        db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise StoreError(
                    f"the store {self.path} was made by a newer fastx-list; install that, or use"
                    " another store"
                )
            if version < VERSION:
                _use_write_ahead_log(db)
                _make(db)
            if sqlite_harm.identity(self.path) != identity:
                # Else the connection might be to a file that is gone, and be kept for ever
                raise StoreError(f"the store {self.path} has just been replaced")
            self._identity = identity
            # With WAL, anything less may lose the last commits in a power failure
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        except BaseException:
            db.close()
            raise
        return db

    def _find_owner(self) -> None:
        """Close the connection if the file is no longer the one that was opened; see to it that
        another one can be, and find out as whom."""
        identity = sqlite_harm.identity(self.path)
        if self._connection is not None and identity == self._identity:
            return
        self.close()
        if identity is None:
            if not self.create:
                raise StoreError(
                    f"there is no store at {self.path} yet; start one with: fastx-list up, or"
                    " fastx-list agent"
                )
            state.make_directory(self.path.parent)
        self._owner = state.owner_of(self.path.parent)


@contextmanager
def waiting(db: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Let no statement within wait for longer than ``seconds`` for others."""
    db.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
    try:
        yield
    finally:
        db.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")


def _begin(db: sqlite3.Connection) -> None:
    """Begin to write as soon as nobody else does. By itself SQLite looks every tenth of a second in
    the end, and misses the moments in which one who writes very much does not."""
    deadline = time.monotonic() + BUSY_SECONDS
    with waiting(db, TURN_SECONDS):
        while True:
            try:
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not sqlite_harm.is_busy(error) or time.monotonic() >= deadline:
                    raise


@contextmanager
def one_state(db: sqlite3.Connection) -> Iterator[None]:
    """Let all that is read within be of one moment."""
    db.execute("BEGIN")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # else it would hide what was wrong
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _check(file: Path) -> None:
    """Raise :class:`StoreError` if SQLite would follow a link there, or wait for a FIFO."""
    with suppress(FileNotFoundError):
        mode = os.lstat(file).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        if not stat.S_ISREG(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
            raise StoreError(
                f"the store {file} is {what}; remove it, or set FASTX_LIST_STORE to another file"
            )


def _make(db: sqlite3.Connection) -> None:
    """Make the tables, or those of an older version into those of this one."""
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    sqlite_leases.upgrade(db)
    sqlite_order.make(db)
    sqlite_past.upgrade(db, round(time.time() * 1000))
    db.execute("COMMIT")


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
            time.sleep(WAL_POLL_SECONDS)
