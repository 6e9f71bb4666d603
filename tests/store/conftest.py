from __future__ import annotations

import math
import os
import secrets
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastx_list.store import Store, open_store, redis, sqlite_order
from tests.redis_server import RedisServer, redis_server
from tests.store.common import NOW, SPAWN, OpenStore, PassTime, Raw, address, be_patient


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.programs)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that does not exist yet: each shared test is run with each
    implementation."""
    if request.param == "sqlite":
        return address(tmp_path / "sessions.db")
    request.getfixturevalue("patient")
    server: RedisServer = request.getfixturevalue("shared_redis")
    return f"{server.socket_url}?prefix={secrets.token_hex(8)}"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process wait for Redis as long as it takes."""
    monkeypatch.setattr(redis, "QUICK", redis.QUICK)
    monkeypatch.setattr(redis, "PATIENT", redis.PATIENT)
    be_patient()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A server for all tests that do it no harm, each with a prefix of its own."""
    with redis_server() as server:
        yield server


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def redis_url(shared_redis: RedisServer, prefix: str) -> str:
    """The address of a store in Redis that does not exist yet."""
    return f"{shared_redis.url}/3?prefix={prefix}"


@pytest.fixture
def raw(shared_redis: RedisServer, prefix: str) -> Iterator[Raw]:
    """The keys at :func:`redis_url`."""
    with shared_redis.client(db=3) as client:
        yield Raw(client, prefix)


@pytest.fixture
def opened(url: str) -> Iterator[OpenStore]:
    stores: list[Store] = []

    def open_again(*, create: bool = True) -> Store:
        stores.append(open_store(url, create=create))
        return stores[-1]

    yield open_again
    for each in stores:
        each.close()


@pytest.fixture
def store(opened: OpenStore) -> Store:
    return opened()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the SQLite store of :func:`opened` keeps its file."""
    return tmp_path / "sessions.db"


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> PassTime:
    """Lets time pass for the order of the SQLite store, and for nothing else; the wall clock alone
    with ``passed=False``."""
    clock = SimpleNamespace(wall=float(NOW), passed=1000.0)
    times = SimpleNamespace(time=lambda: clock.wall, monotonic=lambda: clock.passed)
    monkeypatch.setattr(sqlite_order, "time", times)
    monkeypatch.setattr(sqlite_order, "LONGEST_STEP", math.inf)

    def forward(seconds: float, passed: bool = True) -> None:
        clock.wall += seconds
        if passed:
            clock.passed += seconds

    return forward


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Processes of their own, kept over the tests because each takes a while to start."""
    with ProcessPoolExecutor(4, mp_context=SPAWN, initializer=be_patient) as pool:
        yield pool


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A directory that every user may pass through, unlike those of tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
