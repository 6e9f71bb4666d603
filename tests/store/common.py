"""What the tests of the stores share."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis as client_library

from fastx_list.model.server import Server
from fastx_list.model.session import Session
from fastx_list.store import Changes, Lease, Store, StoreError, redis
from tests.support import wait_for

# Processes of their own: none shares an open database with its parent
SPAWN = multiprocessing.get_context("spawn")
NOW = 1_700_000_000
# An expiry that no clock reaches here: what has expired may be forgotten before it was seen
FAR = 2**40
NOBODY = 65534
SHORT = 0.05  # seconds of a lease that is over before anybody looks
PATIENCE = 60.0  # seconds until a test gives up on what should happen at once

# The tables of a SQLite store of the first version
TABLES_OF_VERSION_1 = """
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, horizon INTEGER NOT NULL,
    store TEXT NOT NULL
);
CREATE TABLE session (
    id TEXT PRIMARY KEY, revision INTEGER NOT NULL UNIQUE, server_id TEXT NOT NULL,
    login TEXT NOT NULL, digest TEXT, params TEXT NOT NULL, text TEXT, ended INTEGER
);
CREATE INDEX session_ended ON session (ended) WHERE ended IS NOT NULL;
CREATE INDEX session_server ON session (server_id) WHERE ended IS NULL;
CREATE TABLE revoked (
    jti TEXT PRIMARY KEY, revision INTEGER NOT NULL UNIQUE, expires INTEGER NOT NULL
);
"""


class OpenStore(Protocol):
    """Opens the store under test once more, as another process would."""

    def __call__(self, *, create: bool = True) -> Store: ...


class PassTime(Protocol):
    """Lets so many seconds pass for a store, or, unless they are ``passed``, moves its wall clock
    by them."""

    def __call__(self, seconds: float, passed: bool = True) -> None: ...


def write_anything(store: Store) -> None:
    """Make a step, with which the store forgets what is old."""
    store.heartbeat(make_server("any"), make_lease())


def address(path: Path) -> str:
    return f"sqlite:///{path}"


def make_session(
    number: int = 1, server_id: str = "s1", login: str = "alice", **facts: Any
) -> Session:
    return Session(
        id=f"{server_id}-{number}", login=login, server_id=server_id, hostname="host", **facts
    )


def make_server(server_id: str = "s1", **facts: Any) -> Server:
    return Server(id=server_id, hostname="host", **facts)


def make_lease(holder: str = "one", instance: str = "1", seconds: float = 3600) -> Lease:
    return Lease(holder, instance, f"host of {holder}", seconds)


def by_id(*sessions: Session) -> dict[str, Session]:
    return {session.id: session for session in sessions}


def running_in(store: Store) -> dict[str, Any]:
    return {record.id: json.loads(record.text or "null") for record in store.snapshot().records}


def params_in(store: Store, session_id: str = "s1-1") -> Any:
    return running_in(store)[session_id]["params"]


def is_unchanged(store: Store, before: Changes) -> bool:
    """Whether all is in ``store`` as it was in a snapshot ``before``, however long that is ago."""
    return replace(store.snapshot(), kept_from=before.kept_from) == before


def before_each_step(store: Store, patch: pytest.MonkeyPatch, call: Callable[[], object]) -> None:
    """Let ``call`` come before each step that ``store`` writes."""
    internals = vars(store)
    owner, name = (
        (internals["_script"], "run") if "_script" in internals else (internals["_file"], "writing")
    )
    real = getattr(owner, name)

    def first_the_other(*arguments: object) -> object:
        call()
        return real(*arguments)

    patch.setattr(owner, name, first_the_other)


def until_it_ran_out(store: Store, session_id: str = "s1-1") -> None:
    """Wait until the lease of this session's server has run out."""
    wait_for("the end of a lease", lambda: session_id not in running_in(store))


def remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def be_patient() -> None:
    """Let stores wait for Redis as long as it takes: how quickly a request gives up is no matter of
    most tests."""
    redis.QUICK = redis.PATIENT = PATIENCE, PATIENCE


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` in a process that is not used again; what it raises is raised here."""
    with ProcessPoolExecutor(1, mp_context=SPAWN, initializer=be_patient) as pool:
        return pool.submit(function, *arguments).result(PATIENCE)


def drop_rights() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def works(call: Callable[[], object]) -> bool:
    """Return whether the store takes the call."""
    try:
        call()
    except StoreError:
        return False
    return True


class Raw:
    """The keys of a store in Redis, for looking at and for doing harm."""

    def __init__(self, client: client_library.Redis, prefix: str) -> None:
        self.client: Any = client
        self.prefix = f"{{{prefix}}}:1:"

    def key(self, name: str) -> str:
        return self.prefix + name

    def all_keys(self) -> list[str]:
        return sorted(
            key.decode() for key in self.client.keys(self.prefix.replace("{", "\\{") + "*")
        )

    def empty(self) -> None:
        for key in self.all_keys():
            self.client.delete(key)
