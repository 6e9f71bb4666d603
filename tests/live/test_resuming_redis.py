"""A client that resumes where two sidecars follow one Redis, also after a failover of that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastx_list.store import Store, open_store
from tests.conftest import session
from tests.live.clients import Returning
from tests.redis_server import RedisServer, redis_server, replica_of, until_copied
from tests.support import Processes, Service, wait_for


@pytest.fixture
def master() -> Iterator[RedisServer]:
    with redis_server(repl_diskless_sync_delay="0") as server:
        yield server


@pytest.fixture
def sidecars(master: RedisServer, processes: Processes, tmp_path: Path) -> list[Service]:
    """Two that run, each with one worker: each of several has a history of its own."""
    environ = {"FASTX_LIST_STORE": master.url, "WEB_CONCURRENCY": "1"}
    services = [Service(tmp_path / "state", processes, environ) for _ in range(2)]
    for service in services:
        service.start_live()
    return services


def observe(store: Store, **clients: int) -> None:
    """Make these alice's sessions, with so many clients."""
    store.observe("here", {name: session(name, clients=count) for name, count in clients.items()})


def test_any_sidecar_takes_the_revision_of_another(
    master: RedisServer, sidecars: list[Service]
) -> None:
    store, client, token = open_store(master.url), Returning(), sidecars[0].token("alice")
    for step in range(6):
        expected = {"always": 0, "changes": step, f"new{step}": 0}
        observe(store, **expected)
        for sidecar in sidecars:
            wait_for("the list", lambda: Returning().come_back(sidecar, token) == expected)
            assert client.come_back(sidecar, token) == expected
    assert client.dropped == 0
    store.close()


def test_after_a_failover_that_lost_what_a_client_has_seen_it_has_the_list(
    master: RedisServer, sidecars: list[Service]
) -> None:
    store, token = open_store(master.url), sidecars[0].token("alice")
    clients = [(Returning(), sidecar) for sidecar in sidecars]

    def have(expected: dict[str, int]) -> bool:
        return all(client.come_back(sidecar, token) == expected for client, sidecar in clients)

    with replica_of(master) as replica:
        observe(store, a=0, b=0)
        until_copied(master, replica)
        with replica.client() as redis:
            redis.execute_command("REPLICAOF", "NO", "ONE")
        observe(store, a=1, lost=1)  # taken by the old master alone
        wait_for("what will be lost", lambda: have({"a": 1, "lost": 1}))
        master.kill()
        with replica.client() as redis:
            redis.config_set("port", str(master.port))
        other = open_store(master.url)
        observe(other, b=2, c=0)
        (one, here), (another, there) = clients
        clients = [(one, there), (another, here)]
        wait_for("the list", lambda: have({"b": 2, "c": 0}))
        assert {client.dropped for client, _ in clients} == {1}
        observe(other, b=3, c=0, d=0)
        wait_for("a change", lambda: have({"b": 3, "c": 0, "d": 0}))
        assert {client.dropped for client, _ in clients} == {1}
        store.close()
        other.close()
