"""A database that is deleted, exchanged, restored, damaged or locked while all use it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.chaos.faults.table import UNDER, fault, hold, hold_until_stale
from tests.chaos.world import World

BUSY_SECONDS = 60.0
PAGE = 4096


def database_files(world: World) -> list[Path]:
    return [
        path
        for suffix in ("", "-wal", "-shm")
        if (path := world.database.with_name(world.database.name + suffix)).exists()
    ]


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)


def _copy(world: World) -> Path:
    """Save it as it is now; return the copy."""
    copy = world.place / "copy.db"
    copy.unlink(missing_ok=True)
    with closing(_connect(world.database)) as source, closing(_connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
    return copy


@fault("sqlite")
def database_deleted(world: World) -> Iterator[None]:
    """Params are lost."""
    world.knows_less()
    for path in database_files(world):
        path.unlink(missing_ok=True)
    yield


@fault("sqlite")
def database_exchanged_for_an_older_one(world: World) -> Iterator[None]:
    """Put in its place with one step, as rename(2) does."""
    copy = _copy(world)
    notes = {session: list(session.notes or [0]) for session in world.truth.running}
    yield
    world.knows_less()
    for session, before in notes.items():
        session.notes += before
    draft = world.database.with_name("draft")
    shutil.copy(copy, draft)
    os.chmod(draft, 0o600)
    for path in database_files(world)[1:]:
        path.unlink(missing_ok=True)
    draft.rename(world.database)


@fault("sqlite")
def database_restored_online(world: World) -> Iterator[None]:
    """By SQLite's own way to do so."""
    copy = _copy(world)
    notes = {session: list(session.notes or [0]) for session in world.truth.running}
    yield
    world.knows_less()
    for session, before in notes.items():
        session.notes += before
    with closing(_connect(copy)) as source, closing(_connect(world.database)) as target:
        source.backup(target)


@fault("sqlite")
def database_locked(world: World) -> Iterator[None]:
    with closing(_connect(world.database)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        hold(world, UNDER)
        db.execute("ROLLBACK")


@fault("sqlite", weight=2)
def database_locked_for_long(world: World) -> Iterator[None]:
    with closing(_connect(world.database)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        hold(world)
        db.execute("ROLLBACK")


@fault("sqlite", weight=1, is_quick=False)
def database_locked_until_all_must_know(world: World) -> Iterator[None]:
    with closing(_connect(world.database)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        hold_until_stale(world)
        db.execute("ROLLBACK")


def _damaged(world: World) -> Iterator[None]:
    """An administrator removes it after a while, as the message says."""
    world.knows_less()
    world.truth.excuses.statuses |= {500}
    yield
    hold(world, UNDER)
    for path in database_files(world):
        path.unlink(missing_ok=True)


@fault("sqlite")
def database_truncated(world: World) -> Iterator[None]:
    size = world.database.stat().st_size
    for _ in _damaged(world):
        os.truncate(world.database, world.chance.choice((0, size // 2, 100)))
        yield


@fault("sqlite")
def database_corrupted(world: World) -> Iterator[None]:
    for _ in _damaged(world):
        with open(world.database, "r+b") as file:
            for _ in range(world.chance.randint(1, 8)):
                file.seek(world.chance.randrange(max(1, world.database.stat().st_size)))
                file.write(world.chance.randbytes(PAGE))
        yield
