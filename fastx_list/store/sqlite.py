"""The embedded store: one SQLite database that several processes on one machine share.

Write-ahead logging lets readers go on while one process writes. ``PRAGMA data_version``
(https://sqlite.org/pragma.html) tells a connection for a few microseconds whether anybody else has
committed since it last asked, so a reader that finds nothing new touches no row, and nothing that
was committed can be missed. A killed process leaves a database as of its last commit.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fastx_list.model.json import to_json
from fastx_list.model.server import Server, encode_server
from fastx_list.model.session import Session, encode
from fastx_list.store import (
    Changes,
    EditionLost,
    Held,
    Lease,
    Record,
    Revision,
    ServerTaken,
    StoreError,
    sqlite_leases,
    sqlite_past,
)
from fastx_list.store.archive import KEEP_SECONDS
from fastx_list.store.division import UNFINISHED, Part, at_once, divide, is_unfinished, parts
from fastx_list.store.records import Records, with_params
from fastx_list.store.sqlite_archive import SqliteArchive
from fastx_list.store.sqlite_file import SqliteFile, one_state
from fastx_list.store.sqlite_harm import Kept
from fastx_list.store.sqlite_order import Step
from fastx_list.store.sqlite_reader import Reader

TRIES = 100  # to write when others write the same


class SqliteStore:
    """See :class:`fastx_list.store.Store`. Not for use by several threads at once."""

    def __init__(
        self, path: Path, *, create: bool = True, mends: bool = False, keep: float = KEEP_SECONDS
    ) -> None:
        # Opened when it is used
        self._file = SqliteFile(
            path, create, lambda: self._reader.begin_anew(), _make_anew if mends else None
        )
        self._records = Records(path)  # decodes what is read
        self._keep = keep  # for how many seconds what has happened is kept
        self.archive = SqliteArchive(self._file, self._records, self._write)
        self._reader = Reader(self._file, self._records, keep)  # everything that is followed

    def observe(
        self, server_id: str, sessions: Mapping[str, Session], lease: Lease | None = None
    ) -> str:
        for _ in range(TRIES):
            edition, stored = self._read_server(server_id)
            for part in parts(stored, sessions):
                with self._write() as step:
                    # First: a renewed lease says that the sessions are what its agent has seen
                    if sqlite_leases.edition(step.db, server_id) != edition:
                        break
                    taken_by = sqlite_leases.claim(step, server_id, lease) if lease else None
                    if taken_by is None:
                        sqlite_leases.expire(step)
                    # Without a lease of ours that may just have ended them
                    is_as_read = sqlite_leases.edition(step.db, server_id) == edition
                    if taken_by is None and is_as_read:
                        edition = self._observe(step, server_id, edition, part)
                if taken_by is not None:
                    raise ServerTaken(server_id, taken_by)
                if not is_as_read:
                    break
            else:
                return str(edition)
        raise StoreError(
            f"the store {self._file.path} was changed by others again and again while"
            f" {server_id!r} was written"
        )

    def _read_server(self, server_id: str) -> tuple[str | None, dict[str, object]]:
        """Return the edition of a server, and the digests of its sessions. Nobody waits for it."""
        with self._file.reading() as db:
            with one_state(db):
                running = "FROM session WHERE server_id = ? AND ended IS NULL"
                rows = db.execute(f"SELECT id, digest {running}", (server_id,)).fetchall()
                return sqlite_leases.edition(db, server_id), dict(rows)

    def _observe(self, step: Step, server_id: str, edition: str | None, part: Part) -> str:
        for session in part.changed:
            self._put(step, session)
        sqlite_past.end_sessions(step, part.ended)
        step.db.executemany(
            "UPDATE session SET revision = ?, digest = NULL, params = '{}', text = NULL, ended = ?"
            " WHERE id = ?",
            ((step.next_revision(), step.now, session_id) for session_id in part.ended),
        )
        if part.is_last:  # what did not come back has ended
            step.db.execute("DELETE FROM remembered WHERE server_id = ?", (server_id,))
        if edition is None or part.changed or part.ended or is_unfinished(edition):
            edition = secrets.token_hex(8) + ("" if part.is_last else UNFINISHED)
            step.db.execute(
                "INSERT INTO server (id, view) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET view ="
                " excluded.view, ended = NULL",
                (server_id, edition),
            )
        return edition

    def _put(self, step: Step, session: Session) -> None:
        row = step.db.execute(
            "SELECT params, 0 FROM session WHERE id = ? AND ended IS NULL UNION ALL SELECT params,"
            " 1 FROM remembered WHERE id = ?",
            (session.id, session.id),
        ).fetchone()
        kept = self._records.params(session.id, row[0]) if row else None
        params = session.params if kept is None else kept
        sqlite_past.put(step, session, is_back=bool(row and row[1]))
        step.db.execute(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                session.id,
                step.next_revision(),
                session.server_id,
                session.login,
                session.digest,
                to_json(params),
                encode(session, params),
            ),
        )

    def edition(self, server_id: str) -> str | None:
        with self._file.reading() as db:
            return sqlite_leases.edition(db, server_id)

    def heartbeat(self, server: Server, lease: Lease, edition: str | None = None) -> str | None:
        with self._write() as step:
            db = step.db
            if edition is not None and sqlite_leases.edition(db, server.id) != edition:
                raise EditionLost(server.id)
            taken_by = sqlite_leases.claim(step, server.id, lease)
            if taken_by is None:
                sqlite_leases.expire(step)
                db.execute(
                    "UPDATE server SET revision = ?, text = ? WHERE id = ?",
                    (step.next_revision(), encode_server(server), server.id),
                )
            held = sqlite_leases.held(db, server.id, step.lease_clock)
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

    def remembered(self) -> list[Record]:
        with self._file.reading() as db:
            rows = db.execute("SELECT id, text FROM remembered").fetchall()
        return [record for row in rows for record in self._records.session(*row)]

    def remember(self, records: Sequence[Record]) -> int:
        count = 0
        for some in divide(records):
            with self._write() as step:
                count += sqlite_leases.remember(step.db, some, step.now)
        return count

    def set_params(self, session_id: str, login: str, patch: Mapping[str, Any]) -> str | None:
        with self._write() as step:
            row = step.db.execute(
                "SELECT text FROM session WHERE id = ? AND login = ? AND ended IS NULL",
                (session_id, login),
            ).fetchone()
            record = next(self._records.session(session_id, row[0]), None) if row else None
            if record is None or record.text is None:
                return None
            new = with_params(record.text, patch)
            if new is None:
                return record.text
            step.db.execute(
                "UPDATE session SET revision = ?, params = ?, text = ? WHERE id = ?",
                (step.next_revision(), new.params, new.text, session_id),
            )
            sqlite_past.note_params(step, record, new.names)
            return new.text

    def revoke(self, tokens: Mapping[str, int]) -> int:
        count = 0
        this_threads = SqliteFile(self._file.path, self._file.create, lambda: None, None)
        with closing(this_threads) as file:
            for some in divide(list(tokens.items())):
                with file.writing() as db:
                    step = Step(db, self._keep)
                    revoked = sum(step.revoke(jti, expires) for jti, expires in some)
                    step.end()
                count += revoked
        return count

    def snapshot(self) -> Changes:
        return at_once(self._reader.read_all)

    def read_all(self) -> Generator[None, None, Changes]:
        return self._reader.read_all()

    def changes(self, revision: Revision, timeout: float = 0) -> Changes | None:
        return self._reader.changes(revision, timeout)

    @property
    def overdue(self) -> Sequence[str]:
        return self._reader.beats.overdue

    @property
    def renewed(self) -> Mapping[str, float]:
        return self._reader.beats.renewed

    def end_leases(self) -> None:
        with self._write() as step:
            sqlite_leases.expire(step)

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def _write(self) -> Iterator[Step]:
        with self._file.writing() as db:
            step = Step(db, self._keep)
            yield step
            step.end()
        self._reader.distrust()


def _make_anew(path: Path, kept: Kept) -> None:
    """Make a store at ``path`` of what could be read of a damaged one."""
    store, records = SqliteStore(path), Records(path)
    try:
        store.snapshot()  # makes it, also if there is nothing to keep
        store.remember([each for row in kept.sessions for each in records.session(row[0], row[4])])
        store.revoke(dict(token for row in kept.revoked for token in records.revoked(*row)))
    finally:
        store.close()
