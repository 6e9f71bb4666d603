"""Leases in the SQLite store: rows of its table ``server``, looked at within a transaction of the
caller's.

They run by a clock in the store, which goes on with every write. It counts the time that the
machine has been awake (CLOCK_MONOTONIC), which nobody sets, but of a pause in which nobody could
write, or nobody ran, no more than one and a half beats: agents have missed such a time and are not
dead for it. Whoever writes first afterwards leaves the others a beat at least. While a renewal is
missing readers write, too, so that the clock goes on without any agent. After a boot each lease
begins anew, since nobody was there to renew it.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fastx_list.model.event import What
from fastx_list.store import AT_ONCE, MAX_REPLACED, Held, Lease, Record
from fastx_list.store.beats import LATE, MAX_LEASE, Beats, Renewal
from fastx_list.store.division import UNFINISHED, is_unfinished
from fastx_list.store.records import params_of
from fastx_list.store.sqlite_order import Step
from fastx_list.store.sqlite_past import end_sessions, note

UPGRADE_SECONDS = 60  # for the servers in a store that was made before there were leases

# The column ``view`` holds the edition of a server.
SCHEMA = """
CREATE TABLE IF NOT EXISTS server (
    id TEXT PRIMARY KEY, revision INTEGER UNIQUE, text TEXT, ended INTEGER, view TEXT, holder TEXT,
    instance TEXT, host TEXT, seconds REAL, boot TEXT, expires REAL, rival TEXT, rival_until REAL,
    renewed REAL
);
CREATE TABLE IF NOT EXISTS lease_clock (
    one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT, at REAL, now REAL
);
CREATE TABLE IF NOT EXISTS remembered (
    id TEXT PRIMARY KEY, server_id TEXT NOT NULL, login TEXT NOT NULL, params TEXT NOT NULL,
    text TEXT NOT NULL, since INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS remembered_server ON remembered (server_id);
"""

_NUMBERS = "('real', 'integer')"
# Whose lease is one; SQLite takes values of all types in any column
_LEASED = (
    f"typeof(expires) IN {_NUMBERS} AND typeof(seconds) IN {_NUMBERS} AND typeof(renewed) IN"
    " ('real', 'null') AND seconds > 0"
)
_CLOCK = f"""
SELECT boot, at, now, shortest FROM (SELECT min(seconds) AS shortest FROM server WHERE {_LEASED})
    LEFT JOIN lease_clock ON typeof(at) = 'real' AND typeof(now) = 'real'
"""


def clock() -> float:
    """Return the seconds by which leases run."""
    return time.monotonic()


@cache
def boot() -> str:
    """Return the name of this boot of the machine, within which :func:`clock` is one clock."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def edition(db: sqlite3.Connection, server_id: str) -> str | None:
    """Return the edition of a server."""
    row = db.execute("SELECT view FROM server WHERE id = ?", (server_id,)).fetchone()
    return row[0] if row else None


def look(db: sqlite3.Connection, beats: Beats) -> None:
    """Let ``beats`` see when each lease was renewed. What was renewed before a boot is older than
    any lease, for nobody can have renewed it since."""
    now = clock()  # first, so that nothing seems renewed later than it was
    renewals = [
        Renewal(
            server_id,
            (booted, renewed, expires),
            seconds,
            now - renewed if booted == boot() else math.inf,
            not is_unfinished(view),
        )
        for server_id, booted, renewed, expires, seconds, view in db.execute(
            "SELECT id, boot, coalesce(renewed, expires - seconds), CASE WHEN renewed IS NULL THEN"
            f" expires END, seconds, view FROM server WHERE {_LEASED}"
        )
    ]
    beats.look(renewals, now)


def is_due(db: sqlite3.Connection) -> bool:
    """Return whether there is a lease to end, or the clock of leases is to go on."""
    pause, now, longest = _pause(db)
    [(first,)] = db.execute(f"SELECT min(expires) FROM server WHERE {_LEASED}")
    return first is not None and (pause >= longest / 2 or first <= now)


def claim(step: Step, server_id: str, lease: Lease) -> str | None:
    """Take or renew the lease; if another agent holds it, note that this one wanted it and return
    the other's host."""
    db = step.db
    now = advance(step)
    row = db.execute(
        "SELECT holder, instance, host FROM server WHERE id = ? AND expires > ?", (server_id, now)
    ).fetchone()
    # The one that holds it, and those that it replaced, the last one first
    instances = [lease.instance]
    if row is not None and row[0] is not None:
        holder, known, host = row[0], str(row[1]).split() or [""], row[2]
        is_ours = holder == lease.holder or _place(known[0]) == _place(lease.instance) != ""
        if not is_ours or lease.instance in known[1:]:
            db.execute(
                "UPDATE server SET rival = ?, rival_until = ? WHERE id = ?",
                (lease.host, now + lease.seconds, server_id),
            )
            return str(host)
        instances = (
            known if known[0] == lease.instance else [lease.instance, *known][: 1 + MAX_REPLACED]
        )
    if row is None or row[0] is None:
        note(step, What.SERVER_CAME, server_id=server_id, more={"hostname": lease.host})
    db.execute(
        "INSERT INTO server (id, holder, instance, host, seconds, boot, renewed, expires) VALUES"
        " (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET ended = NULL, holder ="
        " excluded.holder, instance = excluded.instance, host = excluded.host, seconds ="
        " excluded.seconds, boot = excluded.boot, renewed = excluded.renewed, expires ="
        " excluded.expires",
        (
            server_id,
            lease.holder,
            " ".join(instances),
            lease.host,
            lease.seconds,
            boot(),
            clock(),
            now + lease.seconds,
        ),
    )
    return None


def _place(instance: str) -> str:
    return instance.rpartition("-")[0]


def held(db: sqlite3.Connection, server_id: str, now: float | None = None) -> Held | None:
    """Return who holds the lease; ``now`` is what the clock of leases says, if that is known."""
    if now is None:
        _, now, _ = _pause(db)
    row = db.execute(
        "SELECT holder, host, CASE WHEN rival_until > ? THEN rival END FROM server WHERE id = ? AND"
        " boot = ? AND expires > ? AND holder IS NOT NULL",
        (now, server_id, boot(), now),
    ).fetchone()
    return None if row is None else Held(*row)


def advance(step: Step) -> float:
    """Let the clock of leases go on, once in a step, and return what it says. After a boot all
    leases get their full time again."""
    if step.lease_clock is None:
        db = step.db
        pause, step.lease_clock, _ = _pause(db)
        now = step.lease_clock
        if pause == math.inf:
            db.execute(
                f"UPDATE server SET expires = ? + seconds, rival = NULL WHERE {_LEASED}", (now,)
            )
        db.execute("INSERT OR REPLACE INTO lease_clock VALUES (1, ?, ?, ?)", (boot(), clock(), now))
    return step.lease_clock


def _pause(db: sqlite3.Connection) -> tuple[float, float, float]:
    """Return for how many seconds nobody has written (``inf``: not since a boot), what the clock of
    leases says now, and how many seconds of a pause count."""
    booted, at, said, shortest = db.execute(_CLOCK).fetchone()
    longest = LATE * (MAX_LEASE if shortest is None else float(shortest))
    if said is None:
        return math.inf, clock(), longest
    if booted != boot():
        return math.inf, said, longest
    pause = max(0.0, clock() - at)
    return pause, said + min(pause, longest), longest


def expire(step: Step) -> bool:
    """End what has outlived its lease: servers and their sessions, which are remembered, no more
    than make one step. Return whether there is more."""
    db, now, next_revision = step.db, step.now, step.next_revision
    clock_now, room = advance(step), AT_ONCE
    for (server_id,) in db.execute(
        "SELECT id FROM server WHERE expires <= ? ORDER BY id", (clock_now,)
    ).fetchall():
        if room <= 0:
            return True
        running = "FROM session WHERE server_id = ? AND ended IS NULL ORDER BY id LIMIT ?"
        db.execute(
            "INSERT OR REPLACE INTO remembered SELECT id, server_id, login, params, text, ?"
            f" {running}",
            (now, server_id, room),
        )
        ended = db.execute(f"SELECT id {running}", (server_id, room)).fetchall()
        end_sessions(step, (session_id for (session_id,) in ended), ',"serverLost":true')
        db.executemany(
            "UPDATE session SET revision = ?, digest = NULL, params = '{}', text = NULL, ended = ?"
            " WHERE id = ?",
            ((next_revision(), now, session_id) for (session_id,) in ended),
        )
        room -= len(ended)
        if db.execute(f"SELECT 1 {running}", (server_id, 1)).fetchone():
            # An agent that comes back writes all again
            db.execute("UPDATE server SET view = NULL WHERE id = ?", (server_id,))
            return True
        db.execute(
            "UPDATE server SET revision = ?, text = NULL, ended = ?, view = NULL, holder = NULL,"
            " expires = NULL, rival = NULL WHERE id = ?",
            (next_revision(), now, server_id),
        )
        note(step, What.SERVER_LOST, server_id=server_id)
    return False


def remember(db: sqlite3.Connection, records: Sequence[Record], now: float) -> int:
    """Keep in mind sessions of another store that do not run here; return of how many. Agents that
    run write once more, and forget those of their own that have ended. ``now`` is by the store's
    own clock."""
    kept = db.executemany(
        "INSERT OR IGNORE INTO remembered SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1"
        " FROM session WHERE id = ?1 AND ended IS NULL)",
        (
            (each.id, each.server_id, each.login, params_of(each), each.text, now)
            for each in records
        ),
    ).rowcount
    db.executemany(
        f"UPDATE server SET view = view || '{UNFINISHED}' WHERE id = ?1 AND view NOT LIKE"
        f" '%{UNFINISHED}' AND EXISTS (SELECT 1 FROM remembered WHERE server_id = ?1)",
        ((server_id,) for server_id in {each.server_id for each in records}),
    )
    return kept


def upgrade(db: sqlite3.Connection) -> None:
    """Bring the leases of an older store up to date. The servers of a store of version 1 get one
    that nobody holds: the first agent takes it."""
    if "renewed" not in {row[1] for row in db.execute("PRAGMA table_info(server)")}:
        db.execute("ALTER TABLE server ADD COLUMN renewed REAL")
    now = clock()
    if db.execute(
        "INSERT OR IGNORE INTO lease_clock VALUES (1, ?, ?, ?)", (boot(), now, now)
    ).rowcount:
        # Those of before are by the clock of whatever boot that was
        db.execute(f"UPDATE server SET expires = ? + seconds, rival = NULL WHERE {_LEASED}", (now,))
    db.execute(
        "INSERT OR IGNORE INTO server (id, seconds, boot, expires) SELECT DISTINCT server_id, ?, ?,"
        " ? FROM session WHERE ended IS NULL",
        (UPGRADE_SECONDS, boot(), clock() + UPGRADE_SECONDS),
    )
