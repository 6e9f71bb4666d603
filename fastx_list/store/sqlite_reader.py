"""The reading side of the SQLite store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterable
from dataclasses import replace

from fastx_list.store import (
    AT_ONCE,
    Changes,
    Record,
    Revision,
    ServerRecord,
    sqlite_leases,
    sqlite_order,
)
from fastx_list.store.beats import Beats
from fastx_list.store.records import Records
from fastx_list.store.sqlite_file import SqliteFile, one_state, waiting
from fastx_list.store.sqlite_order import Head, Step

POLL_SECONDS = 0.005


class Reader:
    """Follows one store. If a lease has run out it tries to end it, as nobody else may; if the
    store takes no writes, it tells which have."""

    def __init__(self, file: SqliteFile, records: Records, keep: float) -> None:
        self._file = file  # what is read
        self._records = records  # decodes what is read
        self._keep = keep  # for how many seconds what has happened is kept
        # What data_version was when the rows were last read; ``None``: they are to be read again
        self._data_version: int | None = None
        self._last_revision: Revision | None = None  # the revision that the rows were at then
        # Up to where they were read last, also of another file, and where the order was then
        self._seen: tuple[Revision, Head] | None = None
        self.beats = Beats()  # whose leases are renewed, and who is overdue
        self._has_more_ends = False  # whether it has carried out a part of an end

    def distrust(self) -> None:
        """Read the rows again next time: data_version does not count a connection's own commits."""
        self._data_version = None

    def begin_anew(self) -> None:
        """Take note of another connection, maybe to another file."""
        self._data_version = self._last_revision = None

    def read_all(self) -> Generator[None, None, Changes]:
        """See :meth:`fastx_list.store.Followed.read_all`.

        Sessions and tokens are read in the order of their revisions up to the one that was the last
        at first, and in the end what was written since: what has changed meanwhile is there. Each
        part is read in a state that comes after that of the part before, or the order is lost.
        """
        records: list[Record] = []
        revoked: dict[str, int] = {}
        with self._file.reading() as db:
            self.beats.expect_news()
            self._look_at_leases(db)
            with one_state(db):
                first = head = sqlite_order.head(db)
                names = sqlite_order.names(db, first.revision)
                servers = self._servers(db, (-1, first.revision.number), "AND ended IS NULL")
        for table in ("session", "revoked"):
            last: int | None = -1
            while last is not None:
                with self._file.reading() as db, one_state(db):
                    sqlite_order.check(db, first.revision, head)
                    head = sqlite_order.head(db)
                    rows, last = _part(db, table, last, first.revision.number)
                if table == "session":
                    records += self._records.sessions((row[1], *_IN_TEXT, row[2]) for row in rows)
                else:
                    revoked.update(self._tokens(row[1:] for row in rows))
                if last is not None:
                    yield
        kept_from = head.kept_from
        changes = Changes(first.revision, records, revoked, servers, names, kept_from=kept_from)
        is_all, self._seen = False, (first.revision, head)
        while not is_all:
            with self._file.reading() as db:
                self._data_version = _data_version(db)  # first, as for changes
                later = self._changes_since(db, changes.revision)
            changes, is_all = _merged(changes, later), not later.more
            if not is_all:
                yield
        return changes

    def changes(self, revision: Revision, timeout: float = 0) -> Changes | None:
        """See :meth:`fastx_list.store.Followed.changes`."""
        deadline = time.monotonic() + timeout
        while True:
            changes = self._new_changes(revision)
            if changes is not None or time.monotonic() >= deadline:
                return changes
            time.sleep(POLL_SECONDS)

    def _new_changes(self, revision: Revision) -> Changes | None:
        with self._file.reading() as db:
            self._look_at_leases(db)
            # Asked before the rows are read: a commit between the two is read now and asked about
            # once more, never missed.
            version = _data_version(db)
            if version == self._data_version and revision == self._last_revision:
                return None
            changes = self._changes_since(db, revision)
            self._data_version = None if changes.more else version
        return changes if changes.revision != revision else None

    def _look_at_leases(self, db: sqlite3.Connection) -> None:
        """See whose leases are renewed, when it is time to; if one is late, see to its end."""
        if sqlite_leases.clock() < self.beats.next_look:
            return
        sqlite_leases.look(db, self.beats)
        if not self.beats.is_late or not sqlite_leases.is_due(db):
            return
        with waiting(db, 0):  # nobody who reads waits for one who writes
            try:
                db.execute("BEGIN IMMEDIATE")
                step = Step(db, self._keep)
                self._has_more_ends = sqlite_leases.expire(step)
                step.end()
                db.execute("COMMIT")
                self._data_version = None
            # On a full disk, say, which takes no new state but can still be read
            except sqlite3.Error:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def _changes_since(self, db: sqlite3.Connection, revision: Revision) -> Changes:
        """Read what was written after ``revision``."""
        with one_state(db):
            head = sqlite_order.head(db)
            read_to, seen = self._seen or (None, None)
            steps = sqlite_order.steps_since(db, revision, seen if read_to == revision else None)
            current = steps[-1] if steps else revision
            span = revision.number, current.number
            rows = db.execute(
                "SELECT id, login, server_id, text FROM session WHERE revision > ? AND revision <="
                " ? ORDER BY revision",
                span,
            )
            records = list(self._records.sessions(rows))
            rows = db.execute(
                "SELECT jti, expires FROM revoked WHERE revision > ? AND revision <= ?", span
            )
            revoked = self._tokens(rows)
            servers = self._servers(db, span)
            sqlite_leases.look(db, self.beats)
            if self._has_more_ends:
                self.beats.expect_news()
        self._last_revision, self._seen = current, (current, head)
        names, more = [step.step for step in steps], current != head.revision
        return Changes(current, records, revoked, servers, names, more, head.kept_from)

    def _tokens(self, rows: Iterable[tuple[object, object]]) -> dict[str, int]:
        return dict(token for row in rows for token in self._records.revoked(*row))

    def _servers(
        self, db: sqlite3.Connection, span: tuple[int, int], which: str = ""
    ) -> tuple[ServerRecord, ...]:
        rows = db.execute(
            f"SELECT id, text FROM server WHERE revision > ? AND revision <= ? {which} ORDER BY"
            " revision",
            span,
        )
        return tuple(record for row in rows for record in self._records.server(*row))


