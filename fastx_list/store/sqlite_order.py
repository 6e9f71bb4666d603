"""The order of changes in the SQLite store, and what it forgets.

Every transaction that changes anything is a step: its changes get the next revisions, and the step
gets a random name, which is kept with the last of them for as long as the ends before it are. A
reader whose revision is not there under the name that it knows followed another order: the file was
restored, replaced or rolled back. The first step is that in which the store is made, so no two
stores share one.

Nothing is forgotten by the wall clock, which may be set. The store has a clock of its own, which
counts the time that passes between two steps.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from typing import NamedTuple

from fastx_list.model.event import What
from fastx_list.store import (
    AT_ONCE,
    KEEP_ENDS_SECONDS,
    KEEP_REVOKED_SECONDS,
    MAX_CHANGES,
    REMEMBER_SECONDS,
    OrderLost,
    Revision,
    SnapshotNeeded,
    sqlite_past,
)

# By so many seconds the time that passed in the store may be longer than for who reads it
CLOCKS_DIFFER = 1.0
LONGEST_STEP = 60.0  # seconds that count at most between two steps
# Changes, after which the past is forgotten that is too old or too much, unless an hour is over
# before. In a full history one is forgotten for each that ends; together they take less.
FORGET_AFTER = 100

# ``elapsed`` is the store's clock: it begins as the wall clock, and then goes by CLOCK_MONOTONIC,
# which was at ``ticked``. ``certain`` is how late it is at least, by the wall clock. ``made`` is a
# random name of the store.
SCHEMA = """
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, elapsed REAL NOT NULL,
    ticked REAL NOT NULL, certain REAL NOT NULL, made TEXT
);
CREATE TABLE IF NOT EXISTS step (
    revision INTEGER PRIMARY KEY, name TEXT NOT NULL, at REAL NOT NULL
);
"""
_OLD = """
SELECT EXISTS (SELECT 1 FROM revoked WHERE expires < ?),
    EXISTS (SELECT 1 FROM remembered WHERE since < ?)
"""


class Head(NamedTuple):
    """Where the order is now, and what it has forgotten."""

    revision: Revision
    kept_from: int  # see :class:`fastx_list.store.Changes`
    made: str | None  # a random name of the store
    elapsed: float  # by the store's clock, in seconds
    read_at: float  # by CLOCK_MONOTONIC, by which that goes


class Step:
    """One transaction's changes."""

    def __init__(self, db: sqlite3.Connection, keep: float) -> None:
        """``db`` is in a transaction of its own. The past is kept for ``keep`` seconds."""
        self.db = db
        self.keep = keep
        self.name = secrets.token_hex(8)
        self.wall = round(time.time() * 1000)  # in ms since the Unix epoch
        row = db.execute("SELECT revision, elapsed, ticked, certain FROM head").fetchone()
        if row is None:
            raise sqlite3.DatabaseError("its table head is empty; move the file away")
        # The last revision before this step, and the last one now
        self._before = self._last = _number(row[0])
        self._ticked = time.monotonic()
        passed = min(max(0.0, self._ticked - _real(row[2])), LONGEST_STEP)
        self.now = _real(row[1]) + passed  # by the store's clock, in seconds
        self._is_another_hour = self.now // 3600 != _real(row[1]) // 3600
        # What the clock of leases says, once it was let go on in this step
        self.lease_clock: float | None = None
        # Twice as fast, to catch up with a time when nothing was written; so a wall clock that is
        # ahead for an hour makes it an hour too late at most, and one that is put back is believed
        self._certain = min(time.time(), _real(row[3]) + 2 * passed)

    def next_revision(self) -> int:
        """Return the revision of one more change."""
        self._last += 1
        return self._last

    def revoke(self, jti: str, expires: int) -> bool:
        """Revoke a token, unless it is, for as long; return whether it was not."""
        row = self.db.execute("SELECT expires FROM revoked WHERE jti = ?", (jti,)).fetchone()
        if row is not None and isinstance(row[0], int) and row[0] >= expires:
            return False
        self.db.execute(
            "INSERT OR REPLACE INTO revoked VALUES (?, ?, ?)", (jti, self.next_revision(), expires)
        )
        more = {"token": jti, "expires": expires}
        sqlite_past.note(self, What.TOKEN_REVOKED, more=more)
        return True

    def end(self) -> None:
        """Name what was changed, if anything was, and forget what nobody needs any more."""
        if self._last == self._before:
            return
        self.db.execute(
            "UPDATE head SET revision = ?, elapsed = ?, ticked = ?, certain = ?",
            (self._last, self.now, self._ticked, self._certain),
        )
        self.db.execute(
            "INSERT OR REPLACE INTO step VALUES (?, ?, ?)", (self._last, self.name, self.now)
        )
        self._forget()

    def _forget(self) -> None:
        first, horizon = None, None
        for revision, at in self.db.execute("SELECT revision, at FROM step ORDER BY revision"):
            if first is None:
                first = revision
                continue
            # A time that is none is of nobody who reads; anybody may have written it
            is_late = isinstance(at, (int, float)) and at >= self.now - KEEP_ENDS_SECONDS
            if is_late and revision > self._last - MAX_CHANGES:
                break
            horizon = revision
            if horizon - first > AT_ONCE:  # the rest is for the next step
                break
        if horizon is not None:
            self.db.execute("DELETE FROM step WHERE revision < ?", (horizon,))
            for table in ("session", "server"):
                self.db.execute(
                    f"DELETE FROM {table} WHERE ended IS NOT NULL AND revision <= ?", (horizon,)
                )
        expired, since = self._certain - KEEP_REVOKED_SECONDS, self.now - REMEMBER_SECONDS
        # As a rule there is nothing to forget, which this tells at once
        has_expired, is_old = self.db.execute(_OLD, (expired, since)).fetchone()
        if has_expired:
            self.db.execute("DELETE FROM revoked WHERE expires < ?", (expired,))
        if is_old:
            self.db.execute(
                "DELETE FROM remembered WHERE id IN (SELECT id FROM remembered WHERE since < ?"
                f" LIMIT {AT_ONCE})",
                (since,),
            )
        many = self._last // FORGET_AFTER != self._before // FORGET_AFTER
        if self.keep <= 0 or many or self._is_another_hour:
            sqlite_past.forget(self)


