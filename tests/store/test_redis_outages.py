"""Redis that is away, hangs, cannot write or was restarted: what a store says then, and how it goes
on."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastx_list.store import (
    Revision,
    SnapshotNeeded,
    Store,
    StoreError,
    open_store,
    redis,
    redis_link,
)
from tests.redis_server import RedisServer, redis_server
from tests.store.common import (
    PATIENCE,
    by_id,
    make_lease,
    make_server,
    make_session,
    params_in,
    running_in,
    works,
)
from tests.support import Processes, free_port, wait_for

# A request may wait for 0.25 s; what else this machine does must not fail a test, and all that
# could go wrong takes seconds.
BOUND_SECONDS = 2.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server(repl_diskless_sync_delay="0") as server:
        yield server


@pytest.fixture
def store(server: RedisServer) -> Iterator[Store]:
    store = open_store(server.url, serving=True)
    yield store
    store.close()


def _fill(store: Store) -> Revision:
    wait_for(
        "the store", lambda: works(lambda: store.observe("s1", by_id(make_session()), make_lease()))
    )
    wait_for("the store", lambda: works(store.snapshot))
    return store.snapshot().revision


def _said(call: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        call()
    return str(caught.value)


# How long anybody waits.


def test_no_request_waits_for_a_redis_that_hangs(server: RedisServer, store: Store) -> None:
    revision = _fill(store)
    calls = [
        lambda: store.changes(revision),
        lambda: store.set_params("s1-1", "alice", {"a": 1}),
        store.snapshot,
        lambda: store.revoke({"token": 2**40}),
    ]
    with server.frozen():
        for call in calls:
            time.sleep(redis_link.AGAIN_SECONDS)
            began = time.monotonic()
            assert "does not answer" in _said(call)
            assert time.monotonic() - began < BOUND_SECONDS
        # Right after one that was in vain the next one does not wait at all.
        waited = []
        for _ in range(200):
            began = time.monotonic()
            _said(calls[0])
            waited.append(time.monotonic() - began)
        assert sorted(waited)[len(waited) // 2] < redis.QUICK[1] / 2
    wait_for("the store", lambda: works(lambda: store.changes(revision)))


def test_a_reader_that_waits_for_changes_is_told_that_redis_hangs(
    server: RedisServer, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "PATIENT", (PATIENCE, 1.0))
    reader, said = open_store(server.url), []
    revision = _fill(reader)

    def wait_for_changes() -> None:
        said.append(_said(lambda: reader.changes(revision, timeout=PATIENCE)))

    waiting = threading.Thread(target=wait_for_changes)
    waiting.start()
    with server.client() as client:
        wait_for("it", lambda: any("b" in each["flags"] for each in client.client_list()))
    with server.frozen():
        waiting.join(PATIENCE)
        assert said and "does not answer" in said[0]
    reader.close()


def test_no_request_waits_for_whoever_takes_connections_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://:{secrets.token_hex(4)}@127.0.0.1:{silent.getsockname()[1]}"
        for each in (
            url,
            url.replace("redis:", "rediss:"),
            url.replace("redis:", "redis+sentinel:") + "/main",
        ):
            store = open_store(each, serving=True)
            for _ in range(2):
                began = time.monotonic()
                assert "does not answer" in _said(lambda: store.changes(Revision(0, "")))
                assert time.monotonic() - began < BOUND_SECONDS
            store.close()


def test_no_request_waits_for_a_name_that_is_not_found_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A name server that is away cannot be had here on demand.
    released: list[float] = []

    def look_up_slowly(*arguments: object, **options: object) -> list[Any]:
        wait_for("the test to end", lambda: released)
        raise socket.gaierror("away")

    monkeypatch.setattr(socket, "getaddrinfo", look_up_slowly)
    store = open_store("redis://redis.example", serving=True)
    began = time.monotonic()
    assert "Redis at redis.example:6379" in _said(lambda: store.changes(Revision(0, "")))
    assert time.monotonic() - began < BOUND_SECONDS
    released.append(began)


def test_a_redis_that_is_not_there_is_named_and_found_once_it_is(
    tmp_path: Path, processes: Processes, patient: None
) -> None:
    port = free_port()
    store = open_store(f"redis://127.0.0.1:{port}")
    assert f"Redis at 127.0.0.1:{port}, database 0" in _said(store.snapshot)
    with redis_server() as server:
        with server.client() as client:
            client.config_set("port", str(port))
        wait_for("the store", lambda: works(store.snapshot))
    store.close()


# Restarts.


def test_what_redis_has_closed_meanwhile_is_opened_again_unnoticed(
    server: RedisServer, store: Store, patient: None
) -> None:
    revision = _fill(store)
    with server.client() as client:
        for number in range(3):
            client.client_kill_filter(_type="normal", skipme=True)
            assert store.changes(revision) is None
            client.client_kill_filter(_type="normal", skipme=True)
            assert store.set_params("s1-1", "alice", {"a": number}) is not None
            client.client_kill_filter(_type="normal", skipme=True)
            store.observe("s1", by_id(make_session(clients=number)), make_lease())
            changes = store.changes(revision)
            assert changes is not None
            revision = changes.revision
        client.script_flush()
        store.heartbeat(make_server(), make_lease())


def test_after_a_restart_with_its_data_readers_go_on_and_no_lease_has_ended(patient: None) -> None:
    with redis_server(appendonly="yes", appendfsync="always") as server:
        store = open_store(server.url)
        store.observe("s1", by_id(make_session()), make_lease(seconds=1))
        store.set_params("s1-1", "alice", {"a": 1})
        revision = store.snapshot().revision
        server.kill()
        _said(lambda: store.changes(revision))
        time.sleep(1.2)  # longer than the lease
        server.start()
        wait_for("the store", lambda: works(store.snapshot))
        assert store.changes(revision) is None
        assert params_in(store) == {"a": 1}
        wait_for("the end of the lease", lambda: not running_in(store))
        store.close()


def test_after_a_restart_without_its_data_readers_start_over(
    server: RedisServer, store: Store, patient: None
) -> None:
    revision = _fill(store)
    server.kill()
    server.start()
    agent = open_store(server.url)
    agent.observe("s1", by_id(make_session(2)), make_lease())  # which is revision 1 once more
    wait_for("the store", lambda: _works_or_starts_over(lambda: store.changes(revision)))
    with pytest.raises(SnapshotNeeded):
        store.changes(revision)
    assert running_in(store).keys() == {"s1-2"}
    agent.close()


def _works_or_starts_over(call: Callable[[], Any]) -> bool:
    try:
        return works(call)
    except SnapshotNeeded:
        return True


def test_a_redis_that_is_loading_says_so(patient: None) -> None:
    with redis_server(save="3600 1") as server:
        store = open_store(server.url)
        store.observe("s1", by_id(make_session()))
        with server.client() as client:
            client.mset({str(number): secrets.token_bytes(2000) for number in range(200)})
        server.stop()
        # 0.1 s for each key
        server.options |= {
            "key-load-delay": "100000",
            "loading-process-events-interval-bytes": "1024",
        }
        server.start_without_waiting()
        assert wait_for("Redis to load", lambda: _loading(store)).endswith(
            "is still loading its data"
        )
        with server.client() as client:
            client.config_set("key-load-delay", "0")
        wait_for("the store", lambda: works(store.snapshot))
        assert running_in(store).keys() == {"s1-1"}
        store.close()


def _loading(store: Store) -> str | None:
    try:
        store.snapshot()
    except StoreError as error:
        return str(error) if "loading" in str(error) else None
    return None


# What cannot be written.


def _is_read_by_a_newcomer(server: RedisServer) -> bool:
    store = open_store(server.url)
    found = running_in(store).keys() == {"s1-1"}
    store.close()
    return found


def test_a_redis_that_cannot_save_its_data_says_so_and_goes_on_when_it_can(
    server: RedisServer, store: Store, patient: None
) -> None:
    revision = _fill(store)
    with server.client() as client:
        (server.data / "dump.rdb").mkdir()  # in the place of the file
        client.config_set("save", "1 1")
        store.set_params("s1-1", "alice", {"a": 1})
        wait_for(
            "a save in vain", lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err"
        )
        for call in (
            lambda: store.observe("s1", {}),
            lambda: store.set_params("s1-1", "alice", {"a": 2}),
            lambda: store.heartbeat(make_server(), make_lease()),
        ):
            assert "its disk may be full" in _said(call)
        assert _is_read_by_a_newcomer(server)
        (server.data / "dump.rdb").rmdir()
        wait_for("a save", lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok")
    wait_for("the store", lambda: works(lambda: store.set_params("s1-1", "alice", {"a": 2})))
    changes = store.changes(revision)
    assert changes is not None
    assert params_in(store) == {"a": 2}


def test_a_redis_without_memory_says_so_and_nothing_is_half_written(
    server: RedisServer, store: Store, patient: None
) -> None:
    _fill(store)
    with server.client() as client:
        client.config_set("maxmemory", "1mb")
        before = {key: client.dump(key) for key in client.keys("*")}
        assert "no memory left" in _said(
            lambda: store.observe("s1", by_id(make_session(2)), make_lease())
        )
        assert {key: client.dump(key) for key in client.keys("*")} == before
        client.config_set("maxmemory", "0")
    wait_for(
        "the store",
        lambda: works(lambda: store.observe("s1", by_id(make_session(2)), make_lease())),
    )
    assert running_in(store).keys() == {"s1-2"}
