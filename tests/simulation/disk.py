"""The database of a history: real SQLite on a file system in memory, whose connections fail on
cue."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastx_list.store import Revision
from fastx_list.store.sqlite_harm import identity as real_identity
from tests.simulation.clock import clock

# What SQLite says of each kind of failure
FULL, BROKEN, LOCKED = "database or disk is full", "disk I/O error", "database is locked"
READ_ONLY = "attempt to write a readonly database"
SUFFIXES = ("", "-wal", "-shm")


class Killed(BaseException):
    """The process that makes this call is no longer there."""


@dataclass
class Cue:
    """What is to happen at a statement of one process."""

    statements: int  # until it happens
    kind: str  # one of KINDS
    meanwhile: Callable[[], None] | None = None  # what others do then


class Connection(sqlite3.Connection):
    """A connection of one process of the history, while nothing befalls anybody."""

    def begin(self, disk: Disk, owner: str) -> None:
        self.disk = disk
        self.owner = owner
        self.is_writing = False  # within BEGIN IMMEDIATE
        self.is_dead = False  # its process was killed

    def _try(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        """Run a statement under the conditions of the disk."""
        condition = self.disk.condition
        if condition == "unreadable":
            raise sqlite3.OperationalError(BROKEN)
        if sql == "BEGIN IMMEDIATE":
            if condition == "read-only":
                raise sqlite3.OperationalError(READ_ONLY)
            if condition == "locked":
                raise sqlite3.OperationalError(LOCKED)
            self.is_writing = True
        elif sql in ("COMMIT", "ROLLBACK"):
            was_writing, self.is_writing = self.is_writing, False
            if was_writing and sql == "COMMIT" and condition == "full":
                super().execute("ROLLBACK")
                raise sqlite3.OperationalError(FULL)
        return super().execute(sql, *parameters)

    def _fail(self, cue: Cue, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if cue.kind == "meanwhile":
            assert cue.meanwhile is not None
            cue.meanwhile()
            return self._try(sql, *parameters)
        if cue.kind == "killed after":
            self._try(sql, *parameters)
        if cue.kind.startswith("killed"):
            self.is_dead = True
            raise Killed
        if cue.kind == "torn":  # in the middle of the statement
            self.set_progress_handler(lambda: 1, 3)
            try:
                return self._try(sql, *parameters)
            finally:
                self.set_progress_handler(None, 0)
        if cue.kind == "broken after":
            self._try(sql, *parameters)
            raise sqlite3.OperationalError(BROKEN)
        if cue.kind == "full":
            if self.in_transaction:  # which SQLite rolls back, then
                super().execute("ROLLBACK")
            raise sqlite3.OperationalError(FULL)
        raise sqlite3.OperationalError(LOCKED if cue.kind == "locked" else BROKEN)


class TroubledConnection(Connection):
    """The same, while something does."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if self.is_dead:
            raise Killed
        cue = self.disk.next_cue(self.owner)
        if cue is not None:
            return self._fail(cue, sql, *parameters)
        return self._try(sql, *parameters)


CONDITIONS = ("full", "read-only", "unreadable", "locked")
KINDS = ("broken", "broken after", "full", "locked", "torn", "killed", "killed after")


@dataclass
class Disk:
    """Where the database is, and what befalls it."""

    path: Path  # of the database
    condition: str | None = None  # one of CONDITIONS
    is_calm: bool = True  # whether nothing befalls it
    acting: str = ""  # whose turn it is
    connections: dict[str, list[Connection]] = field(default_factory=dict)  # by process
    _cues: dict[str, Cue] = field(default_factory=dict)  # by process
    _copies: int = 0  # that were made
    identity: tuple[int, int] | None = None  # of the file, once it was asked for

    def set_condition(self, condition: str | None) -> None:
        self.condition = condition
        self._look()

    def set_cue(self, owner: str, cue: Cue | None) -> None:
        if cue is None:
            self._cues.pop(owner, None)
        else:
            self._cues[owner] = cue
        self._look()

    def next_cue(self, owner: str) -> Cue | None:
        """Return what is to happen at this statement."""
        cue = self._cues.get(owner)
        if cue is None:
            return None
        cue.statements -= 1
        if cue.statements > 0:
            return None
        self.set_cue(owner, None)
        if cue.kind.startswith("killed"):
            self._be_calm(False)  # until the process is buried
        return cue

    def calm_down(self) -> None:
        """Let nothing befall the disk any more."""
        self.condition = None
        self._cues.clear()
        self._look()

    def bury(self, owner: str) -> None:
        """Let go of everything of a process that has ended, as the kernel does."""
        for connection in self.connections.pop(owner, ()):
            connection.close()
        self.set_cue(owner, None)

    def close(self) -> None:
        for owner in list(self.connections):
            self.bury(owner)

    def _look(self) -> None:
        dead = any(each.is_dead for them in self.connections.values() for each in them)
        self._be_calm(self.condition is None and not self._cues and not dead)

    def _be_calm(self, is_calm: bool) -> None:
        if is_calm != self.is_calm:
            self.is_calm = is_calm
            for them in self.connections.values():
                for each in them:
                    each.__class__ = self.kind

    @property
    def kind(self) -> type[Connection]:
        """The class of connections now."""
        return Connection if self.is_calm else TroubledConnection

    def open(self) -> sqlite3.Connection:
        """Return a connection of nobody's to the database."""
        return sqlite3.connect(self.path, timeout=0, isolation_level=None)

    # What administrators do

    def copy(self) -> Path:
        """Return a copy of the database, as SQLite's backup makes it."""
        self._copies += 1
        path = self.path.with_name(f"copy{self._copies}")
        source, target = self.open(), sqlite3.connect(path)
        try:
            source.backup(target)
            return path
        finally:
            source.close()
            target.close()

    def restore(self, copy: Path) -> bool:
        """Write the copy into the database that is there, as SQLite's backup does; return whether
        that could be done."""
        source, target = sqlite3.connect(copy), self.open()
        try:
            target.execute("BEGIN IMMEDIATE")  # the backup itself would wait for ever
            target.execute("ROLLBACK")
            source.backup(target)
            return True
        except sqlite3.OperationalError:
            return False  # somebody was writing
        finally:
            target.close()
            source.close()

    def remove(self) -> None:
        self.identity = None
        for suffix in SUFFIXES:
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def replace(self, copy: Path) -> None:
        """Put the copy in the place of the database, as another file."""
        self.remove()
        self.path.write_bytes(copy.read_bytes())


def revision_of(copy: Path) -> Revision | None:
    """Return the last revision in this copy, if it has any."""
    with closing(sqlite3.connect(copy)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'step'").fetchone():
            return None  # it is of a database that was just made
        row = db.execute("SELECT revision, name FROM step ORDER BY revision DESC").fetchone()
        return row and Revision(*row)


current = Disk(Path())  # that of the history that runs


def identity(file: Path) -> tuple[int, int] | None:
    """See :func:`fastx_list.store.sqlite_harm.identity`. Only what is done here changes it."""
    if file is not current.path:
        return real_identity(file)
    if current.identity is None:
        current.identity = real_identity(file)
    return current.identity


def connect(path: Path, **options: Any) -> sqlite3.Connection:
    """Open a connection of the process whose turn it is, which waits for nobody."""
    connection = sqlite3.connect(path, **{**options, "timeout": 0, "factory": current.kind})
    assert isinstance(connection, Connection)
    connection.begin(current, current.acting)
    connection.create_function("randomblob", 1, clock.random_bytes)
    current.connections.setdefault(current.acting, []).append(connection)
    return connection
