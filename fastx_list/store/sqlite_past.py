"""What the SQLite store notes of what happens, in the step in which it does, and what of that it
forgets. See :mod:`fastx_list.store.archive`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastx_list.model.event import What
from fastx_list.model.json import to_json
from fastx_list.model.past import Past, Visits, addresses_of, begin, go_on
from fastx_list.model.session import Session, decode
from fastx_list.store.archive import (
    FORGET_AT_ONCE,
    LEAST_EVENTS_SECONDS,
    MAX_EVENTS_OF_LOGIN,
    MAX_KEPT,
    MAX_KEPT_OF_LOGIN,
    RUNNING,
    PastRecord,
    place,
)
from fastx_list.store.records import past_of

if TYPE_CHECKING:
    from fastx_list.store import Record
    from fastx_list.store.sqlite_order import Step

# ``place`` is that in the order of ends, and ``kept`` when a session ended, or something happened,
# by the clock of the order. ``event_dropped`` has the last event that was one too many of a login.
SCHEMA = """
CREATE TABLE IF NOT EXISTS past (
    id TEXT PRIMARY KEY, login TEXT NOT NULL, place INTEGER NOT NULL, began INTEGER NOT NULL,
    ended INTEGER, connected INTEGER NOT NULL, since INTEGER, clients INTEGER, started INTEGER,
    last_connect INTEGER, last_disconnect INTEGER, addresses TEXT NOT NULL, text TEXT, kept REAL
);
CREATE INDEX IF NOT EXISTS past_place ON past (place);
CREATE INDEX IF NOT EXISTS past_login ON past (login, place);
CREATE INDEX IF NOT EXISTS past_kept ON past (kept) WHERE kept IS NOT NULL;
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, at INTEGER NOT NULL,
    kept REAL NOT NULL, what TEXT NOT NULL, session TEXT, login TEXT, server_id TEXT, more TEXT
);
CREATE INDEX IF NOT EXISTS event_login ON event (login, seq) WHERE login IS NOT NULL;
CREATE TABLE IF NOT EXISTS event_dropped (
    one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL
);
"""
# After so many events it is seen what there is too much of: of all events, and of the sessions and
# events of whose the last one was
COUNT_AFTER = 250

COLUMNS = (
    "began, ended, connected, since, clients, started, last_connect, last_disconnect, addresses"
)
# As :func:`fastx_list.model.past.connected` counts. A session of an older release has no past.
_END_PAST = """
UPDATE past SET place = :now, began = min(began, :now), ended = :now, kept = :kept, since = NULL,
    connected = connected + coalesce(max(0, :now - since), 0),
    text = :text
WHERE id = :id
"""
_NOTE_END = """
INSERT INTO event (name, at, kept, what, session, login, server_id, more)
VALUES (:name, :now, :kept, 'sessionEnded', :id, :login, :server_id, (
    SELECT printf('{"began":%d,"connectedSeconds":%d%s}', began, connected / 1000, :said)
    FROM past WHERE id = :id
))
"""
# The oldest of a login that are too many
_DROP_OLDEST = """
DELETE FROM past WHERE rowid IN (
    SELECT rowid FROM past WHERE login = ? AND place < ? ORDER BY place DESC LIMIT ? OFFSET ?
)
"""
# Anybody may have written them: a time that is none is too old. SQLite has text and blobs after all
# numbers.
_OLDEST = """
SELECT (SELECT min(kept) <= :ended FROM past WHERE kept IS NOT NULL),
    (SELECT max(kept) >= '' FROM past WHERE kept IS NOT NULL),
    (SELECT max(rowid) FROM past), (SELECT min(seq) FROM event),
    (SELECT kept <= :happened OR kept >= '' FROM event ORDER BY seq LIMIT 1)
"""
OF_PAST = ", ".join(f"past.{column}" for column in COLUMNS.split(", "))


def put(step: Step, session: Session, is_back: bool) -> None:
    """Take note of a session that is new or has changed. ``is_back``: it had ended with a lease."""
    db, now = step.db, step.wall
    row = db.execute(f"SELECT {COLUMNS} FROM past WHERE id = ?", (session.id,)).fetchone()
    before = None if row is None else past_of(row[:-1], row[-1])
    past, visits = begin(session, now) if before is None else go_on(before, session, now)
    if before is None:
        _insert(db, session, past)
    else:
        db.execute(
            f"UPDATE past SET (login, place, {COLUMNS}) = ({', '.join('?' * 11)}), kept = NULL,"
            " text = NULL WHERE id = ?",
            (session.login, place(past), *_values(past), session.id),
        )
    about = session.id, session.login, session.server_id
    if before is None or before.ended is not None:
        note(step, What.SESSION_BEGAN, *about, {"again": True} if is_back else {})
        visits = Visits() if is_back else visits
    now_so = {"clients": session.clients, "addresses": list(addresses_of(session))}
    for what, count in ((What.CLIENT_LEFT, visits.left), (What.CLIENT_CONNECTED, visits.came)):
        for _ in range(count):
            note(step, what, *about, now_so)


def add(step: Step, record: PastRecord, age: float) -> bool:
    """Add a session that ended ``age`` seconds ago, unless there is one of that id; return whether
    it was added."""
    values = record.id, record.login, place(record.past), *_values(record.past), record.text
    return bool(
        step.db.execute(
            f"INSERT OR IGNORE INTO past (id, login, place, {COLUMNS}, text, kept) VALUES"
            f" ({', '.join('?' * 14)})",
            (*values, step.now - age),
        ).rowcount
    )


def end_sessions(step: Step, ids: Iterable[str], said: str = "") -> None:
    """Take note of sessions that end in this step, before they do; ``said`` are members of each
    event, in JSON."""
    all_alike = {"now": step.wall, "kept": step.now, "name": step.name, "said": said}
    values = [
        {**all_alike, "id": name, "login": login, "server_id": server_id, "text": text}
        for name in ids
        for login, server_id, text in step.db.execute(
            "SELECT login, server_id, text FROM session WHERE id = ?", (name,)
        )
    ]
    step.db.executemany(_END_PAST, values)
    step.db.executemany(_NOTE_END, values)
    if values:
        [last] = step.db.execute("SELECT last_insert_rowid()").fetchone()
        if (last - len(values)) // COUNT_AFTER != last // COUNT_AFTER:
            for login in {each["login"] for each in values}:
                _drop_too_much(step.db, login)


def note_params(step: Step, record: Record, names: Sequence[str]) -> None:
    """Take note of params that are set: of their names, for what they say is the portal's."""
    about = record.id, record.login, record.server_id
    note(step, What.PARAMS_SET, *about, {"names": names})


