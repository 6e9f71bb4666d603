"""Leases in the SQLite store: rows of its table ``server``, looked at within a transaction of the
caller's.

They run by the time that the machine has been awake since it was booted (CLOCK_MONOTONIC), which
nobody sets and which stands still while the machine sleeps. After a boot each lease begins anew,
since nobody was there to renew it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from fastx_list.store import MAX_REPLACED, Held, Lease

UPGRADE_SECONDS = 60  # for the servers in a store that was made before there were leases

# The column ``view`` holds the edition of a server.
SCHEMA = """
CREATE TABLE IF NOT EXISTS server (
    id TEXT PRIMARY KEY, revision INTEGER UNIQUE, text TEXT, ended INTEGER, view TEXT, holder TEXT,
    instance TEXT, host TEXT, seconds REAL, boot TEXT, expires REAL, rival TEXT, rival_until REAL
);
CREATE TABLE IF NOT EXISTS remembered (
    id TEXT PRIMARY KEY, server_id TEXT NOT NULL, login TEXT NOT NULL, params TEXT NOT NULL,
    text TEXT NOT NULL, since INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS remembered_server ON remembered (server_id);
"""


def clock() -> float:
    """Return the seconds by which leases run."""
    return time.monotonic()


@cache
def boot() -> str:
    """Return the name of this boot of the machine, within which :func:`clock` is one clock."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def next_end(db: sqlite3.Connection) -> float | None:
    """Return when the next lease runs out, by :func:`clock`; ``None`` if there is none."""
    end: float | None = db.execute(
        "SELECT min(CASE WHEN boot = ? THEN expires ELSE 0 END) FROM server WHERE"
        " typeof(expires) IN ('real', 'integer')",
        (boot(),),
    ).fetchone()[0]
    return end


def claim(db: sqlite3.Connection, server_id: str, lease: Lease) -> str | None:
    """Take or renew the lease; if another agent holds it, note that this one wanted it and return
    the other's host."""
    begin_anew_after_boot(db)
    now = clock()
    row = db.execute(
        "SELECT holder, instance, host FROM server WHERE id = ? AND expires > ?", (server_id, now)
    ).fetchone()
    # The one that holds it, and those that it replaced, the last one first
    instances = [lease.instance]
    if row is not None and row[0] is not None:
        holder, known, host = row[0], str(row[1]).split() or [""], row[2]
        if holder != lease.holder or lease.instance in known[1:]:
            db.execute(
                "UPDATE server SET rival = ?, rival_until = ? WHERE id = ?",
                (lease.host, now + lease.seconds, server_id),
            )
            return str(host)
        instances = (
            known if known[0] == lease.instance else [lease.instance, *known][: 1 + MAX_REPLACED]
        )
    db.execute("INSERT OR IGNORE INTO server (id) VALUES (?)", (server_id,))
    db.execute(
        "UPDATE server SET ended = NULL, holder = ?, instance = ?, host = ?, seconds = ?, boot = ?,"
        " expires = ? WHERE id = ?",
        (
            lease.holder,
            " ".join(instances),
            lease.host,
            lease.seconds,
            boot(),
            now + lease.seconds,
            server_id,
        ),
    )
    return None


def held(db: sqlite3.Connection, server_id: str) -> Held | None:
    """Return who holds the lease."""
    now = clock()
    row = db.execute(
        "SELECT holder, host, CASE WHEN rival_until > ? THEN rival END FROM server WHERE id = ? AND"
        " boot = ? AND expires > ? AND holder IS NOT NULL",
        (now, server_id, boot(), now),
    ).fetchone()
    return None if row is None else Held(*row)


def begin_anew_after_boot(db: sqlite3.Connection) -> None:
    """Give the leases of another boot their full time again."""
    now_boot = boot()
    db.execute(
        "UPDATE server SET boot = ?, expires = ? + seconds, rival = NULL WHERE expires IS NOT NULL"
        " AND boot <> ?",
        (now_boot, clock(), now_boot),
    )


def expire(db: sqlite3.Connection, next_revision: Callable[[], int]) -> None:
    """End what has outlived its lease: the servers and their sessions, which are remembered."""
    begin_anew_after_boot(db)
    now = int(time.time())
    for (server_id,) in db.execute(
        "SELECT id FROM server WHERE expires <= ? ORDER BY id", (clock(),)
    ).fetchall():
        running = "FROM session WHERE server_id = ? AND ended IS NULL"
        db.execute(
            "INSERT OR REPLACE INTO remembered SELECT id, server_id, login, params, text, ?"
            f" {running}",
            (now, server_id),
        )
        for (session_id,) in db.execute(
            f"SELECT id {running} ORDER BY id", (server_id,)
        ).fetchall():
            db.execute(
                "UPDATE session SET revision = ?, digest = NULL, params = '{}', text = NULL, ended"
                " = ? WHERE id = ?",
                (next_revision(), now, session_id),
            )
        db.execute(
            "UPDATE server SET revision = ?, text = NULL, ended = ?, view = NULL, holder = NULL,"
            " expires = NULL, rival = NULL WHERE id = ?",
            (next_revision(), now, server_id),
        )


def upgrade(db: sqlite3.Connection) -> None:
    """Give the servers of a store of version 1 a lease that nobody holds: the first agent takes
    it."""
    db.execute(
        "INSERT OR IGNORE INTO server (id, seconds, boot, expires) SELECT DISTINCT server_id, ?, ?,"
        " ? FROM session WHERE ended IS NULL",
        (UPGRADE_SECONDS, boot(), clock() + UPGRADE_SECONDS),
    )
