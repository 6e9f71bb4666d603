"""The replica: an in-memory copy of a store, followed by revision."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastx_list.live.frames import session_frame
from fastx_list.model.query import Filter, Query
from fastx_list.model.server import Server, encode_server
from fastx_list.model.session import Session, encode
from fastx_list.replica import replica as replica_module
from fastx_list.replica.replica import REFILL_SECONDS, Change, Everything, Replica
from fastx_list.replica.view import Entry
from fastx_list.store import (
    HISTORY_SECONDS,
    Changes,
    Lease,
    Record,
    SnapshotNeeded,
    Store,
    StoreError,
    open_store,
    sqlite,
    sqlite_leases,
)

FAR = 2**40  # seconds since the epoch: a token that outlives the tests
ALL = Query()


class Wrapped:
    """A store that counts the calls of its readers, and that cannot be read while ``failing`` says
    why."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: list[str] = []
        self.failing: str | None = None

    def _count(self, name: str) -> None:
        self.calls.append(name)
        if self.failing is not None:
            raise StoreError(self.failing)

    def snapshot(self) -> Changes:
        self._count("snapshot")
        return self._store.snapshot()

    def changes(self, revision: int, timeout: float = 0) -> Changes | None:
        self._count("changes")
        return self._store.changes(revision, timeout)

    def observe(self, server_id: str, sessions: Mapping[str, Session]) -> None:
        self._store.observe(server_id, sessions)

    def set_params(self, session_id: str, login: str, patch: Mapping[str, Any]) -> str | None:
        return self._store.set_params(session_id, login, patch)

    def revoke(self, jti: str, expires: int) -> None:
        self._store.revoke(jti, expires)

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def agent(database: Path) -> Iterator[Store]:
    """Writes to the store that the replica follows."""
    store = open_store(f"sqlite:///{database}")
    yield store
    store.close()


@pytest.fixture
def store(database: Path) -> Iterator[Wrapped]:
    """What the replica reads from."""
    wrapped = Wrapped(open_store(f"sqlite:///{database}"))
    yield wrapped
    wrapped.close()


@pytest.fixture
def replica(store: Wrapped) -> Replica:
    return Replica(store)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The replica's clock: ``now`` counts its seconds."""
    clock = SimpleNamespace(now=1000.0)
    times = SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now)
    monkeypatch.setattr(replica_module, "time", times)
    return clock


def _session(number: int = 1, login: str = "alice", **facts: Any) -> Session:
    return Session(
        id=f"s{number}", login=login, server_id="server", hostname="host", started=number, **facts
    )


def _observe(store: Store, *sessions: Session) -> None:
    store.observe("server", {session.id: session for session in sessions})


def _ids(replica: Replica, login: str) -> set[str]:
    return set(replica.entries(login))


def _listed(replica: Replica, login: str, query: Query = ALL) -> list[str]:
    return [members["id"] for members in json.loads(replica.page(login, query).body)]


def _entry(session: Session, params: Mapping[str, Any] | None = None) -> Entry:
    return Entry(session.id, session.login, encode(session, params or {}).encode())


# Following.


def test_it_holds_nothing_before_it_has_been_read(replica: Replica) -> None:
    assert not replica.loaded
    assert list(replica.entries("alice")) == []
    assert list(replica.revoked) == []


def test_it_holds_what_the_store_holds(agent: Store, replica: Replica) -> None:
    _observe(agent, _session(1), _session(2))
    agent.revoke("token", FAR)
    replica.refresh()
    assert replica.loaded
    assert replica.entries("alice") == {"s1": _entry(_session(1)), "s2": _entry(_session(2))}
    assert list(replica.revoked) == ["token"]


def test_an_empty_store_counts_as_read(replica: Replica) -> None:
    replica.refresh()
    assert replica.loaded
    assert replica.page("alice", ALL).body == b"[]"


def test_it_follows_changes_ends_and_revocations(agent: Store, replica: Replica) -> None:
    _observe(agent, _session(1), _session(2))
    replica.refresh()
    _observe(agent, _session(2, clients=1), _session(3))
    agent.set_params("s3", "alice", {"a": 1})
    agent.revoke("token", FAR)
    replica.refresh()
    assert replica.entries("alice") == {
        "s2": _entry(_session(2, clients=1)),
        "s3": _entry(_session(3), {"a": 1}),
    }
    assert "token" in replica.revoked