def note(
    step: Step,
    what: What,
    session_id: str | None = None,
    login: str | None = None,
    server_id: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Add an event of this step."""
    added = step.db.execute(
        "INSERT INTO event (name, at, kept, what, session, login, server_id, more) VALUES (?, ?, ?,"
        " ?, ?, ?, ?, ?)",
        (
            step.name,
            step.wall,
            step.now,
            what.value,
            session_id,
            login,
            server_id,
            to_json(more) if more else None,
        ),
    )
    if (added.lastrowid or 0) % COUNT_AFTER == 0:
        _drop_too_much(step.db, login)


def _drop_too_much(db: sqlite3.Connection, login: str | None) -> None:
    """Drop what there is too much of: of the sessions of ``login`` that have ended, and of its
    events and all."""
    db.execute(_DROP_OLDEST, (login, RUNNING, FORGET_AT_ONCE, MAX_KEPT_OF_LOGIN))
    too_many = db.execute(
        "SELECT seq FROM event WHERE login = ? ORDER BY seq DESC LIMIT ? OFFSET ?",
        (login, FORGET_AT_ONCE, MAX_EVENTS_OF_LOGIN),
    ).fetchall()
    if too_many:
        db.executemany("DELETE FROM event WHERE seq = ?", too_many)
        db.execute(
            "INSERT INTO event_dropped VALUES (1, ?) ON CONFLICT DO UPDATE SET seq = max(seq,"
            " excluded.seq)",
            too_many[0],
        )
    # Each by itself, which is looked up: both in one, all are looked at
    [span] = db.execute(
        "SELECT (SELECT max(seq) FROM event) - (SELECT min(seq) FROM event)"
    ).fetchone()
    if (span or 0) < MAX_KEPT:
        return
    [count] = db.execute("SELECT count(*) FROM event").fetchone()
    if count > MAX_KEPT:
        db.execute(
            "DELETE FROM event WHERE seq < (SELECT seq FROM event ORDER BY seq LIMIT 1 OFFSET ?)",
            (min(count - MAX_KEPT, FORGET_AT_ONCE),),
        )


def forget(step: Step) -> None:
    """Forget some of what is too old, by the store's own clock, or too much."""
    db = step.db
    ended_before = step.now - step.keep
    happened_before = step.now - max(step.keep, LEAST_EVENTS_SECONDS)
    # As a rule there is nothing to forget, which this tells at once
    is_old, is_odd, last, first_event, is_old_event = db.execute(
        _OLDEST, {"ended": ended_before, "happened": happened_before}
    ).fetchone()
    if is_old or is_odd or (last is not None and last > MAX_KEPT):
        for condition, bound in (
            ("kept <= ? ORDER BY kept", ended_before),
            ("kept >= ?", ""),
            ("rowid <= (SELECT max(rowid) FROM past) - ? ORDER BY rowid", MAX_KEPT),
        ):
            db.execute(
                "DELETE FROM past WHERE rowid IN (SELECT rowid FROM past WHERE kept IS NOT NULL"
                f" AND {condition} LIMIT {FORGET_AT_ONCE})",
                (bound,),
            )
    if is_old_event:
        db.execute(
            "DELETE FROM event WHERE seq < ? AND (kept <= ? OR kept >= '')",
            (first_event + FORGET_AT_ONCE, happened_before),
        )


def upgrade(db: sqlite3.Connection, wall: int) -> None:
    """Give those that run in an older store a past."""
    rows = db.execute(
        "SELECT text FROM session WHERE ended IS NULL AND id NOT IN (SELECT id FROM past)"
    ).fetchall()
    for (text,) in rows:
        with suppress(ValueError, TypeError, AttributeError):  # anybody may have written it
            session = decode(text)
            _insert(db, session, begin(session, wall)[0])


def _insert(db: sqlite3.Connection, session: Session, past: Past) -> None:
    db.execute(
        f"INSERT OR REPLACE INTO past (id, login, place, {COLUMNS}) VALUES ({', '.join('?' * 12)})",
        (session.id, session.login, place(past), *_values(past)),
    )


def _values(past: Past) -> tuple[Any, ...]:
    return (
        *(past.began, past.ended, past.connected, past.since, past.clients, past.started),
        *(past.last_connect, past.last_disconnect, to_json(past.addresses)),
    )