def head(db: sqlite3.Connection) -> Head:
    """Return where the order is."""
    row = db.execute(
        "SELECT head.revision, certain, name, made, elapsed FROM head LEFT JOIN step USING"
        " (revision)"
    ).fetchone()
    if row is None or not isinstance(row[2], str):
        raise sqlite3.DatabaseError("its last change has no name; move the file away")
    kept_from = int(_real(row[1]) - KEEP_REVOKED_SECONDS)
    return Head(
        Revision(_number(row[0]), row[2]), kept_from, row[3], _real(row[4]), time.monotonic()
    )


def steps_since(db: sqlite3.Connection, revision: Revision, seen: Head | None) -> list[Revision]:
    """Return the steps after ``revision``, so many as are read at once. Raises what :func:`check`
    does."""
    check(db, revision, seen)
    steps = []
    for row in db.execute(
        "SELECT revision, name FROM step WHERE revision > ? ORDER BY revision", (revision.number,)
    ):
        steps.append(Revision(*row))
        if row[0] - revision.number >= AT_ONCE:
            break
    return steps


def names(db: sqlite3.Connection, revision: Revision) -> list[str]:
    """Return those of all steps that are kept, up to ``revision``."""
    rows = db.execute(
        "SELECT name FROM step WHERE revision <= ? ORDER BY revision", (revision.number,)
    )
    return [row[0] for row in rows]


def check(db: sqlite3.Connection, revision: Revision, seen: Head | None) -> None:
    """Raise :class:`OrderLost` or :class:`SnapshotNeeded`, see
    :class:`fastx_list.store.Followed`, unless all that followed ``revision`` is kept.

    ``seen`` is where the order was when it was read last: what the steps between the two had
    changed again was left out then.
    """
    if _has(db, revision) and (
        seen is None or seen.revision == revision or _has(db, seen.revision)
    ):
        return
    [oldest] = db.execute("SELECT min(revision) FROM step").fetchone()
    may_be = oldest is not None and revision.number < oldest
    if may_be and (seen is None or _may_have_forgotten(revision, seen, head(db))):
        raise SnapshotNeeded
    raise OrderLost


def _may_have_forgotten(revision: Revision, seen: Head, now: Head) -> bool:
    """Return whether the store that was ``seen`` can have forgotten ``revision`` by ``now``, and be
    the same."""
    passed = now.elapsed - seen.elapsed
    ran = now.read_at - seen.read_at + CLOCKS_DIFFER
    is_same = seen.made == now.made and 0 <= passed <= ran
    if not is_same:
        return False
    if seen.revision != revision:  # which was read long before, maybe
        return True
    many = now.revision.number - revision.number >= MAX_CHANGES
    return many or passed >= KEEP_ENDS_SECONDS


def _has(db: sqlite3.Connection, step: Revision) -> bool:
    row = db.execute("SELECT 1 FROM step WHERE revision = ? AND name = ?", step).fetchone()
    return row is not None


def make(db: sqlite3.Connection) -> None:
    """Begin the order in a store that is made, or go on with that of an older version, of which the
    ends are forgotten."""
    revision = 0
    if "made" not in {row[1] for row in db.execute("PRAGMA table_info(head)")}:
        db.execute("ALTER TABLE head ADD COLUMN made TEXT")
        db.execute("UPDATE head SET made = ?", (secrets.token_hex(8),))
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        # Processes of the older version would write without naming their steps. Without the table
        # they cannot, and open the file again, which tells them.
        [revision] = db.execute("SELECT revision FROM meta").fetchone() or (0,)
        db.execute("DROP TABLE meta")
    if db.execute("SELECT 1 FROM head").fetchone():
        return
    wall = time.time()
    db.execute(
        "INSERT INTO head VALUES (1, ?, ?, ?, ?, ?)",
        (_number(revision), wall, time.monotonic(), wall, secrets.token_hex(8)),
    )
    db.execute("INSERT INTO step VALUES (?, ?, ?)", (revision, secrets.token_hex(8), wall))
    db.execute("DELETE FROM session WHERE ended IS NOT NULL")
    db.execute("DELETE FROM server WHERE ended IS NOT NULL")


def _number(value: object) -> int:
    # SQLite takes values of all types in any column
    if not isinstance(value, int):
        raise sqlite3.DatabaseError("what its table head holds is no revision; move the file away")
    return value


def _real(value: object) -> float:
    if not isinstance(value, (int, float)):
        raise sqlite3.DatabaseError("what its table head holds is no time; move the file away")
    return value
