"""The replica and a store whose history it has left, or that has lost what it had."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastx_list.model.session import Session
from fastx_list.replica.doubt import RETRY_SECONDS
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Change, Everything
from fastx_list.replica.view import Entry
from fastx_list.store import (
    KEEP_ENDS_SECONDS,
    REFILL_SECONDS,
    Changes,
    Revision,
    SnapshotNeeded,
    Store,
    StoreError,
    open_store,
    sqlite_leases,
    sqlite_order,
)
from tests.replica.stores import (
    FAR,
    Wrapped,
    beat,
    by_id,
    entry_of,
    ids_of,
    listed,
    make_server,
    numbered,
    observe,
    remove_database,
)
from tests.support import wait_for


def _trim(agent: Store, monkeypatch: pytest.MonkeyPatch, *sessions: Session) -> None:
    """Let the store forget all ends, with ``sessions`` running."""
    with monkeypatch.context() as patch:
        observe(agent, *sessions)
        later = time.monotonic() + 2 * KEEP_ENDS_SECONDS
        times = SimpleNamespace(time=time.time, monotonic=lambda: later)
        patch.setattr(sqlite_order, "time", times)
        patch.setattr(sqlite_order, "LONGEST_STEP", 2 * KEEP_ENDS_SECONDS)
        agent.revoke({"third": FAR})


def test_starting_over_yields_exactly_the_differences(
    agent: Store, store: Wrapped, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [numbered(1), numbered(2), numbered(3), numbered(4, "bob")]
    observe(agent, *old)
    beat(agent)
    agent.revoke({"first": FAR})
    replica.follow(0)
    kept, changed, new = numbered(1), numbered(2, clients=9), numbered(5, "bob")
    observe(agent, kept, changed, new)
    agent.revoke({"second": FAR})
    _trim(agent, monkeypatch, kept, changed, new)
    beat(agent)
    store.calls.clear()
    changes = replica.follow(0)
    assert store.calls == ["changes", "read_all"]
    assert by_id(changes) == [
        Change("s2", "alice", entry_of(changed), entry_of(old[1])),
        Change("s3", "alice", None, entry_of(old[2])),
        Change("s4", "bob", None, entry_of(old[3])),
        Change("s5", "bob", entry_of(new), None),
    ]
    assert (ids_of(replica, "alice"), ids_of(replica, "bob")) == ({"s1", "s2"}, {"s5"})
    assert set(replica.revoked) == {"first", "second", "third"}
    assert replica.follow(0) == []
    observe(agent, kept, changed)
    assert replica.follow(0) == [Change("s5", "bob", None, entry_of(new))]


def test_a_revocation_outlives_a_store_that_loses_it(
    agent: Store, replica: Replica[Entry], store: Wrapped, database: Path, clock: SimpleNamespace
) -> None:
    agent.revoke({"token": FAR})
    agent.revoke({"short": int(time.time()) + 10})
    replica.refresh()
    remove_database(database)
    replica.refresh()
    assert set(replica.revoked) == {"token", "short"}
    wait_for("the revocations", lambda: len(agent.snapshot().revoked) == 2)
    newcomer = Replica(store, Entry)
    newcomer.refresh()
    assert set(newcomer.revoked) == {"token", "short"}


def test_a_store_that_was_removed_ends_its_sessions(
    agent: Store, replica: Replica[Entry], database: Path
) -> None:
    observe(agent, numbered(1), numbered(2))
    beat(agent)
    replica.follow(0)
    remove_database(database)
    beat(agent)
    assert by_id(replica.follow(0)) == [
        Change("s1", "alice", None, entry_of(numbered(1))),
        Change("s2", "alice", None, entry_of(numbered(2))),
    ]
    observe(agent, numbered(2))
    assert replica.follow(0) == [Change("s2", "alice", entry_of(numbered(2)), None)]


def test_a_store_that_was_made_anew_while_it_could_not_be_read_is_read_from_the_start(
    agent: Store, store: Wrapped, replica: Replica[Entry], database: Path, clock: SimpleNamespace
) -> None:
    observe(agent, numbered(1), numbered(2))
    beat(agent)
    replica.refresh()
    agent.close()
    store.close()
    remove_database(database)
    database.write_bytes(b"no database at all\n" * 1000)
    replica.refresh()
    assert replica.problem is not None
    assert listed(replica, "alice") == ["s1", "s2"]
    remove_database(database)
    for number in range(10):  # the new store's revisions overtake the one that the replica knows
        observe(agent, numbered(3), numbered(4, clients=number))
    beat(agent)
    clock.now += RETRY_SECONDS
    replica.refresh()
    assert replica.problem is None
    assert listed(replica, "alice") == ["s3", "s4"]


class Forgetful(Wrapped):
    """Has always lost the history; the second time that all is read it cannot be."""

    readings = 0

    def changes(self, revision: Revision, timeout: float = 0) -> Changes | None:
        super().changes(revision, timeout)
        raise SnapshotNeeded

    def read_all(self) -> Generator[None, None, Changes]:
        self.readings += 1
        if self.readings == 2:
            raise StoreError("no such disk")
        return (yield from super().read_all())


def test_a_snapshot_that_fails_after_the_history_was_left_is_taken_later(
    agent: Store, database: Path
) -> None:
    observe(agent, numbered(1))
    store = Forgetful(open_store(f"sqlite:///{database}"))
    replica = Replica(store, Entry)
    replica.follow(0)
    observe(agent, numbered(2))
    assert replica.follow(0) == []
    assert replica.problem == "no such disk"
    assert by_id(replica.follow(0)) == [
        Change("s1", "alice", None, entry_of(numbered(1))),
        Change("s2", "alice", entry_of(numbered(2)), None),
    ]
    store.close()


def test_what_a_store_has_lost_stays_until_its_servers_are_back(
    agent: Store, replica: Replica[Entry], database: Path, clock: SimpleNamespace
) -> None:
    first, second, third = (
        replace(numbered(number), server_id=server)
        for number, server in ((1, "one"), (2, "two"), (3, "two"))
    )
    for each in (first, second):
        agent.observe(each.server_id, {each.id: each})
        beat(agent, each.server_id)
    replica.refresh()
    remove_database(database)
    for _ in range(2):
        clock.now += 1
        replica.refresh()
        assert ids_of(replica, "alice") == {"s1", "s2"}
        assert replica.problem is not None and "has lost" in replica.problem
    agent.observe("one", {"s1": first})
    beat(agent, "one")
    clock.now += 1
    replica.refresh()
    assert ids_of(replica, "alice") == {"s1", "s2"}
    agent.observe("two", {"s3": third})
    beat(agent, "two")
    clock.now += 1
    assert replica.follow(0) == [
        Change("s2", "alice", None, entry_of(second)),
        Change("s3", "alice", entry_of(third), None),
    ]
    assert replica.problem is None
    # Another loss has its own time.
    clock.now += 100
    remove_database(database)
    assert replica.follow(0) == []
    assert ids_of(replica, "alice") == {"s1", "s3"}


def _lose(agent: Store, replica: Replica[Entry], database: Path, has_server: bool = True) -> None:
    """Let the replica know session 1, and its server if it ``has_server``, and then find that the
    store has lost it."""
    observe(agent, numbered(1))
    if has_server:
        beat(agent)
    replica.refresh()
    remove_database(database)
    replica.refresh()


def test_sessions_that_were_told_before_their_server_was_are_waited_for(
    agent: Store, replica: Replica[Entry], database: Path, clock: SimpleNamespace
) -> None:
    """An agent writes them first."""
    _lose(agent, replica, database, has_server=False)
    for _ in range(2):
        assert replica.follow(0) == [] and ids_of(replica, "alice") == {"s1"}
        assert "lost what it had" in str(replica.problem)
        clock.now += RETRY_SECONDS
    observe(agent, numbered(1))
    beat(agent)
    assert replica.follow(0) == [Change("server", Everything.SERVERS, make_server(), None)]
    assert replica.problem is None


def test_a_server_of_which_only_sessions_were_told_is_not_waited_for_for_ever(
    agent: Store, replica: Replica[Entry], database: Path, clock: SimpleNamespace
) -> None:
    began = clock.now
    _lose(agent, replica, database, has_server=False)
    while not replica.follow(0):
        clock.now += RETRY_SECONDS
    assert replica.problem is None and ids_of(replica, "alice") == set()
    assert clock.now - began == REFILL_SECONDS


def test_servers_that_a_store_loses_once_more_get_their_time_anew(
    agent: Store, replica: Replica[Entry], database: Path, clock: SimpleNamespace
) -> None:
    for server, number in (("one", 1), ("two", 2)):
        agent.observe(server, {f"s{number}": numbered(number)})
        beat(agent, server)
    replica.refresh()
    remove_database(database)
    replica.refresh()
    agent.observe("one", {"s1": numbered(1)})
    beat(agent, "one")
    clock.now += REFILL_SECONDS - 1
    replica.refresh()
    remove_database(database)
    for _ in range(2):
        clock.now += REFILL_SECONDS / 2 - 1
        replica.refresh()
        assert ids_of(replica, "alice") == {"s1", "s2"}
        assert replica.problem is not None and "has lost" in replica.problem


def test_servers_get_their_time_anew_after_the_store_could_not_be_read(
    agent: Store, replica: Replica[Entry], store: Wrapped, database: Path, clock: SimpleNamespace
) -> None:
    """Agents cannot write either for as long as it cannot be read."""
    _lose(agent, replica, database)
    store.failing = "no such disk"
    for _ in range(3):
        clock.now += REFILL_SECONDS
        replica.refresh()
        assert replica.problem == "no such disk"
    store.failing = None
    for _ in range(3):  # the first time is the one in which it can be read again
        clock.now += REFILL_SECONDS / 2 - 0.1
        replica.refresh()
        assert ids_of(replica, "alice") == {"s1"}
    clock.now += 1
    replica.refresh()
    assert ids_of(replica, "alice") == set()
    assert replica.problem is None


def test_a_time_in_which_nobody_ran_gives_no_server_up(
    agent: Store, replica: Replica[Entry], database: Path, clock: SimpleNamespace
) -> None:
    _lose(agent, replica, database)
    clock.now += 60
    replica.refresh()
    assert ids_of(replica, "alice") == {"s1"} and replica.problem is not None
    observe(agent, numbered(1))
    beat(agent)
    clock.now += 1
    replica.refresh()
    assert ids_of(replica, "alice") == {"s1"} and replica.problem is None


def test_servers_of_a_store_that_only_could_not_be_read_are_not_waited_for(
    agent: Store, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Forgetful(open_store(f"sqlite:///{database}"))
    replica = Replica(store, Entry)
    beat(agent)
    replica.follow(0)
    later = time.monotonic()
    monkeypatch.setattr(sqlite_leases, "clock", lambda: later)
    for _ in range(9):  # its lease has run out by then
        later += 450
        agent.end_leases()
    assert replica.follow(0) == [] and replica.problem == "no such disk"
    assert [change.id for change in replica.follow(0)] == ["server"]
    assert replica.problem is None
    store.close()


def test_a_large_store_is_not_read_again_and_again_while_its_servers_are_waited_for(
    agent: Store, replica: Replica[Entry], store: Wrapped, database: Path, clock: SimpleNamespace
) -> None:
    beat(agent)
    replica.refresh()
    remove_database(database)
    store.reading_takes = lambda: setattr(clock, "now", clock.now + 0.5)
    replica.refresh()
    assert replica.problem == (
        "the store has lost what it had, and agents have not written it again yet"
    )
    store.calls.clear()
    clock.now += 10 * 0.5 - 0.1
    replica.refresh()
    assert store.calls == []
    clock.now += 0.1
    replica.refresh()
    assert store.calls == ["read_all"]


def test_a_revocation_that_cannot_be_written_again_holds_here(
    agent: Store,
    replica: Replica[Entry],
    store: Wrapped,
    database: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As on a full disk, which can be read."""
    agent.revoke({"token": FAR})
    replica.refresh()
    remove_database(database)
    observe(agent, numbered(1))
    store.is_full = True
    replica.refresh()
    assert set(replica.revoked) == {"token"}
    assert ids_of(replica, "alice") == {"s1"}
    assert replica.problem is None

    def is_told() -> bool:
        replica.refresh()
        return "could not be written" in caplog.text and "the disk is full" in caplog.text

    wait_for("a line of the log", is_told)
    store.is_full = False

    def is_written() -> bool:
        replica.refresh()
        return "token" in agent.snapshot().revoked

    wait_for("the revocation, as soon as there is room", is_written)
