"""What only SQLite has: a file, its locks, and a clock that tests can move."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from fastx_list.store import SnapshotNeeded, StoreError, division, open_store, sqlite_file
from tests.store.common import PATIENCE, OpenStore, address, by_id, make_session, remove, running_in
from tests.support import wait_for


@pytest.fixture
def url(database: Path) -> str:
    return address(database)


def test_readers_go_on_while_a_writer_holds_the_lock(opened: OpenStore, database: Path) -> None:
    reader = opened()
    reader.observe("s1", by_id(make_session()))
    revision = reader.snapshot().revision
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE session SET text = NULL")
    try:
        assert reader.changes(revision) is None
        for store in (reader, opened()):
            assert running_in(store).keys() == {"s1-1"}
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_writer_waits_for_another_and_then_gives_up(
    opened: OpenStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)
    store = opened()
    store.observe("s1", by_id(make_session()))
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreError, match=str(database)):
            store.observe("s1", {})
        assert running_in(store).keys() == {"s1-1"}
    finally:
        other.execute("ROLLBACK")
        other.close()
    store.observe("s1", {})
    assert running_in(store) == {}


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_store_that_another_process_is_just_making_is_waited_for(
    opened: OpenStore, database: Path, lock: str
) -> None:
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    other.execute(lock)
    # The wait itself cannot be seen from here
    release = threading.Timer(0.2, other.execute, ["COMMIT"])
    release.start()
    try:
        assert list(opened().snapshot().records) == []
    finally:
        release.join()
        other.close()


def test_a_store_that_another_process_makes_for_too_long_is_named(
    opened: OpenStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=f"{database}.*locked"):
        opened().snapshot()
    other.close()
    assert running_in(opened()) == {}


def _copy(database: Path, to: Path) -> None:
    source, target = sqlite3.connect(database), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()


def _restore(copy: Path, database: Path) -> None:
    """Put ``copy`` in the place of ``database``, as an administrator does who moves it there."""
    remove(database)
    shutil.copy(copy, database.with_name("new"))
    os.replace(database.with_name("new"), database)


def test_a_reader_of_a_store_that_was_removed_needs_a_snapshot(
    opened: OpenStore, database: Path
) -> None:
    reader = opened()
    reader.observe("s1", by_id(make_session(1), make_session(2)))
    revision = reader.snapshot().revision
    remove(database)
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert running_in(reader) == {}


def test_a_store_that_was_removed_is_made_anew_by_the_next_writer(
    opened: OpenStore, database: Path
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    revision = reader.snapshot().revision
    remove(database)
    # More is written to the new one than the old one ever held, so the reader's revision exists in
    # both.
    for number in range(10):
        writer.observe("s1", by_id(make_session(2, clients=number)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert running_in(reader).keys() == {"s1-2"}


def test_a_snapshot_is_of_the_store_that_is_there_now(opened: OpenStore, database: Path) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    reader.snapshot()
    remove(database)
    writer.observe("s1", by_id(make_session(2)))
    assert running_in(reader).keys() == {"s1-2"}


def test_a_reader_that_found_no_store_for_a_while_needs_a_snapshot(
    opened: OpenStore, database: Path
) -> None:
    writer, reader = opened(), opened(create=False)
    writer.observe("s1", by_id(make_session(1)))
    revision = reader.snapshot().revision
    remove(database)
    with pytest.raises(StoreError):
        reader.changes(revision)
    with pytest.raises(StoreError):
        reader.snapshot()
    for number in range(10):
        writer.observe("s1", by_id(make_session(2, clients=number)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)


def test_a_reader_that_found_a_corrupt_store_for_a_while_needs_a_snapshot(
    opened: OpenStore, database: Path
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    revision = reader.snapshot().revision
    writer.close()
    reader.close()
    remove(database)
    database.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError):
        reader.changes(revision)
    remove(database)
    for number in range(10):
        writer.observe("s1", by_id(make_session(2, clients=number)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)


def test_a_reader_that_also_writes_needs_a_snapshot_of_a_store_that_was_made_anew(
    opened: OpenStore, database: Path
) -> None:
    agent, web = opened(), opened()
    agent.observe("s1", by_id(make_session(1)))
    revision = web.snapshot().revision
    remove(database)
    for number in range(10):
        agent.observe("s1", by_id(make_session(2, clients=number)))
    assert web.set_params("s1-2", "alice", {"a": 1}) is not None
    with pytest.raises(SnapshotNeeded):
        web.changes(revision)


@pytest.mark.parametrize("more", [0, 1, 10])
def test_a_reader_of_a_store_that_was_restored_from_an_older_copy_needs_a_snapshot(
    opened: OpenStore, database: Path, tmp_path: Path, more: int
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    _copy(database, tmp_path / "copy")
    writer.observe("s1", by_id(make_session(2), make_session(3)))
    revision = reader.snapshot().revision
    _restore(tmp_path / "copy", database)
    for number in range(more):
        writer.observe("s1", by_id(make_session(1), make_session(2, clients=number)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert running_in(reader).keys() == {"s1-1", "s1-2"}


def test_a_writer_goes_on_in_a_store_that_was_restored(
    opened: OpenStore, database: Path, tmp_path: Path
) -> None:
    writer = opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    _copy(database, tmp_path / "copy")
    writer.observe("s1", by_id(make_session(3)))
    _restore(tmp_path / "copy", database)
    writer.observe("s1", by_id(make_session(2), make_session(3)))
    assert running_in(opened()).keys() == {"s1-2", "s1-3"}


def test_a_store_that_was_restored_in_place_sends_readers_back_to_a_snapshot(
    opened: OpenStore, database: Path, tmp_path: Path
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    _copy(database, tmp_path / "copy")
    writer.observe("s1", by_id(make_session(2), make_session(3)))
    revision = reader.snapshot().revision
    # Into the same file, under open connections, as sqlite3's .restore does
    _copy(tmp_path / "copy", database)
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert running_in(reader).keys() == {"s1-1", "s1-2"}


def test_several_processes_can_make_the_store_at_once(
    tmp_path: Path, workers: ProcessPoolExecutor
) -> None:
    for attempt in range(10):
        url = address(tmp_path / f"{attempt}.db")
        at = time.monotonic() + 0.02  # one clock for all processes of a machine
        writers = [workers.submit(_make_store_at, at, url, f"s{number}") for number in range(4)]
        for writer in writers:
            writer.result(PATIENCE)
        store = open_store(url)
        assert running_in(store).keys() == {"s0-1", "s1-1", "s2-1", "s3-1"}
        store.close()


def _make_store_at(at: float, url: str, server_id: str) -> None:
    store = open_store(url)
    while time.monotonic() < at:
        pass
    store.observe(server_id, by_id(make_session(1, server_id)))
    store.close()


def test_who_writes_little_has_its_turn_while_another_writes_very_much(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(division, "AT_ONCE", 100)
    much, little = opened(), opened()
    little.revoke({"token": 2**40})
    sessions = by_id(*(make_session(number) for number in range(5000)))
    writing = threading.Thread(target=much.observe, args=("s1", sessions))
    writing.start()
    wait_for("the first of them", lambda: running_in(little), PATIENCE)
    little.revoke({"another": 2**40})
    assert len(running_in(little)) < len(sessions)
    writing.join()
    assert running_in(little).keys() == sessions.keys()


def test_a_store_that_lacks_a_table_of_later_is_brought_up_to_date(
    opened: OpenStore, database: Path
) -> None:
    opened().observe("s1", by_id(make_session()))
    with sqlite3.connect(database) as old:
        old.execute("DROP TABLE event_dropped")
        old.execute("PRAGMA user_version = 5")
    old.close()
    store = opened()
    [event] = store.archive.events(None, 10).events
    assert event.session == "s1-1" and running_in(store).keys() == {"s1-1"}


def test_whoever_changes_the_tables_raises_their_version() -> None:
    tables = hashlib.sha256(sqlite_file._SCHEMA.encode()).hexdigest()[:16]
    assert tables == "0b802e354ef965a8", (
        "raise VERSION, so that older stores are changed, and put the new sum here"
    )
