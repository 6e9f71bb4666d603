"""A store in which somebody has written rubbish: nothing breaks, and what is sound is served."""

from __future__ import annotations

import logging
import random
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastx_list import create_app
from fastx_list.agent import identity
from fastx_list.agent.facts import Facts
from fastx_list.agent.keep import Agent
from fastx_list.agent.machine import Machine
from fastx_list.command.cli import main
from fastx_list.command.doctor import examine
from fastx_list.config import load
from fastx_list.live.frames import FramedEntry
from fastx_list.model.session import Session
from fastx_list.replica.replica import Replica
from fastx_list.store import Lease, StoreError, open_store, redis
from fastx_list.tokens import Tokens
from tests.redis_server import RedisServer, redis_server
from tests.store.common import Raw, be_patient

# Commands leave it to the end of their process to close a store
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("unmeasured"),  # the same again and again
]

LEASE = Lease("other", "1", "other.example", 3600)
RUBBISH = [
    b"",
    b"\xff\xfe",
    b"9" * 5000,
    b"-1",
    b"1e999",
    b"nan",
    b"null",
    b"[]",
    b'{"id":1}',
    b"[" * 100_000,
    b'{"id":"one","login":"alice","serverId":"away","hostname":"h","params":{"x":1e999}}',
    b'{"id":"one","login":"alice","serverId":"away","hostname":"h","params":{"x":"\\ud800"}}',
    b'{"id":"one","login":"alice","serverId":"away","hostname":"h","params":{},"started":"x"}',
    b'{"id":"one","login":"alice","serverId":"away","hostname":"h","params":{},"clients":1e300}',
    b'{"id":"one","login":"alice","serverId":"away","hostname":"h","params":{},"started":'
    + b"9" * 4000
    + b"}",
    b'{"id":"here","hostname":"h","loadavg":7,"loggedInUsers":[],"sessions":0}',
]


class Desktop:
    """A source that always sees one session."""

    def scan(self, machine: Machine) -> Iterable[Facts]:
        return [Facts(identity="seen", login="alice", started=1, clients=1)]


class Product:
    """Agent, list, sidecar's replica and command line on one store, in this process."""

    def __init__(self, directory: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.environ = {
            "FASTX_LIST_STATE_DIR": str(directory),
            "FASTX_LIST_SERVER_ID": "here",
            "FASTX_LIST_STORE": store,
            "FASTX_LIST_SOURCES": "spool",
        }
        for name, value in self.environ.items():
            monkeypatch.setenv(name, value)
        self.settings = load(self.environ)

    def fill(self) -> None:
        """Write a server that is there, with two sessions, a revoked token and params."""
        store = open_store(self.settings.store)
        sessions = [
            Session(id=name, login="alice", server_id="away", hostname="h", started=1)
            for name in ("one", "two")
        ]
        store.observe("away", {session.id: session for session in sessions}, LEASE)
        store.set_params("one", "alice", {"x": 1})
        store.revoke({"jti": 2**40})
        store.close()
        self.scan()

    def scan(self) -> str | None:
        store = open_store(self.settings.store)
        agent = Agent(self.settings, store, {"desktop": Desktop()})
        agent.scan()
        store.close()
        return agent.problem

    def use(self) -> set[str]:
        """Start and use all of it; return the ids of the sessions that the list serves."""
        self.scan()
        token = Tokens(self.settings).issue("alice", 3600, admin=True)
        app = create_app(self.environ)
        served: set[str] = set()
        with app.test_client() as client:
            for path in ("list", "admin/session", "admin/server"):
                for query in ("", "?sortBy=started&filter=clients%3D%3D1", "?sortBy=x"):
                    answer = client.get(f"/api/{path}/{token}{query}")
                    assert answer.status_code in (200, 503), (path, answer.text)
                    if answer.status_code == 200:
                        found = answer.json
                        assert isinstance(found, list)
                        if path == "list" and not query:
                            served = {session["id"] for session in found}
            for name in ("one", "two"):
                body = {"id": name, "params": {"y": 2}}
                answer = client.post(f"/api/params/{token}", json=body)
                assert answer.status_code in (200, 404, 503), answer.text
            for path in ("history", "admin/history", "events", "admin/events"):
                answer = client.get(f"/api/{path}/{token}")
                assert answer.status_code in (200, 503), (path, answer.text)
            assert client.get("/ready").status_code in (200, 503)
        app.extensions["fastx-list"].store.close()
        store = open_store(self.settings.store)
        replica = Replica(store, FramedEntry)
        replica.follow(0)
        assert all(entry.frame for entry in replica.entries("alice").values())
        with suppress(StoreError):
            store.archive.events(None, 100)
            store.archive.last_event()
        store.close()
        for finding in examine(self.environ):
            assert "Traceback" not in finding.text and "\n" not in finding.text
        for command in (["ls", "--all"], ["servers"], ["ls", "--login", "alice", "--json"]):
            done = CliRunner().invoke(main, command)
            assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return served


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "QUICK", redis.QUICK)
    monkeypatch.setattr(redis, "PATIENT", redis.PATIENT)
    be_patient()


def _hash(client: Any, key: str, value: bytes) -> None:
    for name in (*client.hkeys(key), value or b"empty"):
        client.hset(key, name, value)


