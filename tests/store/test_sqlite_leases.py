"""What leases are in SQLite alone: their clock, older stores, and readers that cannot write."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastx_list.store import REMEMBER_SECONDS, Store, sqlite_file, sqlite_leases, sqlite_order
from fastx_list.store.beats import LATE, MAX_PAUSE
from tests.store.common import (
    PATIENCE,
    TABLES_OF_VERSION_1,
    OpenStore,
    PassTime,
    address,
    by_id,
    make_lease,
    make_server,
    make_session,
    params_in,
    running_in,
)

BEATS = 4  # of an agent in the time of a lease


@pytest.fixture
def url(database: Path) -> str:
    return address(database)


class Clock:
    """The clock of the machine, in the hands of a test."""

    def __init__(self) -> None:
        self.now, self.boot = 1000.0, "first"

    def run(self, seconds: float, store: Store, lease: float = 60) -> None:
        """Let time pass while ``store`` is written, as it is when all is well."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + lease / BEATS)
            store.end_leases()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sqlite_leases, "clock", lambda: clock.now)
    monkeypatch.setattr(sqlite_leases, "boot", lambda: clock.boot)
    return clock


def test_a_lease_lasts_as_long_as_it_says(opened: OpenStore, clock: Clock) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()), make_lease(seconds=60))
    revision = reader.snapshot().revision
    clock.run(45, writer)
    clock.now += 14.9
    assert reader.changes(revision) is None
    assert running_in(opened()).keys() == {"s1-1"}
    clock.now += 0.1
    changes = reader.changes(revision)
    assert changes is not None
    assert [(record.id, record.text) for record in changes.records] == [("s1-1", None)]


