"""The replica follows servers, too."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastx_list.model.query import Query
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Change, Everything
from fastx_list.replica.view import Entry
from fastx_list.store import REFILL_SECONDS, Store, sqlite_leases
from tests.replica.stores import (
    Wrapped,
    beat,
    entry_of,
    ids_of,
    make_server,
    numbered,
    observe,
    remove_database,
)


def _server_change(before: Entry | None, entry: Entry | None) -> Change[Entry]:
    either = entry or before
    assert either is not None
    return Change(either.id, Everything.SERVERS, entry, before)


def test_it_follows_servers(agent: Store, replica: Replica[Entry]) -> None:
    assert replica.follow(0) == [] and replica.entries(Everything.SERVERS) == {}
    beat(agent)
    assert replica.follow(0) == [_server_change(None, make_server())]
    assert replica.entries(Everything.SERVERS) == {"server": make_server()}
    beat(agent, sessions=2)
    beat(agent, "other")
    assert replica.follow(0) == [
        _server_change(make_server(), make_server(sessions=2)),
        _server_change(None, make_server("other")),
    ]
    assert replica.entries(Everything.SERVERS) == {
        "server": make_server(sessions=2),
        "other": make_server("other"),
    }
    assert replica.entries(Everything.SESSIONS) == {}  # servers are no sessions
    page = replica.page(Everything.SERVERS, Query(sort_by="sessions", limit=1))
    assert (page.body, page.total) == (b"[%s]" % make_server("other").text, 2)


def test_a_server_whose_lease_ran_out_is_gone(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(agent)
    observe(agent, numbered(1))
    replica.follow(0)
    later = time.monotonic()
    monkeypatch.setattr(sqlite_leases, "clock", lambda: later)
    for _ in range(7):
        later += 450
        assert replica.follow(0) == []
    later += 451
    assert replica.follow(0) == [
        Change("s1", "alice", None, entry_of(numbered(1))),
        _server_change(make_server(), None),
    ]
    assert replica.entries(Everything.SERVERS) == {}


@pytest.mark.parametrize("readings", [0, 1, 3])
@pytest.mark.parametrize("seconds", [6, 3600])
def test_who_was_stopped_while_reading_waits_for_servers_that_the_store_has_lost(
    agent: Store,
    store: Wrapped,
    replica: Replica[Entry],
    database: Path,
    clock: SimpleNamespace,
    readings: int,
    seconds: int,
) -> None:
    beat(agent)
    observe(agent, numbered(1))
    replica.follow(0)
    remove_database(database)
    beat(agent, "other")
    for _ in range(readings):
        replica.refresh()
        clock.now += 1
    store.reading_takes = lambda: setattr(clock, "now", clock.now + seconds)
    assert replica.follow(0) == [] and "lost what it had" in str(replica.problem)
    store.reading_takes = lambda: None
    beat(agent)
    observe(agent, numbered(1))
    clock.now += REFILL_SECONDS
    replica.refresh()
    assert replica.problem is None and ids_of(replica, "alice") == {"s1"}


def test_starting_over_yields_the_differences_of_servers_too(
    agent: Store, replica: Replica[Entry], database: Path, clock: SimpleNamespace
) -> None:
    beat(agent)
    beat(agent, "other")
    replica.follow(0)
    remove_database(database)
    beat(agent, "other")
    beat(agent, "new")
    assert replica.follow(0) == []
    assert set(replica.entries(Everything.SERVERS)) == {"server", "other"}
    clock.now += REFILL_SECONDS / 2
    assert replica.follow(0) == []
    clock.now += REFILL_SECONDS / 2
    assert replica.follow(0) == [
        _server_change(make_server(), None),
        _server_change(None, make_server("new")),
    ]
    assert set(replica.entries(Everything.SERVERS)) == {"new", "other"}