WRITES: dict[str, Callable[[Any, str, bytes], object]] = {
    "head": lambda client, key, value: client.set(key, value),
    "view:here": lambda client, key, value: client.set(key, value),
    "changes": lambda client, key, value: client.xadd(
        key, {value: value, b"s": value, b"j": value}
    ),
    "events": lambda client, key, value: client.xadd(
        key, dict.fromkeys((b"n", b"w", b"k", b"a", b"s", b"l", b"v", b"m"), value)
    ),
    "revoked": lambda client, key, value: client.zadd(key, {value: float("inf"), b"a": 1e300}),
    **dict.fromkeys(
        ("past-kept", "past-places"),
        lambda client, key, value: client.zadd(key, {value: -1, "one": 1e300, "two": 1}),
    ),
    "expires": lambda client, key, value: client.zadd(key, {value: float("inf"), "here": 1e300}),
    **dict.fromkeys(
        (
            *("digests:here", "lease:here", "gone:here", "gone-params:here"),
            *("sessions", "servers", "params", "clock", "past", "past-texts"),
        ),
        _hash,
    ),
}


@pytest.mark.programs
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("name", WRITES)
def test_rubbish_in_a_key_of_redis_breaks_nothing(
    tmp_path: Path,
    server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    seed = random.Random(name)
    rubbish = [*RUBBISH, *(seed.randbytes(seed.randrange(1, 40)) for _ in range(4))]
    with server.client(db=1) as client:
        for value in rubbish:
            prefix = secrets.token_hex(8)
            url = f"{server.socket_url}?db=1&prefix={prefix}"
            product, raw = Product(tmp_path, url, monkeypatch), Raw(client, prefix)
            product.fill()
            WRITES[name](client, raw.key(name), value)
            product.use()
            assert "Traceback" not in caplog.text
            raw.empty()


@pytest.mark.programs
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("name", WRITES)
def test_a_key_of_redis_that_is_of_another_kind_is_named(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    prefix = secrets.token_hex(8)
    product = Product(tmp_path, f"{server.socket_url}?db=1&prefix={prefix}", monkeypatch)
    session = Session(id="new", login="alice", server_id="here", hostname="h")
    lease = Lease(identity.read(product.settings), "9", "here.example", 3600)
    with server.client(db=1) as client:
        raw = Raw(client, prefix)
        product.fill()
        client.delete(raw.key(name))
        if name in ("head", "view:here"):
            client.rpush(raw.key(name), "mine")
        else:
            client.set(raw.key(name), "mine")
        store = open_store(product.settings.store)
        said = []
        for call in (
            store.snapshot,
            lambda: store.recall("here"),
            lambda: store.edition("here"),
            lambda: store.observe("here", {"new": session}, lease),
            lambda: store.revoke({"another": 2**40}),
        ):
            try:
                call()
            except StoreError as error:
                said.append(str(error))
        store.close()
        assert said and all(raw.key(name) in each and len(each) < 1000 for each in said), said
        product.use()
        client.delete(raw.key(name))
        assert product.scan() is None
        raw.empty()


@pytest.mark.programs
@pytest.mark.usefixtures("patient")
def test_what_is_sound_beside_rubbish_in_redis_is_served(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = secrets.token_hex(8)
    product = Product(tmp_path, f"{server.socket_url}?db=1&prefix={prefix}", monkeypatch)
    with server.client(db=1) as client:
        raw = Raw(client, prefix)
        product.fill()
        everything = product.use()
        assert len(everything) == 3
        for number, value in enumerate(RUBBISH):
            client.hset(raw.key("sessions"), f"odd{number}", value)
            client.hset(raw.key("servers"), f"odd{number}", value)
            client.hset(raw.key("digests:here"), value, value)
            client.zadd(raw.key("revoked"), {value: float("inf")})
        assert product.use() == everything
        client.hset(raw.key("sessions"), "one", RUBBISH[-2])
        assert product.use() == everything - {"one"}
        raw.empty()


VALUES = [
    *(None, -1, 2**63 - 1, 1e999, b"\xff", "", "x", *RUBBISH),
    *(value.decode(errors="replace") for value in RUBBISH),
]


def _columns() -> list[tuple[str, str]]:
    from fastx_list.store import sqlite_file

    db = sqlite3.connect(":memory:")
    db.executescript(sqlite_file._SCHEMA)
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = [
        (table, row[1]) for table in tables for row in db.execute(f"PRAGMA table_info({table})")
    ]
    db.close()
    return found


@pytest.mark.parametrize(("table", "column"), _columns())
def test_rubbish_in_a_column_of_sqlite_breaks_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    table: str,
    column: str,
) -> None:
    caplog.set_level(logging.ERROR)
    for number, value in enumerate(random.Random(table + column).sample(VALUES, 8)):
        file = tmp_path / f"{number}.db"
        product = Product(tmp_path, f"sqlite:///{file}", monkeypatch)
        product.fill()
        with sqlite3.connect(file) as db:
            for (row,) in db.execute(f"SELECT rowid FROM {table}").fetchall():
                with suppress(sqlite3.IntegrityError):  # this column takes no such value
                    db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))
        db.close()
        product.use()
        assert "Traceback" not in caplog.text


def test_a_database_that_was_cut_off_is_a_store_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "sessions.db"
    product = Product(tmp_path, f"sqlite:///{whole}", monkeypatch)
    product.fill()
    data = whole.read_bytes()
    assert len(data) > 8192
    for size in (1, 16, 100, 512, 4096, 5000, len(data) - 4096, len(data) - 1):
        file = tmp_path / f"cut-{size}.db"
        file.write_bytes(data[:size])
        product = Product(tmp_path, f"sqlite:///{file}", monkeypatch)
        problem = product.scan()
        assert problem is None or str(file) in problem
        product.use()
        store = open_store(f"sqlite:///{file}")
        try:
            store.snapshot()
        except StoreError as error:
            assert str(file) in str(error)
        store.close()
