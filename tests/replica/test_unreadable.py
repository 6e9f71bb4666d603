"""The replica while its store cannot be read, and afterwards."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from fastx_list.replica.doubt import RETRY_SECONDS
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Change
from fastx_list.replica.view import Entry
from fastx_list.store import Store, StoreError
from tests.replica.stores import ALL, FAR, Wrapped, entry_of, ids_of, numbered, observe


def test_without_any_copy_a_store_that_cannot_be_read_is_an_error(
    store: Wrapped, replica: Replica[Entry]
) -> None:
    store.failing = "no such disk"
    with pytest.raises(StoreError, match="no such disk"):
        replica.refresh()
    assert not replica.loaded
    assert replica.problem == "no such disk"


def test_it_is_read_as_soon_as_it_can_be(
    agent: Store, store: Wrapped, replica: Replica[Entry], clock: SimpleNamespace
) -> None:
    observe(agent, numbered())
    store.failing = "no such disk"
    with pytest.raises(StoreError):
        replica.refresh()
    store.failing = None
    clock.now += RETRY_SECONDS
    replica.refresh()
    assert replica.problem is None
    assert ids_of(replica, "alice") == {"s1"}


def test_the_last_copy_stays_while_the_store_cannot_be_read(
    agent: Store, store: Wrapped, replica: Replica[Entry], clock: SimpleNamespace
) -> None:
    observe(agent, numbered(1))
    agent.revoke({"token": FAR})
    replica.refresh()
    assert replica.problem is None
    page = replica.page("alice", ALL)
    observe(agent, numbered(2))
    store.failing = "no such disk"
    replica.refresh()
    assert replica.problem == "no such disk"
    assert replica.loaded
    assert replica.page("alice", ALL) == page
    assert "token" in replica.revoked
    store.failing = None
    clock.now += RETRY_SECONDS
    replica.refresh()
    assert replica.problem is None
    assert ids_of(replica, "alice") == {"s2"}


def test_following_goes_on_where_it_was_when_the_store_comes_back(
    agent: Store, store: Wrapped, replica: Replica[Entry]
) -> None:
    observe(agent, numbered(1))
    replica.follow(0)
    store.failing = "no such disk"
    observe(agent, numbered(2))
    assert replica.follow(0) == []
    assert replica.problem == "no such disk"
    store.failing = None
    assert replica.follow(0) == [
        Change("s2", "alice", entry_of(numbered(2)), None),
        Change("s1", "alice", None, entry_of(numbered(1))),
    ]
    assert replica.problem is None


def test_the_problem_is_the_one_there_is_now(store: Wrapped, replica: Replica[Entry]) -> None:
    replica.follow(0)
    for problem in ("no such disk", "no such file"):
        store.failing = problem
        replica.follow(0)
        assert replica.problem == problem


def test_requests_do_not_hammer_a_store_that_cannot_be_read(
    store: Wrapped, replica: Replica[Entry], clock: SimpleNamespace
) -> None:
    replica.refresh()
    store.failing = "no such disk"
    replica.refresh()
    store.calls.clear()
    for _ in range(5):
        replica.refresh()
    assert store.calls == []
    clock.now += RETRY_SECONDS
    replica.refresh()
    replica.refresh()
    assert store.calls == ["changes"]


def test_a_problem_and_its_end_are_each_logged_once(
    store: Wrapped, replica: Replica[Entry], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    replica.follow(0)
    assert caplog.records == []
    store.failing = "no such disk"
    for _ in range(3):
        replica.follow(0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "no such disk" in caplog.text
    store.failing = None
    for _ in range(3):
        replica.follow(0)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
