"""The replica follows a store by revision."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastx_list.replica import replica as replica_module
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Change, Everything
from fastx_list.replica.view import Entry
from fastx_list.store import KEEP_REVOKED_SECONDS, Store, open_store, sqlite_order
from tests.replica.stores import ALL, FAR, Wrapped, entry_of, ids_of, listed, numbered, observe


def test_it_holds_nothing_before_it_has_been_read(replica: Replica[Entry]) -> None:
    assert not replica.loaded
    assert list(replica.entries("alice")) == []
    assert list(replica.revoked) == []


def test_it_holds_what_the_store_holds(agent: Store, replica: Replica[Entry]) -> None:
    observe(agent, numbered(1), numbered(2))
    agent.revoke({"token": FAR})
    replica.refresh()
    assert replica.loaded
    assert replica.entries("alice") == {"s1": entry_of(numbered(1)), "s2": entry_of(numbered(2))}
    assert list(replica.revoked) == ["token"]


def test_an_empty_store_counts_as_read(replica: Replica[Entry]) -> None:
    replica.refresh()
    assert replica.loaded
    assert replica.page("alice", ALL).body == b"[]"


def test_it_follows_changes_ends_and_revocations(agent: Store, replica: Replica[Entry]) -> None:
    observe(agent, numbered(1), numbered(2))
    replica.refresh()
    observe(agent, numbered(2, clients=1), numbered(3))
    agent.set_params("s3", "alice", {"a": 1})
    agent.revoke({"token": FAR})
    replica.refresh()
    assert replica.entries("alice") == {
        "s2": entry_of(numbered(2, clients=1)),
        "s3": entry_of(numbered(3), {"a": 1}),
    }
    assert "token" in replica.revoked


def test_one_look_is_for_all_who_asked_before_it(
    agent: Store, store: Wrapped, replica: Replica[Entry]
) -> None:
    replica.refresh()
    asked = time.monotonic()
    for _ in range(3):
        replica.refresh(asked)
    assert store.calls == ["read_all", "changes"]
    observe(agent, numbered(1))
    replica.refresh(time.monotonic())
    assert ids_of(replica, "alice") == {"s1"}


def test_a_look_that_did_not_read_all_is_for_nobody_alone(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "AT_ONCE", 1)
    monkeypatch.setattr(replica_module, "CATCH_UP_SECONDS", 0)
    replica.refresh()
    asked = time.monotonic()
    observe(agent, numbered(1), numbered(2))
    replica.refresh()
    assert len(ids_of(replica, "alice")) == 1
    replica.refresh(asked)
    assert len(ids_of(replica, "alice")) == 2


def test_it_finds_sessions_by_login(agent: Store, replica: Replica[Entry]) -> None:
    observe(agent, numbered(1), numbered(2, "bob"), numbered(3))
    replica.refresh()
    assert (ids_of(replica, "alice"), ids_of(replica, "bob"), ids_of(replica, "carol")) == (
        {"s1", "s3"},
        {"s2"},
        set(),
    )
    observe(agent, numbered(1))
    replica.refresh()
    assert (ids_of(replica, "alice"), ids_of(replica, "bob")) == ({"s1"}, set())


def test_a_session_that_changes_hands_is_found_under_its_new_login_only(
    agent: Store, replica: Replica[Entry]
) -> None:
    observe(agent, numbered(1, "alice"))
    replica.refresh()
    assert listed(replica, "alice") == ["s1"]
    observe(agent, numbered(1, "bob"))
    replica.refresh()
    assert (listed(replica, "alice"), listed(replica, "bob")) == ([], ["s1"])


def test_a_refresh_without_news_reads_no_row(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    connect = sqlite3.connect

    def connect_and_trace(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(statements.append)
        return connection

    observe(agent, numbered())
    monkeypatch.setattr(sqlite3, "connect", connect_and_trace)
    replica.refresh()
    replica.refresh()
    # So it is this connection that is traced
    assert any("session" in statement for statement in statements)
    for _ in range(3):
        statements.clear()
        replica.refresh()
        assert statements == ["PRAGMA data_version"]
    observe(agent, numbered(clients=1))
    statements.clear()
    replica.refresh()
    assert any("session" in statement for statement in statements)


def test_a_refresh_asks_the_store_once(
    agent: Store, store: Wrapped, replica: Replica[Entry]
) -> None:
    replica.refresh()
    for _ in range(2):
        store.calls.clear()
        replica.refresh()
        assert store.calls == ["changes"]
        observe(agent, numbered())


def test_following_returns_each_change_with_what_was_before(
    agent: Store, replica: Replica[Entry]
) -> None:
    one, two, changed = numbered(1), numbered(2, "bob"), numbered(1, clients=1)
    assert replica.follow(0) == []
    observe(agent, one)
    assert replica.follow(0) == [Change("s1", "alice", entry_of(one), None)]
    observe(agent, changed, two)
    assert replica.follow(0) == [
        Change("s1", "alice", entry_of(changed), entry_of(one)),
        Change("s2", "bob", entry_of(two), None),
    ]
    observe(agent, two)
    assert replica.follow(0) == [Change("s1", "alice", None, entry_of(changed))]
    assert replica.follow(0) == []


def test_the_first_read_returns_every_session_as_new(agent: Store, replica: Replica[Entry]) -> None:
    observe(agent, numbered(1), numbered(2))
    assert replica.follow(0) == [
        Change("s1", "alice", entry_of(numbered(1)), None),
        Change("s2", "alice", entry_of(numbered(2)), None),
    ]


def test_a_session_that_came_and_went_between_two_reads_is_no_change(
    agent: Store, replica: Replica[Entry]
) -> None:
    replica.follow(0)
    observe(agent, numbered(1))
    observe(agent)
    assert replica.follow(0) == []


def test_a_revocation_alone_is_no_change_of_sessions(agent: Store, replica: Replica[Entry]) -> None:
    replica.follow(0)
    agent.revoke({"token": FAR})
    assert replica.follow(0) == []
    assert list(replica.revoked) == ["token"]


def test_a_revocation_is_forgotten_when_the_store_no_longer_keeps_it(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    agent.revoke({"soon": now + 10, "late": now + 5000})
    replica.refresh()
    clock = SimpleNamespace(passed=time.monotonic())
    times = SimpleNamespace(
        time=lambda: time.time() + 2 * KEEP_REVOKED_SECONDS, monotonic=lambda: clock.passed
    )
    monkeypatch.setattr(sqlite_order, "time", times)
    monkeypatch.setattr(replica_module, "time", times)  # a jump of the clock says nothing
    agent.revoke({"other": FAR})
    replica.refresh()
    assert set(replica.revoked) == {"soon", "late", "other"}
    monkeypatch.setattr(sqlite_order, "LONGEST_STEP", KEEP_REVOKED_SECONDS)
    clock.passed += KEEP_REVOKED_SECONDS / 2 + 100  # the store catches up at double speed
    agent.revoke({"more": FAR})
    replica.refresh()
    assert set(replica.revoked) == {"late", "other", "more"}


def test_several_followers_of_one_store_end_the_same(agent: Store, database: Path) -> None:
    stores = [open_store(f"sqlite:///{database}") for _ in range(2)]
    eager, lazy = (Replica(each, Entry) for each in stores)
    for number in range(20):
        observe(agent, *(numbered(each, clients=number % 3) for each in range(number % 5)))
        eager.refresh()
    lazy.refresh()
    assert eager.page("alice", ALL) == lazy.page("alice", ALL)
    for store in stores:
        store.close()


def test_nothing_is_kept_of_a_login_without_sessions(agent: Store, replica: Replica[Entry]) -> None:
    for number in range(20):
        observe(agent, numbered(1, f"login{number}"))
        replica.refresh()
    observe(agent)
    replica.refresh()
    assert set(replica._views) == set(Everything)


@pytest.mark.parametrize(("changed", "looked_at"), [(10, 2 * 10), (11, 80)])
def test_many_changes_at_once_are_sorted_anew_and_few_put_in_place(
    agent: Store,
    replica: Replica[Entry],
    monkeypatch: pytest.MonkeyPatch,
    changed: int,
    looked_at: int,
) -> None:
    """Of 80 sessions; one that is put in place is looked at before and after its change."""
    observe(agent, *(numbered(number, clients=0) for number in range(80)))
    replica.refresh()
    replica.page(Everything.SESSIONS, ALL)
    looks: list[str] = []

    look = Entry.value

    def counted(entry: Entry, name: str) -> Any:
        looks.append(name)
        return look(entry, name)

    monkeypatch.setattr(Entry, "value", counted)
    observe(agent, *(numbered(number, clients=int(number < changed)) for number in range(80)))
    replica.refresh()
    replica.page(Everything.SESSIONS, ALL)
    assert len(looks) == looked_at


def test_the_last_part_of_an_earlier_reading_is_not_yet_what_the_store_says(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "AT_ONCE", 1)
    monkeypatch.setattr(replica_module, "CATCH_UP_SECONDS", 0)
    observe(agent, numbered(1))
    replica.refresh()
    observe(agent, numbered(1), numbered(2), numbered(3))
    replica.refresh()
    observe(agent, numbered(1))
    replica.refresh()
    assert ids_of(replica, "alice") == {"s1", "s2", "s3"} and replica.problem is not None
    while replica.problem is not None:
        replica.refresh()
    assert ids_of(replica, "alice") == {"s1"}