_IN_TEXT = None, None  # the login and the server of a session that runs
_PARTS = {
    "session": "SELECT revision, id, text FROM session WHERE ended IS NULL",
    "revoked": "SELECT revision, jti, expires FROM revoked WHERE 1",
}


def _part(
    db: sqlite3.Connection, table: str, after: int, to: int
) -> tuple[list[tuple[int, object, object]], int | None]:
    """Return the next rows of ``table``, and the revision of the last one if there may be more."""
    rows = db.execute(
        f"{_PARTS[table]} AND revision > ? AND revision <= ? ORDER BY revision LIMIT ?",
        (after, to, AT_ONCE),
    ).fetchall()
    return rows, rows[-1][0] if len(rows) == AT_ONCE else None


def _merged(read: Changes, later: Changes) -> Changes:
    """Return what there is once ``later`` was written."""
    records = {record.id: record for record in read.records} if later.records else {}
    for record in later.records:
        records.pop(record.id, None)
        if record.text is not None:
            records[record.id] = record
    servers = {record.id: record for record in [*read.servers, *later.servers]}
    return replace(
        read,
        revision=later.revision,
        records=list(records.values()) if later.records else read.records,
        revoked={**read.revoked, **later.revoked},
        servers=tuple(record for record in servers.values() if record.text is not None),
        steps=[*read.steps, *later.steps],
        kept_from=later.kept_from,
    )


def _data_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA data_version").fetchone()[0])
