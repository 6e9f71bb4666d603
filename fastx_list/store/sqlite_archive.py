"""What is read of the past and of events in the SQLite store. See
:mod:`fastx_list.store.archive`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from fastx_list.model.event import What
from fastx_list.store.archive import (
    EVERY_EVENT,
    MAX_COUNT,
    Ended,
    EventPage,
    EventSpan,
    PastRecord,
    Span,
    bounds,
)
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

    def events(self, after: str | None, limit: int, span: EventSpan = EVERY_EVENT) -> EventPage:
        seq, name = _parse(after)
        order = "DESC" if span.last_first else "ASC"
        whose, login = ("", ()) if span.login is None else ("login = ? AND ", (span.login,))
        with self._file.reading() as db:
            last = _last(db)
            at = db.execute("SELECT name FROM event WHERE seq = ?", (seq,)).fetchone()
            [first] = db.execute("SELECT min(seq) FROM event").fetchone()
            [dropped] = db.execute("SELECT max(seq) FROM event_dropped").fetchone()
            rows = db.execute(
                "SELECT seq, name, at, what, session, login, server_id, more FROM event WHERE"
                f" {whose} seq > ? AND seq < ? ORDER BY seq {order} LIMIT ?",
                (*login, *_between(db, span, min(seq, last)), limit),
            ).fetchall()
        lost = seq > last or (at is not None and at[0] != name)
        is_dropped = (first or last + 1) > seq + 1 or (dropped or 0) > seq
        gap = after is not None and (not seq or lost or is_dropped)
        found = [
            event
            for number, name, at, what, *about, more in rows
            for event in self._records.event(f"{number}-{name}", at, what, about, more)
        ]
        place = f"{rows[-1][0]}-{rows[-1][1]}" if rows and len(rows) == limit else None
        return EventPage(found, gap and not span.last_first, place)

    def noted(self) -> int:
        with self._file.reading() as db:
            return _last(db)

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


def _between(db: sqlite3.Connection, span: EventSpan, seq: int) -> tuple[int, int]:
    """Return between which two places the events of ``span`` are, from ``seq`` on."""
    low = 0 if span.since is None else _first_from(db, span.since) - 1
    high = 2**63 - 1 if span.until is None else _first_from(db, span.until)
    if span.last_first:
        return low, min(high, seq) if seq else high
    return max(low, seq), high


def _first_from(db: sqlite3.Connection, moment: int) -> int:
    """Return about the place of the first event that happened at ``moment`` or later."""
    low, high = db.execute(
        "SELECT (SELECT min(seq) FROM event), (SELECT max(seq) + 1 FROM event)"
    ).fetchone()
    if low is None:
        return 1
    while low < high:
        middle = (low + high) // 2
        row = db.execute(
            "SELECT seq, at < ? FROM event WHERE seq >= ? ORDER BY seq LIMIT 1", (moment, middle)
        ).fetchone()
        if row is not None and row[1]:
            low = int(row[0]) + 1
        else:
            high = middle
    return int(low)


def _last(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
    return 0 if row is None else int(row[0])


def _parse(event_id: str | None) -> tuple[int, str]:
    number, _, name = (event_id or "").partition("-")
    return (int(number), name) if re.fullmatch(r"[0-9]{1,15}", number) else (0, "")