def test_it_finds_sessions_by_login(agent: Store, replica: Replica) -> None:
    _observe(agent, _session(1), _session(2, "bob"), _session(3))
    replica.refresh()
    assert (_ids(replica, "alice"), _ids(replica, "bob"), _ids(replica, "carol")) == (
        {"s1", "s3"},
        {"s2"},
        set(),
    )
    _observe(agent, _session(1))
    replica.refresh()
    assert (_ids(replica, "alice"), _ids(replica, "bob")) == ({"s1"}, set())


def test_a_session_that_changes_hands_is_found_under_its_new_login_only(
    agent: Store, replica: Replica
) -> None:
    _observe(agent, _session(1, "alice"))
    replica.refresh()
    assert _listed(replica, "alice") == ["s1"]
    _observe(agent, _session(1, "bob"))
    replica.refresh()
    assert (_listed(replica, "alice"), _listed(replica, "bob")) == ([], ["s1"])


def test_a_refresh_without_news_reads_no_row(
    agent: Store, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    connect = sqlite3.connect

    def connect_and_trace(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(statements.append)
        return connection

    _observe(agent, _session())
    monkeypatch.setattr(sqlite3, "connect", connect_and_trace)
    replica.refresh()
    replica.refresh()
    # So it is this connection that is traced
    assert any("session" in statement for statement in statements)
    for _ in range(3):
        statements.clear()
        replica.refresh()
        assert statements == ["PRAGMA data_version"]
    _observe(agent, _session(clients=1))
    statements.clear()
    replica.refresh()
    assert any("session" in statement for statement in statements)


def test_a_refresh_asks_the_store_once(agent: Store, store: Wrapped, replica: Replica) -> None:
    replica.refresh()
    for _ in range(2):
        store.calls.clear()
        replica.refresh()
        assert store.calls == ["changes"]
        _observe(agent, _session())


def test_following_returns_each_change_with_what_was_before(agent: Store, replica: Replica) -> None:
    one, two, changed = _session(1), _session(2, "bob"), _session(1, clients=1)
    assert replica.follow(0) == []
    _observe(agent, one)
    assert replica.follow(0) == [Change("s1", "alice", _entry(one), None)]
    _observe(agent, changed, two)
    assert replica.follow(0) == [
        Change("s1", "alice", _entry(changed), _entry(one)),
        Change("s2", "bob", _entry(two), None),
    ]
    _observe(agent, two)
    assert replica.follow(0) == [Change("s1", "alice", None, _entry(changed))]
    assert replica.follow(0) == []


def test_the_first_read_returns_every_session_as_new(agent: Store, replica: Replica) -> None:
    _observe(agent, _session(1), _session(2))
    assert replica.follow(0) == [
        Change("s1", "alice", _entry(_session(1)), None),
        Change("s2", "alice", _entry(_session(2)), None),
    ]


def test_a_session_that_came_and_went_between_two_reads_is_no_change(
    agent: Store, replica: Replica
) -> None:
    replica.follow(0)
    _observe(agent, _session(1))
    _observe(agent)
    assert replica.follow(0) == []


def test_a_revocation_alone_is_no_change_of_sessions(agent: Store, replica: Replica) -> None:
    replica.follow(0)
    agent.revoke("token", FAR)
    assert replica.follow(0) == []
    assert list(replica.revoked) == ["token"]


def test_a_revocation_is_forgotten_when_the_token_has_expired(
    agent: Store, replica: Replica, clock: SimpleNamespace
) -> None:
    agent.revoke("soon", 1010)
    agent.revoke("late", 5000)
    replica.refresh()
    assert set(replica.revoked) == {"soon", "late"}
    clock.now = 1011.0
    agent.revoke("more", 5000)
    replica.refresh()
    assert set(replica.revoked) == {"late", "more"}


def test_the_frame_of_an_entry_is_made_once() -> None:
    entry = _entry(_session())
    assert entry.frame is entry.frame
    assert entry.frame == session_frame("s1", entry.text)


# Starting over.


def _trim(agent: Store, monkeypatch: pytest.MonkeyPatch, *sessions: Session) -> None:
    """Let the store forget all ends, with ``sessions`` running."""
    with monkeypatch.context() as patch:
        later = time.time() + 2 * HISTORY_SECONDS
        patch.setattr(sqlite, "time", SimpleNamespace(time=lambda: later))
        _observe(agent, *sessions)


def test_starting_over_yields_exactly_the_differences(
    agent: Store, store: Wrapped, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [_session(1), _session(2), _session(3), _session(4, "bob")]
    _observe(agent, *old)
    agent.revoke("first", FAR)
    replica.follow(0)
    kept, changed, new = _session(1), _session(2, clients=9), _session(5, "bob")
    _observe(agent, kept, changed, new)
    agent.revoke("second", FAR)
    _trim(agent, monkeypatch, kept, changed, new)
    store.calls.clear()
    changes = replica.follow(0)
    assert store.calls == ["changes", "snapshot"]
    assert sorted(changes) == [
        Change("s2", "alice", _entry(changed), _entry(old[1])),
        Change("s3", "alice", None, _entry(old[2])),
        Change("s4", "bob", None, _entry(old[3])),
        Change("s5", "bob", _entry(new), None),
    ]
    assert (_ids(replica, "alice"), _ids(replica, "bob")) == ({"s1", "s2"}, {"s5"})
    assert set(replica.revoked) == {"first", "second"}
    assert replica.follow(0) == []
    _observe(agent, kept, changed)
    assert replica.follow(0) == [Change("s5", "bob", None, _entry(new))]


def test_a_revocation_outlives_a_store_that_loses_it(
    agent: Store, replica: Replica, store: Wrapped, database: Path, clock: SimpleNamespace
) -> None:
    agent.revoke("token", FAR)
    agent.revoke("short", 1010)
    replica.refresh()
    _remove(database)
    replica.refresh()
    assert set(replica.revoked) == {"token", "short"}
    newcomer = Replica(store)
    newcomer.refresh()
    assert set(newcomer.revoked) == {"token", "short"}
    clock.now = 1011
    agent.revoke("other", FAR)
    replica.refresh()
    assert set(replica.revoked) == {"token", "other"}


def test_a_store_that_was_removed_ends_its_sessions(
    agent: Store, replica: Replica, database: Path
) -> None:
    _observe(agent, _session(1), _session(2))
    replica.follow(0)
    _remove(database)
    assert sorted(replica.follow(0)) == [
        Change("s1", "alice", None, _entry(_session(1))),
        Change("s2", "alice", None, _entry(_session(2))),
    ]
    _observe(agent, _session(2))
    assert replica.follow(0) == [Change("s2", "alice", _entry(_session(2)), None)]


def test_a_store_that_was_made_anew_while_it_could_not_be_read_is_read_from_the_start(
    agent: Store, store: Wrapped, replica: Replica, database: Path, clock: SimpleNamespace
) -> None:
    _observe(agent, _session(1), _session(2))
    replica.refresh()
    agent.close()
    store.close()
    _remove(database)
    database.write_bytes(b"no database at all\n" * 1000)
    replica.refresh()
    assert replica.problem is not None
    assert _listed(replica, "alice") == ["s1", "s2"]
    _remove(database)
    for number in range(10):  # the new store's revisions overtake the one that the replica knows
        _observe(agent, _session(3), _session(4, clients=number))
    clock.now += replica_module.RETRY_SECONDS
    replica.refresh()
    assert replica.problem is None
    assert _listed(replica, "alice") == ["s3", "s4"]


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


# A store that cannot be read.


def test_without_any_copy_a_store_that_cannot_be_read_is_an_error(
    store: Wrapped, replica: Replica
) -> None:
    store.failing = "no such disk"
    with pytest.raises(StoreError, match="no such disk"):
        replica.refresh()
    assert not replica.loaded
    assert replica.problem == "no such disk"


def test_it_is_read_as_soon_as_it_can_be(
    agent: Store, store: Wrapped, replica: Replica, clock: SimpleNamespace
) -> None:
    _observe(agent, _session())
    store.failing = "no such disk"
    with pytest.raises(StoreError):
        replica.refresh()
    store.failing = None
    clock.now += replica_module.RETRY_SECONDS
    replica.refresh()
    assert replica.problem is None
    assert _ids(replica, "alice") == {"s1"}


def test_the_last_copy_stays_while_the_store_cannot_be_read(
    agent: Store, store: Wrapped, replica: Replica, clock: SimpleNamespace
) -> None:
    _observe(agent, _session(1))
    agent.revoke("token", FAR)
    replica.refresh()
    assert replica.problem is None
    page = replica.page("alice", ALL)
    _observe(agent, _session(2))
    store.failing = "no such disk"
    replica.refresh()
    assert replica.problem == "no such disk"
    assert replica.loaded
    assert replica.page("alice", ALL) == page
    assert "token" in replica.revoked
    store.failing = None
    clock.now += replica_module.RETRY_SECONDS
    replica.refresh()
    assert replica.problem is None
    assert _ids(replica, "alice") == {"s2"}


def test_following_goes_on_where_it_was_when_the_store_comes_back(
    agent: Store, store: Wrapped, replica: Replica
) -> None:
    _observe(agent, _session(1))
    replica.follow(0)
    store.failing = "no such disk"
    _observe(agent, _session(2))
    assert replica.follow(0) == []
    assert replica.problem == "no such disk"
    store.failing = None
    assert replica.follow(0) == [
        Change("s2", "alice", _entry(_session(2)), None),
        Change("s1", "alice", None, _entry(_session(1))),
    ]
    assert replica.problem is None


def test_the_problem_is_the_one_there_is_now(store: Wrapped, replica: Replica) -> None:
    replica.follow(0)
    for problem in ("no such disk", "no such file"):
        store.failing = problem
        replica.follow(0)
        assert replica.problem == problem


def test_requests_do_not_hammer_a_store_that_cannot_be_read(
    store: Wrapped, replica: Replica, clock: SimpleNamespace
) -> None:
    replica.refresh()
    store.failing = "no such disk"
    replica.refresh()
    store.calls.clear()
    for _ in range(5):
        replica.refresh()
    assert store.calls == []
    clock.now += replica_module.RETRY_SECONDS
    replica.refresh()
    replica.refresh()
    assert store.calls == ["changes"]


def test_a_problem_and_its_end_are_each_logged_once(
    store: Wrapped, replica: Replica, caplog: pytest.LogCaptureFixture
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


def test_a_snapshot_that_fails_after_the_history_was_left_is_taken_later(
    agent: Store, database: Path
) -> None:
    class Forgetful(Wrapped):
        """Has lost the history, and then cannot be read."""

        def changes(self, revision: int, timeout: float = 0) -> Changes | None:
            super().changes(revision, timeout)
            raise SnapshotNeeded

        def snapshot(self) -> Changes:
            self._count("snapshot")
            if self.calls.count("snapshot") == 2:
                raise StoreError("no such disk")
            return super().snapshot()

    _observe(agent, _session(1))
    store = Forgetful(open_store(f"sqlite:///{database}"))
    replica = Replica(store)
    replica.follow(0)
    _observe(agent, _session(2))
    store.calls[:] = ["snapshot"]
    assert replica.follow(0) == []
    assert replica.problem == "no such disk"
    assert sorted(replica.follow(0)) == [
        Change("s1", "alice", None, _entry(_session(1))),
        Change("s2", "alice", _entry(_session(2)), None),
    ]
    store.close()


# Pages.


def test_a_page_is_the_array_of_the_logins_sessions(agent: Store, replica: Replica) -> None:
    _observe(agent, _session(2), _session(1), _session(3, "bob"))
    replica.refresh()
    page = replica.page("alice", ALL)
    assert page.body == b"[" + _entry(_session(1)).text + b"," + _entry(_session(2)).text + b"]"
    assert page.total == 2


def test_a_page_is_filtered_sorted_and_cut_as_its_query_says(
    agent: Store, replica: Replica
) -> None:
    _observe(agent, *(_session(number, clients=number % 2) for number in range(6)))
    replica.refresh()
    idle = Filter("clients", frozenset({"0"}))
    query = Query(sort_by="started", sort_reverse=True, start=1, limit=1, filters=(idle,))
    assert _listed(replica, "alice", query) == ["s2"]
    assert replica.page("alice", query).total == 3


def test_the_same_question_is_answered_with_the_same_bytes(agent: Store, replica: Replica) -> None:
    _observe(agent, _session(1))
    replica.refresh()
    page = replica.page("alice", Query(limit=5))
    replica.refresh()
    assert replica.page("alice", Query(limit=5)).body is page.body
    assert replica.page("alice", Query(limit=6)).body is not page.body


@pytest.mark.parametrize("change", ["new", "changed", "params", "ended"])
def test_a_change_of_a_session_makes_a_new_page(
    agent: Store, replica: Replica, change: str
) -> None:
    _observe(agent, _session(1), _session(2))
    replica.refresh()
    before = replica.page("alice", ALL)
    if change == "params":
        agent.set_params("s1", "alice", {"a": 1})
    else:
        views = {
            "new": [_session(1), _session(2), _session(3)],
            "changed": [_session(1), _session(2, clients=1)],
            "ended": [_session(1)],
        }
        _observe(agent, *views[change])
    replica.refresh()
    after = replica.page("alice", ALL)
    assert after.body != before.body
    assert after.etag != before.etag
    assert sorted(json.loads(after.body), key=_id) == sorted(
        (json.loads(str(record.text)) for record in agent.snapshot().records), key=_id
    )


def _id(members: Mapping[str, Any]) -> str:
    return str(members["id"])


def test_a_change_of_another_logins_session_keeps_the_page(agent: Store, replica: Replica) -> None:
    _observe(agent, _session(1), _session(2, "bob"))
    replica.refresh()
    page, empty = replica.page("alice", ALL), replica.page("carol", ALL)
    _observe(agent, _session(1), _session(2, "bob", clients=1), _session(3, "bob"))
    replica.refresh()
    assert replica.page("alice", ALL).body is page.body
    _observe(agent, _session(1))
    replica.refresh()
    assert replica.page("alice", ALL).body is page.body
    assert replica.page("carol", ALL).body is empty.body
    assert replica.page("bob", ALL).body == b"[]"


def test_a_login_without_sessions_has_an_empty_page_also_after_it_had_some(
    agent: Store, replica: Replica
) -> None:
    replica.refresh()
    empty = replica.page("alice", ALL)
    assert (empty.body, empty.total) == (b"[]", 0)
    _observe(agent, _session(1))
    replica.refresh()
    assert _listed(replica, "alice") == ["s1"]
    _observe(agent)
    replica.refresh()
    assert replica.page("alice", ALL) == empty
    _observe(agent, _session(2))
    replica.refresh()
    assert _listed(replica, "alice") == ["s2"]


def test_the_etag_is_the_same_as_long_as_body_and_total_are(
    agent: Store, store: Wrapped, replica: Replica
) -> None:
    _observe(agent, _session(1), _session(2))
    replica.refresh()
    page = replica.page("alice", ALL)
    _observe(agent, _session(1), _session(2, clients=1))
    replica.refresh()
    assert replica.page("alice", ALL).etag != page.etag
    _observe(agent, _session(1), _session(2))
    replica.refresh()
    assert replica.page("alice", ALL) == page  # back where it was, though written twice since
    other = Replica(store)
    other.refresh()
    assert other.page("alice", ALL) == page  # as every worker process says it


def test_questions_with_the_same_answer_have_the_same_etag(agent: Store, replica: Replica) -> None:
    _observe(agent, _session(1), _session(2))
    replica.refresh()
    assert (
        replica.page("alice", Query(limit=2)).etag
        == replica.page("alice", Query(sort_by="id")).etag
    )


def test_the_etag_changes_with_the_total_alone(agent: Store, replica: Replica) -> None:
    _observe(agent, _session(1))
    replica.refresh()
    before = replica.page("alice", Query(limit=1))
    _observe(agent, _session(1), _session(2))
    replica.refresh()
    after = replica.page("alice", Query(limit=1))
    assert after.body == before.body
    assert (before.total, after.total) == (1, 2)
    assert after.etag != before.etag


def _is_kept(replica: Replica, query: Query) -> bool:
    return replica.page("alice", query).body is replica.page("alice", query).body


def test_pages_are_kept_up_to_so_many_bytes(
    agent: Store, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    _observe(agent, _session(1, command="x" * 1000))
    replica.refresh()
    size = len(replica.page("alice", ALL).body) + ALL.size
    monkeypatch.setattr(replica_module, "MAX_PAGES_BYTES", 3 * size)
    first = [replica.page("alice", Query(limit=limit)).body for limit in range(1, 4)]
    # Three fit, so asking for the three again makes none of them anew.
    assert all(
        replica.page("alice", Query(limit=limit + 1)).body is first[limit] for limit in range(3)
    )
    for limit in range(4, 20):
        replica.page("alice", Query(limit=limit))
    assert all(
        replica.page("alice", Query(limit=limit + 1)).body is not first[limit] for limit in range(3)
    )


def test_pages_kept_do_not_grow_without_end(
    agent: Store, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "MAX_PAGES_BYTES", 50_000)
    monkeypatch.setattr(replica_module, "MAX_PAGES", 20)
    made = 0
    for round_number in range(30):
        _observe(
            agent,
            *(
                _session(number, clients=round_number, command="x" * 100 * number)
                for number in range(8)
            ),
        )
        replica.refresh()
        for limit in range(8):
            replica.page("alice", Query(limit=limit))
            made += 1
        pages = list(replica._pages.values())
        assert len(pages) <= 20
        assert sum(len(kept.page.body) for kept in pages) <= 50_000
        assert replica._pages_bytes == sum(kept.size for kept in pages) <= 50_000
    assert made == 240


def test_long_questions_count_as_much_as_long_answers(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.refresh()
    monkeypatch.setattr(replica_module, "MAX_PAGES_BYTES", 1_000_000)
    for number in range(50):
        values = frozenset(f"{number}-{value}" for value in range(1000))
        assert replica.page("nobody", Query(filters=(Filter("command", values),))).body == b"[]"
    assert len(replica._pages) < 10


def test_many_filters_in_turn_are_answered_from_memory(agent: Store, replica: Replica) -> None:
    _observe(agent, *(_session(number) for number in range(20)))
    replica.refresh()
    questions = [
        Query(filters=(Filter("started", frozenset({str(number)})),)) for number in range(20)
    ]
    first = [replica.page("alice", question) for question in questions]
    assert all(
        replica.page("alice", question) is page
        for question, page in zip(questions, first, strict=True)
    )
    _observe(agent, *(_session(number, clients=5 if number == 3 else None) for number in range(20)))
    replica.refresh()
    again = [
        replica.page("alice", question).body == page.body
        for question, page in zip(questions, first, strict=True)
    ]
    assert again.index(False) == 3 and again.count(False) == 1


def test_no_more_than_so_many_pages_are_kept(
    agent: Store, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "MAX_PAGES", 2)
    _observe(agent, _session(1))
    replica.refresh()
    bodies = [replica.page("alice", Query(limit=limit)).body for limit in (1, 2, 3)]
    assert replica.page("alice", Query(limit=3)).body is bodies[2]
    assert replica.page("alice", Query(limit=2)).body is bodies[1]
    assert replica.page("alice", Query(limit=1)).body is not bodies[0]


def test_a_page_that_alone_is_too_big_is_answered_all_the_same(
    agent: Store, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "MAX_PAGES_BYTES", 10)
    _observe(agent, _session(1))
    replica.refresh()
    assert _listed(replica, "alice") == ["s1"]
    assert _listed(replica, "alice", Query(limit=3)) == ["s1"]


# Whatever happens to the store, in whatever order.

_NUMBERS = st.integers(0, 4)
_LOGINS = st.sampled_from(["alice", "bob"])
_VIEWS = st.dictionaries(_NUMBERS, st.tuples(_LOGINS, st.integers(0, 2)), max_size=5)


class Following(RuleBasedStateMachine):
    """A replica follows a real store: at any moment it equals it, and the changes that it returns
    add up to the same."""

    def __init__(self) -> None:
        super().__init__()
        # In memory, where there is such a thing: what is written is synced, and thousands of syncs
        # to a disk take minutes.
        self.directory = tempfile.TemporaryDirectory(
            dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        )
        self.database = Path(self.directory.name) / "sessions.db"
        self.now = 1_700_000_000.0
        self.patch = pytest.MonkeyPatch()
        # Thousands of lines would say that it fails when it is told to.
        self.patch.setattr(replica_module.log, "disabled", True)
        self.patch.setattr(
            sqlite, "time", SimpleNamespace(time=lambda: self.now, monotonic=time.monotonic)
        )
        self.writer = open_store(f"sqlite:///{self.database}")
        self.reader = open_store(f"sqlite:///{self.database}")
        self.wrapped = Wrapped(self.reader)
        self.replica = Replica(self.wrapped)
        self.published: dict[str, Entry] = {}
        self.followed = False

    def teardown(self) -> None:
        self.writer.close()
        self.reader.close()
        self.patch.undo()
        self.directory.cleanup()

    @initialize(view=_VIEWS)
    def start(self, view: dict[int, tuple[str, int]]) -> None:
        self.observe("a", view)

    @rule(server=st.sampled_from("ab"), view=_VIEWS)
    def observe(self, server: str, view: dict[int, tuple[str, int]]) -> None:
        self.followed = False
        sessions = [
            Session(
                id=f"{server}{number}",
                login=login,
                server_id=server,
                hostname="host",
                started=number,
                clients=clients,
                params={"born": clients},
            )
            for number, (login, clients) in view.items()
        ]
        self.writer.observe(server, {session.id: session for session in sessions})

    @rule(server=st.sampled_from("ab"))
    def end_all(self, server: str) -> None:
        self.observe(server, {})

    @rule(
        server=st.sampled_from("ab"),
        number=_NUMBERS,
        login=_LOGINS,
        value=st.none() | st.integers(0, 2),
    )
    def set_params(self, server: str, number: int, login: str, value: int | None) -> None:
        self.followed = False
        self.writer.set_params(f"{server}{number}", login, {"a": value})

    @rule(number=_NUMBERS)
    def revoke(self, number: int) -> None:
        self.followed = False
        self.writer.revoke(str(number), FAR)

    @rule()
    def trim(self) -> None:
        """Let the store forget: the ends before now are history, and the next view of a server that
        has none drops them."""
        self.followed = False
        self.now += HISTORY_SECONDS + 1
        self.writer.observe("nobody's", {})

    @rule()
    def reopen(self) -> None:
        self.reader.close()

    @rule(view=_VIEWS, writes=st.integers(0, 20), closed=st.booleans())
    def replace(self, view: dict[int, tuple[str, int]], writes: int, closed: bool) -> None:
        """Another store stands in its place, whose revisions may have overtaken those that the
        replica knows."""
        if closed:
            self.reader.close()
        _remove(self.database)
        for number in range(writes):
            self.writer.revoke(str(number), FAR)
        self.observe("a", view)

    @rule()
    def fail_once(self) -> None:
        self.wrapped.failing = "no such disk"
        assert self.replica.follow(0) == []
        self.wrapped.failing = None

    @rule()
    def follow(self) -> None:
        for change in self.replica.follow(0):
            assert change.before == self.published.get(change.id)
            assert change.entry != change.before
            if change.entry is None:
                del self.published[change.id]
            else:
                assert (change.entry.id, change.entry.login) == (change.id, change.topic)
                self.published[change.id] = change.entry
        assert self.replica.problem is None
        self.followed = True

    @invariant()
    def is_equal(self) -> None:
        mine = {**self.replica.entries("alice"), **self.replica.entries("bob")}
        assert mine == self.published == self.replica.entries(Everything.SESSIONS)
        for login in ("alice", "bob"):
            entries = [entry for entry in mine.values() if entry.login == login]
            page = self.replica.page(login, Query(sort_by="id"))
            assert (
                page.body
                == b"["
                + b",".join(entry.text for entry in sorted(entries, key=lambda entry: entry.id))
                + b"]"
            )
            assert page.total == len(entries)
        if self.followed:
            snapshot = self.writer.snapshot()
            assert {
                entry.id: Record(entry.id, entry.login, entry.id[0], entry.text.decode())
                for entry in mine.values()
            } == {record.id: record for record in snapshot.records}
            assert set(self.replica.revoked) == set(snapshot.revoked)


TestFollowing: Any = Following.TestCase
TestFollowing.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_several_followers_of_one_store_end_the_same(agent: Store, database: Path) -> None:
    stores = [open_store(f"sqlite:///{database}") for _ in range(2)]
    eager, lazy = map(Replica, stores)
    for number in range(20):
        _observe(agent, *(_session(each, clients=number % 3) for each in range(number % 5)))
        eager.refresh()
    lazy.refresh()
    assert eager.page("alice", ALL) == lazy.page("alice", ALL)
    for store in stores:
        store.close()


# Servers.


def _server(server_id: str = "server", **facts: Any) -> Entry:
    return Entry(server_id, "", encode_server(Server(server_id, "host", **facts)).encode())


def _beat(store: Store, server_id: str = "server", **facts: Any) -> None:
    store.heartbeat(Server(server_id, "host", **facts), Lease("agent", "1", "host", 3600))


def _server_change(before: Entry | None, entry: Entry | None) -> Change:
    either = entry or before
    assert either is not None
    return Change(either.id, Everything.SERVERS, entry, before)


def test_it_follows_servers(agent: Store, replica: Replica) -> None:
    assert replica.follow(0) == [] and replica.entries(Everything.SERVERS) == {}
    _beat(agent)
    assert replica.follow(0) == [_server_change(None, _server())]
    assert replica.entries(Everything.SERVERS) == {"server": _server()}
    _beat(agent, sessions=2)
    _beat(agent, "other")
    assert replica.follow(0) == [
        _server_change(_server(), _server(sessions=2)),
        _server_change(None, _server("other")),
    ]
    assert replica.entries(Everything.SERVERS) == {
        "server": _server(sessions=2),
        "other": _server("other"),
    }
    assert replica.entries(Everything.SESSIONS) == {}  # servers are no sessions
    page = replica.page(Everything.SERVERS, Query(sort_by="sessions", limit=1))
    assert (page.body, page.total) == (b"[%s]" % _server("other").text, 2)


def test_a_server_whose_lease_ran_out_is_gone(
    agent: Store, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    _beat(agent)
    _observe(agent, _session(1))
    replica.follow(0)
    later = time.monotonic() + 3601
    monkeypatch.setattr(sqlite_leases, "clock", lambda: later)
    assert replica.follow(0) == [
        Change("s1", "alice", None, _entry(_session(1))),
        _server_change(_server(), None),
    ]
    assert replica.entries(Everything.SERVERS) == {}


def test_starting_over_yields_the_differences_of_servers_too(
    agent: Store, replica: Replica, database: Path, clock: SimpleNamespace
) -> None:
    _beat(agent)
    _beat(agent, "other")
    replica.follow(0)
    _remove(database)
    _beat(agent, "other")
    _beat(agent, "new")
    assert replica.follow(0) == []
    assert set(replica.entries(Everything.SERVERS)) == {"server", "other"}
    clock.now += REFILL_SECONDS
    assert replica.follow(0) == [
        _server_change(_server(), None),
        _server_change(None, _server("new")),
    ]
    assert set(replica.entries(Everything.SERVERS)) == {"new", "other"}


def test_what_a_store_has_lost_stays_until_its_servers_are_back(
    agent: Store, replica: Replica, database: Path, clock: SimpleNamespace
) -> None:
    for server, number in (("one", 1), ("two", 2)):
        agent.observe(server, {f"s{number}": _session(number)})
        _beat(agent, server)
    replica.refresh()
    _remove(database)
    for _ in range(2):
        clock.now += 1
        replica.refresh()
        assert _ids(replica, "alice") == {"s1", "s2"}
        assert replica.problem is not None and "has lost" in replica.problem
    agent.observe("one", {"s1": _session(1)})
    _beat(agent, "one")
    clock.now += 1
    replica.refresh()
    assert _ids(replica, "alice") == {"s1", "s2"}
    agent.observe("two", {"s3": _session(3)})
    _beat(agent, "two")
    clock.now += 1
    assert replica.follow(0) == [
        Change("s2", "alice", None, _entry(_session(2))),
        Change("s3", "alice", _entry(_session(3)), None),
    ]
    assert replica.problem is None
    # Another loss has its own time.
    clock.now += 100
    _remove(database)
    assert replica.follow(0) == []
    assert _ids(replica, "alice") == {"s1", "s3"}
