"""Leases: servers that come, go, are cut off and come back. Run against each store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastx_list.model.server import encode_server
from fastx_list.model.session import encode
from fastx_list.store import EditionLost, Held, Record, ServerRecord, Store
from tests.store.common import (
    SHORT,
    OpenStore,
    before_each_step,
    by_id,
    is_unchanged,
    make_lease,
    make_server,
    make_session,
    params_in,
    running_in,
    until_it_ran_out,
)
from tests.support import wait_for


def _servers_in(store: Store) -> dict[str, Any]:
    return {server.id: json.loads(server.text or "null") for server in store.snapshot().servers}


# Servers.


def test_a_heartbeat_writes_nothing_where_the_sessions_are_others_than_its_agent_wrote(
    store: Store,
) -> None:
    edition = store.observe("s1", {"s1-1": make_session()}, make_lease())
    assert store.heartbeat(make_server(), make_lease(), edition) is None
    store.observe("s1", {})
    for server_id in ("s1", "s2"):  # the second was never written
        before = store.snapshot()
        with pytest.raises(EditionLost):
            store.heartbeat(make_server(server_id, sessions=2), make_lease(), edition)
        assert is_unchanged(store, before) and store.holder("s2") is None


def test_a_lease_is_not_renewed_where_the_sessions_are_others_than_its_agent_has_read(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, other, reader = opened(), opened(), opened()
    writer.observe("s1", by_id(make_session(1)), make_lease())
    renewals = list[object]()

    def write_or_look() -> None:
        if not renewals:  # as an older store that takes the place of what was read
            other.observe("s1", by_id(make_session(2)))
        reader.snapshot()
        renewals.append(vars(reader)["_reader"].beats._seen["s1"][0])

    before_each_step(writer, monkeypatch, write_or_look)
    writer.observe("s1", by_id(make_session(3)), make_lease())
    first, second = renewals
    assert first == second and running_in(reader).keys() == {"s1-3"}
    write_or_look()
    assert renewals[2] != first


def test_a_heartbeat_writes_the_server(store: Store) -> None:
    server = make_server(
        cpu=12.5,
        free_memory=2**34,
        total_memory=2**35,
        logged_in_users=2,
        sessions=3,
        uptime=60,
        load=(0.5, 1, 2),
    )
    before = store.snapshot().revision
    store.heartbeat(server, make_lease())
    text = encode_server(server)
    assert json.loads(text) == {
        "serverId": "s1",
        "id": "s1",
        "serverPool": None,
        "hostname": "host",
        "url": None,
        "cpu": 12.5,
        "freemem": 2**34,
        "totalmem": 2**35,
        "loggedInUsers": 2,
        "sessions": 3,
        "uptime": 60,
        "loadavg": [0.5, 1, 2],
        "problems": [],
        "version": None,
        "rights": [],
        "settings": None,
        "lastLook": None,
        "lookSeconds": None,
    }
    changes = store.changes(before)
    assert changes is not None
    assert (list(changes.records), list(changes.servers)) == ([], [ServerRecord("s1", text)])
    assert changes.revision.number == before.number + 1
    assert list(store.snapshot().servers) == [ServerRecord("s1", text)]


def test_of_several_heartbeats_the_last_one_counts(store: Store) -> None:
    before = store.snapshot().revision
    for sessions in range(3):
        store.heartbeat(make_server(sessions=sessions), make_lease())
        store.heartbeat(make_server("s2", sessions=sessions), make_lease())
    changes = store.changes(before)
    assert changes is not None
    assert [
        (server.id, json.loads(server.text or "")["sessions"]) for server in changes.servers
    ] == [("s1", 2), ("s2", 2)]
    assert {name: server["sessions"] for name, server in _servers_in(store).items()} == {
        "s1": 2,
        "s2": 2,
    }


def test_sessions_under_a_lease_need_no_heartbeat(store: Store) -> None:
    store.observe("s1", by_id(make_session()), make_lease())
    assert running_in(store).keys() == {"s1-1"}
    assert store.holder("s1") == Held("one", "host of one", None)


# The end of a lease.


def test_a_server_that_dies_takes_its_sessions_with_it_once_and_nobody_elses(
    opened: OpenStore,
) -> None:
    writer, readers = opened(), [opened(), opened()]
    sessions = make_session(1), make_session(2, login="bob")
    revisions = [reader.snapshot().revision for reader in readers]
    writer.heartbeat(make_server("s2"), make_lease())
    writer.observe("s2", by_id(make_session(1, "s2")), make_lease())
    writer.observe("s3", by_id(make_session(1, "s3")))
    writer.heartbeat(make_server(), make_lease(seconds=SHORT))
    writer.observe("s1", by_id(*sessions), make_lease(seconds=SHORT))
    told: list[list[tuple[str, bool]]] = [[], []]
    told_servers: list[list[tuple[str, bool]]] = [[], []]

    def follow() -> bool:
        for number, reader in enumerate(readers):
            while (changes := reader.changes(revisions[number])) is not None:
                revisions[number] = changes.revision
                told[number] += [(record.id, record.text is None) for record in changes.records]
                told_servers[number] += [
                    (server.id, server.text is None) for server in changes.servers
                ]
        return all(("s1", True) in servers for servers in told_servers)

    wait_for("the end of the lease", follow)
    for _ in range(3):
        follow()
    for number in range(2):
        ends = [name for name, ended in told[number] if ended]
        assert sorted(ends) == ["s1-1", "s1-2"]
        assert [server for server, ended in told_servers[number] if ended] == ["s1"]
    for store in (writer, *readers):
        assert running_in(store).keys() == {"s2-1", "s3-1"}
        assert _servers_in(store).keys() == {"s2"}
    assert store.holder("s1") is None


def test_the_end_of_a_session_that_left_with_its_server_says_whose_it_was(store: Store) -> None:
    store.observe("s1", by_id(make_session(login="żółw")), make_lease(seconds=3600))
    before = store.snapshot().revision
    store.observe("s1", by_id(make_session(login="żółw")), make_lease(seconds=SHORT))
    changes = wait_for("the end of the lease", lambda: store.changes(before))
    assert list(changes.records) == [Record("s1-1", "żółw", "s1", None)]


def test_a_lease_that_is_renewed_does_not_run_out(store: Store) -> None:
    store.observe("s1", by_id(make_session()), make_lease(seconds=SHORT))
    store.heartbeat(make_server(), make_lease(seconds=3600))
    store.observe("s2", by_id(make_session(1, "s2")), make_lease(seconds=SHORT))
    until_it_ran_out(store, "s2-1")
    assert running_in(store).keys() == {"s1-1"}


def test_whoever_writes_carries_out_the_end_of_a_lease_too(store: Store, opened: OpenStore) -> None:
    store.observe("s1", by_id(make_session()), make_lease(seconds=SHORT))
    other = opened()

    def has_ended() -> bool:
        other.heartbeat(make_server("s2"), make_lease())
        return store.edition("s1") is None

    wait_for("the end of the lease", has_ended)


# Coming back.


def test_a_server_that_was_cut_off_brings_its_sessions_back_as_they_were(store: Store) -> None:
    sessions = make_session(1, clients=1, last_connect=5, params={"a": 0}), make_session(2)
    store.observe("s1", by_id(*sessions), make_lease(seconds=SHORT))
    text = store.set_params("s1-1", "alice", {"name": "Thesis", "a": 1})
    until_it_ran_out(store)
    before = store.snapshot().revision
    assert store.set_params("s1-1", "alice", {"b": 1}) is None
    store.heartbeat(make_server(), make_lease())
    store.observe("s1", by_id(*sessions), make_lease())
    changes = store.changes(before)
    assert changes is not None
    assert {record.id: record.text for record in changes.records} == {
        "s1-1": text,
        "s1-2": encode(sessions[1], {}),
    }
    assert params_in(store) == {"name": "Thesis", "a": 1}
    assert store.set_params("s1-1", "alice", {"name": None}) == encode(sessions[0], {"a": 1})


def test_what_did_not_come_back_with_its_server_has_ended(store: Store) -> None:
    store.observe(
        "s1", by_id(make_session(1), make_session(2, params={"a": 1})), make_lease(seconds=SHORT)
    )
    store.set_params("s1-2", "alice", {"a": 2})
    until_it_ran_out(store)
    store.observe("s1", by_id(make_session(1)), make_lease())
    assert [record.id for record in store.recall("s1")] == ["s1-1"]
    store.observe("s1", by_id(make_session(1), make_session(2, params={"a": 1})), make_lease())
    assert params_in(store, "s1-2") == {"a": 1}


def test_a_new_agent_is_told_of_its_sessions_that_run_and_of_those_that_left_with_the_lease(
    store: Store,
) -> None:
    assert list(store.recall("s1")) == []
    first, second = make_session(1, last_connect=5), make_session(2)
    store.observe("s1", by_id(first, second), make_lease(seconds=SHORT))
    store.observe("s2", by_id(make_session(1, "s2")))
    expected = {
        Record("s1-1", "alice", "s1", encode(first, {})),
        Record("s1-2", "alice", "s1", encode(second, {})),
    }
    assert set(store.recall("s1")) == expected
    until_it_ran_out(store)
    assert set(store.recall("s1")) == expected
    store.observe("s1", by_id(second), make_lease())
    assert set(store.recall("s1")) == {Record("s1-2", "alice", "s1", encode(second, {}))}


def test_a_server_can_go_and_come_back_again_and_again(store: Store) -> None:
    store.observe("s1", by_id(make_session()), make_lease())
    store.set_params("s1-1", "alice", {"a": 1})
    for number in range(3):
        store.observe("s1", by_id(make_session(clients=number)), make_lease(seconds=SHORT))
        until_it_ran_out(store)
        store.heartbeat(make_server(), make_lease())
        store.observe("s1", by_id(make_session(clients=number)), make_lease())
        assert running_in(store)["s1-1"]["clients"] == number
        assert params_in(store) == {"a": 1}
        assert _servers_in(store).keys() == {"s1"}


# Editions.


def test_an_edition_lasts_until_somebody_changes_a_session(store: Store) -> None:
    assert store.edition("s1") is None
    name = store.observe("s1", by_id(make_session()), make_lease())
    assert store.edition("s1") == name == store.observe("s1", by_id(make_session()), make_lease())
    store.set_params("s1-1", "alice", {"a": 1})
    store.observe("s2", by_id(make_session(1, "s2")))
    assert store.edition("s1") == name
    other = store.observe("s1", by_id(make_session(clients=1)), make_lease())
    assert store.edition("s1") == other != name
    assert store.observe("s1", {}, make_lease()) != other


def test_a_server_without_sessions_has_an_edition_too(store: Store) -> None:
    name = store.observe("s1", {}, make_lease())
    assert store.edition("s1") == name


def test_a_server_whose_lease_ran_out_has_no_edition(store: Store) -> None:
    store.observe("s1", by_id(make_session()), make_lease(seconds=SHORT))
    until_it_ran_out(store)
    assert store.edition("s1") is None
