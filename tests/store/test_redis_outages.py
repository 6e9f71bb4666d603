"""Redis that is away, hangs, cannot write, was restarted or replaced: what a store says then, and
how it goes on."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastx_list.replica.replica import Replica
from fastx_list.store import SnapshotNeeded, Store, StoreError, open_store, redis
from tests.redis_server import RedisServer, redis_server
from tests.store.common import (
    PATIENCE,
    by_id,
    make_lease,
    make_server,
    make_session,
    params_in,
    running_in,
)
from tests.support import Processes, free_port, program, wait_for

# A request may wait for 0.25 s; what else this machine does must not fail a test, and all that
# could go wrong takes seconds.
BOUND_SECONDS = 2.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server(repl_diskless_sync_delay="0") as server:
        yield server


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "QUICK", (PATIENCE, PATIENCE))
    monkeypatch.setattr(redis, "PATIENT", (PATIENCE, PATIENCE))


@pytest.fixture
def store(server: RedisServer) -> Iterator[Store]:
    store = open_store(server.url, serving=True)
    yield store
    store.close()


def _works(call: Callable[[], Any]) -> bool:
    try:
        call()
    except StoreError:
        return False
    return True


def _fill(store: Store) -> int:
    wait_for(
        "the store",
        lambda: _works(lambda: store.observe("s1", by_id(make_session()), make_lease())),
    )
    wait_for("the store", lambda: _works(store.snapshot))
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
        lambda: store.revoke("token", 2**40),
    ]
    with server.frozen():
        for call in calls:
            time.sleep(redis_link_pause())
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
    wait_for("the store", lambda: _works(lambda: store.changes(revision)))


def redis_link_pause() -> float:
    """Return how long a link is given up for after a failure."""
    from fastx_list.store import redis_link

    return redis_link.AGAIN_SECONDS


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
                assert "does not answer" in _said(lambda: store.changes(0))
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
    assert "Redis at redis.example:6379" in _said(lambda: store.changes(0))
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
        wait_for("the store", lambda: _works(store.snapshot))
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
        wait_for("the store", lambda: _works(store.snapshot))
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
        return _works(call)
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
        wait_for("the store", lambda: _works(store.snapshot))
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
    wait_for("the store", lambda: _works(lambda: store.set_params("s1-1", "alice", {"a": 2})))
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
        lambda: _works(lambda: store.observe("s1", by_id(make_session(2)), make_lease())),
    )
    assert running_in(store).keys() == {"s1-2"}


# Failover.


@pytest.fixture
def pair(server: RedisServer) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master, and a replica that has all its data."""
    with redis_server(
        replicaof=f"127.0.0.1 {server.port}", repl_diskless_sync_delay="0"
    ) as replica:
        yield server, replica


def _in_sync(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _until_copied(master: RedisServer, replica: RedisServer) -> None:
    with master.client() as one, replica.client() as other:
        wait_for(
            "the replica",
            lambda: (
                _in_sync(replica)
                and one.get("{fastx-list}:1:head") == other.get("{fastx-list}:1:head")
            ),
        )


@pytest.mark.parametrize("lost", [0, 1, 3])
@pytest.mark.parametrize("more", [0, 1, 2, 3, 6])
def test_after_a_failover_nobody_goes_on_from_writes_that_were_lost(
    pair: tuple[RedisServer, RedisServer], patient: None, lost: int, more: int
) -> None:
    master, replica = pair
    store, reader = open_store(master.url), open_store(master.url)
    store.observe("s1", by_id(make_session(1)), make_lease())
    _until_copied(master, replica)
    copy = Replica(reader)
    with replica.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    for number in range(lost):  # taken by the old master alone
        store.observe("s1", by_id(make_session(1), make_session(2, clients=number)), make_lease())
    copy.refresh()
    master.kill()
    with replica.client() as client:
        client.config_set("port", str(master.port))
    other = open_store(master.url)
    wait_for("the new master", lambda: _works(other.snapshot))
    for number in range(more):
        other.observe("s1", by_id(make_session(1), make_session(3, clients=number)), make_lease())
    wait_for("the copy", lambda: _is_current(copy))
    assert {entry.id: entry.text.decode() for entry in copy.entries("alice").values()} == {
        record.id: record.text for record in other.snapshot().records
    }
    for each in (store, reader, other):
        each.close()


def _is_current(copy: Replica) -> bool:
    copy.refresh()
    return copy.problem is None


def test_a_replica_takes_no_writes_and_says_what_to_do(
    pair: tuple[RedisServer, RedisServer], patient: None
) -> None:
    wait_for("the replica", lambda: _in_sync(pair[1]))
    assert "Sentinels" in _said(lambda: open_store(pair[1].url).observe("s1", {}))


@pytest.fixture
def sentinel(pair: tuple[RedisServer, RedisServer], tmp_path: Path, processes: Processes) -> int:
    """The port of a Sentinel that watches the pair under the name ``main``."""
    master, replica = pair
    wait_for("the replica", lambda: _in_sync(replica))
    port, file = free_port(), tmp_path / "sentinel.conf"
    password = tmp_path / "sentinel-password"
    password.write_text(secrets.token_hex(8))
    file.write_text(
        f"requirepass {password.read_text()}\nport {port}\nbind 127.0.0.1\nsentinel monitor main"
        f" 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds main 300\nsentinel"
        " failover-timeout main 2000\n"
    )
    processes.start([program("redis-sentinel", "redis-sentinel"), str(file)], "sentinel")
    import redis as client_library

    with client_library.Redis(port=port, password=password.read_text()) as client:
        wait_for("the Sentinel", lambda: _knows_replica(client))
    return port


def _knows_replica(client: Any) -> bool:
    try:
        return len(client.sentinel_slaves("main")) == 1
    except OSError:
        return False
    except Exception as error:
        if type(error).__module__.startswith("redis"):
            return False
        raise


def test_sentinels_say_where_the_master_is_also_after_a_failover(
    pair: tuple[RedisServer, RedisServer], sentinel: int, tmp_path: Path, patient: None
) -> None:
    master, replica = pair
    nobody = free_port()
    password = f"sentinel_password_file={tmp_path / 'sentinel-password'}"
    store = open_store(f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{sentinel}/main?{password}")
    store.observe("s1", by_id(make_session()), make_lease())
    store.set_params("s1-1", "alice", {"a": 1})
    _until_copied(master, replica)
    revision = store.snapshot().revision
    master.kill()
    wait_for("the failover", lambda: _works(lambda: store.set_params("s1-1", "alice", {"a": 2})))
    with replica.client() as client:
        assert client.info("replication")["role"] == "master"
    changes = store.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-1"]
    assert params_in(store) == {"a": 2}
    assert "main" in _said(
        open_store(f"redis+sentinel://127.0.0.1:{sentinel}/other?{password}").snapshot
    ).replace("other", "main")
    assert "?sentinel_password_file=" in _said(
        open_store(f"redis+sentinel://127.0.0.1:{sentinel}/main").snapshot
    )
    store.close()
