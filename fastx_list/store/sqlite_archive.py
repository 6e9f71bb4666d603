"""What is read of the past and of events in the SQLite store. See
:mod:`fastx_list.store.archive`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from fastx_list.model.event import What
from fastx_list.store.archive import MAX_COUNT, Ended, EventPage, PastRecord, Span, bounds
from fastx_list.store.division import divide
from fastx_list.store.records import Records, past_of
from fastx_list.store.sqlite_file import SqliteFile
from fastx_list.store.sqlite_order import Step
from fastx_list.store.sqlite_past import OF_PAST, add, note


class SqliteArchive:
    """See :class:`fastx_list.store.archive.Archive`."""

    def __init__(
        self, file: SqliteFile, records: Records, write: Callable[[], AbstractContextManager[Step]]
    ) -> None:
        self._file = file  # what is read
        self._records = records  # checks what is read
        self._write = write  # begins a step

    def find(self, span: Span, start: int, limit: int, last_first: bool) -> list[str]:
        order = "DESC" if last_first else "ASC"
        where, values = _where(span)
        with self._file.reading() as db:
            rows = db.execute(
                f"SELECT id FROM past WHERE {where} ORDER BY place {order}, rowid {order} LIMIT ?"
                " OFFSET ?",
                (*values, limit, start),
            )
            return [str(name) for (name,) in rows]

    def count(self, span: Span) -> int | None:
        where, values = _where(span)
        with self._file.reading() as db:
            if span == Span(None):
                return int(db.execute("SELECT count(*) FROM past").fetchone()[0])
            [(count,)] = db.execute(
                f"SELECT count(*) FROM (SELECT 1 FROM past WHERE {where} LIMIT ?)",
                (*values, MAX_COUNT + 1),
            )
        return int(count) if count <= MAX_COUNT else None

    def read(self, ids: Sequence[str]) -> list[PastRecord]:
        found: list[PastRecord] = []
        with self._file.reading() as db:
            for session_id in ids:
                row = db.execute(
                    f"SELECT coalesce(session.text, past.text), {OF_PAST} FROM past LEFT JOIN"
                    " session ON session.id = past.id WHERE past.id = ?",
                    (session_id,),
                ).fetchone()
                if row is not None:
                    found += [
                        PastRecord(record.id, str(record.text), past)
                        for past in self._records.past(session_id, past_of(row[1:-1], row[-1]))
                        for record in self._records.session(session_id, row[0])
                    ]
        return found

    def ages(self, ids: Sequence[str]) -> list[Ended]:
        with self._file.reading() as db:
            [now] = db.execute("SELECT elapsed FROM head").fetchone()
            kept = {
                name: db.execute("SELECT kept FROM past WHERE id = ?", (name,)).fetchone()
                for name in ids
            }
        return [
            Ended(record, max(0.0, now - row[0]))
            for record in self.read(ids)
            if (row := kept[record.id]) and isinstance(row[0], float) and record.past.ended
        ]

    def add(self, sessions: Sequence[Ended]) -> int:
        count = 0
        for some in divide(sessions):
            with self._write() as step:
                count += sum(add(step, *each) for each in some)
        return count

    def erase(self, login: str) -> int:
        with self._file.reading() as db:
            rows = db.execute(
                "SELECT rowid FROM past WHERE login = ? AND kept IS NOT NULL", (login,)
            ).fetchall()
            events = db.execute("SELECT seq FROM event WHERE login = ?", (login,)).fetchall()
        for some in divide(rows):
            with self._write() as step:
                step.db.executemany("DELETE FROM past WHERE rowid = ? AND kept IS NOT NULL", some)
        for some in divide(events):
            with self._write() as step:
                step.db.executemany("DELETE FROM event WHERE seq = ?", some)
        return len(rows)

    def events(self, after: str | None, limit: int) -> EventPage:
        seq, name = _parse(after)
        with self._file.reading() as db:
            last = _last(db)
            at = db.execute("SELECT name FROM event WHERE seq = ?", (seq,)).fetchone()
            [first] = db.execute("SELECT min(seq) FROM event").fetchone()
            [dropped] = db.execute("SELECT max(seq) FROM event_dropped").fetchone()
            rows = db.execute(
                "SELECT seq, name, at, what, session, login, server_id, more FROM event WHERE seq >"
                " ? ORDER BY seq LIMIT ?",
                (min(seq, last), limit),
            ).fetchall()
        lost = seq > last or (at is not None and at[0] != name)
        is_dropped = (first or last + 1) > seq + 1 or (dropped or 0) > seq
        gap = after is not None and (not seq or lost or is_dropped)
        found = [
            event
            for number, name, at, what, *about, more in rows
            for event in self._records.event(f"{number}-{name}", at, what, about, more)
        ]
        return EventPage(found, gap)

    def last_event(self) -> str | None:
        with self._file.reading() as db:
            row = db.execute("SELECT seq, name FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else f"{row[0]}-{row[1]}"

    def note(
        self, what: What, login: str | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        with self._write() as step:
            note(step, what, login=login, more=more)


def _where(span: Span) -> tuple[str, tuple[str | int, ...]]:
    since, until = bounds(span)
    if span.login is None:
        return "place >= ? AND place < ?", (since, until)
    return "login = ? AND place >= ? AND place < ?", (span.login, since, until)


def _last(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
    return 0 if row is None else int(row[0])


def _parse(event_id: str | None) -> tuple[int, str]:
    number, _, name = (event_id or "").partition("-")
    return (int(number), name) if re.fullmatch(r"[0-9]{1,15}", number) else (0, "")