def test_what_is_read_until_the_lease_ends_touches_no_row(
    opened: OpenStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    connect = sqlite3.connect

    def connect_and_trace(path: Path, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(path, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(statements.append)
        return connection

    opened().heartbeat(make_server(), make_lease(seconds=60))
    monkeypatch.setattr(sqlite3, "connect", connect_and_trace)
    reader = opened()
    revision = reader.snapshot().revision
    statements.clear()
    for _ in range(3):
        clock.now += 60 * LATE / 3 - 0.1
        assert reader.changes(revision) is None
    assert statements == ["PRAGMA data_version"] * 3


def test_setting_the_wall_clock_ends_no_lease(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.observe("s1", by_id(make_session()), make_lease(seconds=60))
    times = SimpleNamespace(time=lambda: 2e9, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(sqlite_order, "time", times)
    assert running_in(opened()).keys() == running_in(store).keys() == {"s1-1"}


@pytest.mark.parametrize("now", [5.0, 5000.0])
def test_after_a_boot_leases_begin_anew(opened: OpenStore, clock: Clock, now: float) -> None:
    opened().observe("s1", by_id(make_session()), make_lease(seconds=60))
    clock.boot, clock.now = "second", now
    reader = opened()
    assert running_in(reader).keys() == {"s1-1"}
    assert reader.overdue == ("s1",)  # nobody can have renewed it since
    clock.run(59, reader)
    assert running_in(reader).keys() == {"s1-1"}
    clock.run(1, reader)
    assert running_in(reader) == {}
    assert not reader.overdue


def test_who_is_stopped_while_looking_takes_no_lease_for_renewed_later(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().observe("s1", by_id(make_session()), make_lease())
    written = sqlite_leases.clock()
    passed = count()  # seconds, at each look at the clock
    monkeypatch.setattr(sqlite_leases, "clock", lambda: written + next(passed))
    reader = opened()
    reader.snapshot()
    assert reader.renewed["s1"] <= written


@pytest.mark.parametrize("pause", [61, 3600, 10**6])
@pytest.mark.parametrize("others", [1, 2])
def test_a_time_in_which_nobody_could_write_ends_no_lease(
    opened: OpenStore, clock: Clock, pause: float, others: int
) -> None:
    """Whoever looks or writes first afterwards, and whoever has just been started."""
    agents, reader = [opened() for _ in range(others)], opened()
    for number, agent in enumerate(agents):
        agent.heartbeat(make_server(f"s{number}"), make_lease(seconds=60))
    revision = reader.snapshot().revision
    clock.now += 14
    assert reader.changes(revision) is None
    clock.now += pause
    assert reader.changes(revision) is None
    assert len(reader.overdue) == len(opened().snapshot().servers) == others
    for number, agent in enumerate(agents):
        clock.now += 1  # in which all look
        for each in (reader, opened()):
            assert len(each.snapshot().servers) == others
            assert len(each.overdue) == others - number
        agent.heartbeat(make_server(f"s{number}"), make_lease(seconds=60))
    changes = reader.changes(revision)
    assert changes is not None and all(server.text for server in changes.servers)
    assert not reader.overdue


def test_an_agent_that_stays_away_afterwards_has_ended_within_its_lease(
    opened: OpenStore, clock: Clock
) -> None:
    opened().heartbeat(make_server(), make_lease(seconds=60))
    clock.now += 3600
    reader = opened()
    for _ in range(60):
        clock.now += 1
        revision = reader.snapshot().revision
        assert reader.overdue or not reader.snapshot().servers
    assert not reader.snapshot().servers and reader.changes(revision) is None


def test_what_left_with_a_lease_is_kept_in_mind_for_a_day(
    opened: OpenStore, clock: Clock, pass_time: PassTime
) -> None:
    store = opened()
    for since, expected in ((REMEMBER_SECONDS, {"a": 2}), (REMEMBER_SECONDS + 1, {"a": 1})):
        store.observe("s1", by_id(make_session(params={"a": 1})), make_lease(seconds=60))
        store.set_params("s1-1", "alice", {"a": 2})
        clock.run(60, store)
        assert running_in(store) == {}
        pass_time(since)
        store.heartbeat(make_server("s2"), make_lease())
        store.observe("s1", by_id(make_session(params={"a": 1})), make_lease(seconds=60))
        assert params_in(store) == expected


def test_servers_that_have_gone_are_told_of_as_long_as_history_is_kept(
    opened: OpenStore, clock: Clock, database: Path
) -> None:
    writer, reader = opened(), opened()
    writer.heartbeat(make_server(), make_lease(seconds=60))
    revision = reader.snapshot().revision
    clock.run(59, writer)
    clock.now += 1
    writer.heartbeat(make_server("s2"), make_lease())
    changes = reader.changes(revision)
    assert changes is not None
    assert [(server.id, server.text is None) for server in changes.servers] == [
        ("s1", True),
        ("s2", False),
    ]


@pytest.fixture
def other_writer(opened: OpenStore, database: Path) -> Iterator[sqlite3.Connection]:
    """Another process that can hold the lock."""
    opened().snapshot()
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    yield other
    other.close()


def test_no_reader_waits_for_a_writer_before_it_ends_a_lease(
    opened: OpenStore,
    clock: Clock,
    other_writer: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 3600.0)  # who waits, waits for good
    reader = opened()
    reader.observe("s1", by_id(make_session()), make_lease(seconds=60))
    clock.run(59, reader)
    revision = reader.snapshot().revision
    clock.now += 1
    found: list[object] = []

    def read() -> None:
        found.extend([reader.changes(revision), running_in(reader).keys()])

    reading = threading.Thread(target=read)
    other_writer.execute("BEGIN IMMEDIATE")
    try:
        reading.start()
        reading.join(PATIENCE)
        assert found == [None, {"s1-1"}]
    finally:
        other_writer.execute("ROLLBACK")
        reading.join()


def test_an_end_that_could_not_be_written_is_tried_again_after_a_pause(
    opened: OpenStore, clock: Clock, other_writer: sqlite3.Connection
) -> None:
    reader = opened()
    reader.observe("s1", by_id(make_session()), make_lease(seconds=60))
    clock.run(59, reader)
    revision = reader.snapshot().revision
    clock.now += 1
    other_writer.execute("BEGIN IMMEDIATE")
    assert reader.changes(revision) is None
    assert reader.overdue == ("s1",)
    other_writer.execute("ROLLBACK")
    clock.now += MAX_PAUSE - 0.01
    assert reader.changes(revision) is None
    clock.now += 0.01
    assert reader.changes(revision) is not None
    assert running_in(reader) == {}
    assert not reader.overdue


def test_of_an_end_that_fails_on_the_way_nothing_is_written(
    opened: OpenStore, clock: Clock, other_writer: sqlite3.Connection
) -> None:
    reader = opened()
    reader.observe("s1", by_id(make_session(1), make_session(2)), make_lease(seconds=60))
    other_writer.execute(
        "CREATE TRIGGER fail BEFORE UPDATE ON session WHEN new.id = 's1-2' BEGIN SELECT"
        " RAISE(ABORT, 'no room'); END"
    )
    clock.run(59, reader)
    clock.now += 1
    assert running_in(reader).keys() == {"s1-1", "s1-2"}
    other_writer.execute("DROP TRIGGER fail")  # which takes the lock: nobody has kept it
    assert running_in(reader) == {}


def test_after_an_end_that_could_not_be_written_a_writer_waits_for_another_as_before(
    opened: OpenStore, clock: Clock, other_writer: sqlite3.Connection
) -> None:
    store = opened()
    store.observe("s1", by_id(make_session()), make_lease(seconds=60))
    clock.run(59, store)
    clock.now += 1
    other_writer.execute("BEGIN IMMEDIATE")
    assert running_in(store).keys() == {"s1-1"}
    # The wait itself cannot be seen from here
    release = threading.Timer(0.2, other_writer.execute, ["ROLLBACK"])
    release.start()
    try:
        store.observe("s2", by_id(make_session(1, "s2")))
    finally:
        release.join()
    assert running_in(store).keys() == {"s2-1"}


_VERSION_1 = (
    TABLES_OF_VERSION_1
    + """
INSERT INTO meta VALUES (1, 1, 0, 'random');
INSERT INTO session VALUES ('s1-1', 1, 's1', 'alice', 'digest', '{"a":1}',
    '{"id":"s1-1","login":"alice","serverId":"s1","hostname":"host","params":{"a":1}}', NULL);
PRAGMA user_version = 1;
"""
)


@pytest.mark.parametrize("agent", [True, False])
def test_a_store_of_the_first_version_is_taken_over_with_its_sessions(
    opened: OpenStore, clock: Clock, database: Path, agent: bool
) -> None:
    with sqlite3.connect(database) as old:
        old.executescript(_VERSION_1)
    old.close()
    store = opened()
    assert params_in(store) == {"a": 1}
    if agent:
        store.observe("s1", by_id(make_session()), make_lease(seconds=3600))
    clock.run(sqlite_leases.UPGRADE_SECONDS, store)
    assert running_in(store).keys() == ({"s1-1"} if agent else set())
    assert not agent or params_in(store) == {"a": 1}
