"""Redis with a replica that takes over, and Sentinels that say where the master is."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as client_library

from fastx_list.replica import doubt
from fastx_list.replica import replica as replica_module
from fastx_list.replica.replica import Replica
from fastx_list.replica.view import Entry
from fastx_list.store import StoreError, open_store, redis_connect
from tests.redis_server import RedisServer, in_sync, redis_server, replica_of, until_copied
from tests.store.common import by_id, make_lease, make_session, params_in, works
from tests.support import Processes, free_port, program, wait_for


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server(repl_diskless_sync_delay="0") as server:
        yield server


@pytest.fixture
def pair(server: RedisServer) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master, and a replica that has all its data."""
    with replica_of(server) as replica:
        yield server, replica


@pytest.mark.parametrize("lost", [0, 1, 3])
@pytest.mark.parametrize("more", [0, 1, 2, 3, 6])
def test_after_a_failover_nobody_goes_on_from_writes_that_were_lost(
    pair: tuple[RedisServer, RedisServer],
    patient: None,
    monkeypatch: pytest.MonkeyPatch,
    lost: int,
    more: int,
) -> None:
    for module in (doubt, replica_module):
        monkeypatch.setattr(module, "REFILL_SECONDS", 0.1)  # no other server is to come back
    master, replica = pair
    store, reader = open_store(master.url), open_store(master.url)
    store.observe("s1", by_id(make_session(1)), make_lease())
    until_copied(master, replica)
    copy = Replica(reader, Entry)
    with replica.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    for number in range(lost):  # taken by the old master alone
        store.observe("s1", by_id(make_session(1), make_session(2, clients=number)), make_lease())
    copy.refresh()
    master.kill()
    with replica.client() as client:
        client.config_set("port", str(master.port))
    other = open_store(master.url)
    wait_for("the new master", lambda: works(other.snapshot))
    for number in range(more):
        other.observe("s1", by_id(make_session(1), make_session(3, clients=number)), make_lease())
    wait_for("the copy", lambda: _is_current(copy))
    assert {entry.id: entry.text.decode() for entry in copy.entries("alice").values()} == {
        record.id: record.text for record in other.snapshot().records
    }
    for each in (store, reader, other):
        each.close()


def _is_current(copy: Replica[Entry]) -> bool:
    copy.refresh()
    return copy.problem is None


def test_a_replica_takes_no_writes_and_says_what_to_do(
    pair: tuple[RedisServer, RedisServer], patient: None
) -> None:
    wait_for("the replica", lambda: in_sync(pair[1]))
    with pytest.raises(StoreError, match="Sentinels"):
        open_store(pair[1].url).observe("s1", {})


def test_a_sentinel_that_names_what_has_become_a_replica_is_not_believed(
    pair: tuple[RedisServer, RedisServer], patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A Sentinel that has not noticed yet cannot be had here on demand.
    found = "127.0.0.1", pair[1].port
    monkeypatch.setattr(redis_connect, "_find_master", lambda address, tls: found)
    with pytest.raises(StoreError, match="is a replica, which takes no changes"):
        open_store("redis+sentinel://127.0.0.1/main").edition("s1")  # which writes nothing


@pytest.fixture
def sentinel(pair: tuple[RedisServer, RedisServer], tmp_path: Path, processes: Processes) -> int:
    """The port of a Sentinel that watches the pair under the name ``main``."""
    master, replica = pair
    wait_for("the replica", lambda: in_sync(replica))
    port, file = free_port(), tmp_path / "sentinel.conf"
    password = tmp_path / "sentinel-password"
    password.write_text(secrets.token_hex(8))
    file.write_text(
        f"requirepass {password.read_text()}\nport {port}\nbind 127.0.0.1\nsentinel monitor main"
        f" 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds main 300\nsentinel"
        " failover-timeout main 2000\n"
    )
    processes.start([program("redis-sentinel", "redis-sentinel"), str(file)], "sentinel")
    with client_library.Redis(port=port, password=password.read_text()) as client:
        wait_for("the Sentinel", lambda: _knows_replica(client))
    return port


def _knows_replica(client: Any) -> bool:
    try:
        return len(client.sentinel_slaves("main")) == 1
    except (OSError, client_library.RedisError):
        return False


def test_sentinels_say_where_the_master_is_also_after_a_failover(
    pair: tuple[RedisServer, RedisServer], sentinel: int, tmp_path: Path, patient: None
) -> None:
    master, replica = pair
    nobody = free_port()
    password = f"sentinel_password_file={tmp_path / 'sentinel-password'}"
    store = open_store(f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{sentinel}/main?{password}")
    store.observe("s1", by_id(make_session()), make_lease())
    store.set_params("s1-1", "alice", {"a": 1})
    until_copied(master, replica)
    revision = store.snapshot().revision
    master.kill()
    wait_for("the failover", lambda: works(lambda: store.set_params("s1-1", "alice", {"a": 2})))
    with replica.client() as client:
        assert client.info("replication")["role"] == "master"
    changes = store.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-1"]
    assert params_in(store) == {"a": 2}
    with pytest.raises(StoreError, match="master other"):
        open_store(f"redis+sentinel://127.0.0.1:{sentinel}/other?{password}").snapshot()
    with pytest.raises(StoreError, match="[?]sentinel_password_file="):
        open_store(f"redis+sentinel://127.0.0.1:{sentinel}/main").snapshot()
    store.close()
