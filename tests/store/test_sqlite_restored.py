"""A SQLite store whose file is restored, exchanged or upgraded while it is followed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastx_list.store import (
    AT_ONCE,
    KEEP_ENDS_SECONDS,
    Changes,
    OrderLost,
    Store,
    StoreError,
    open_store,
    sqlite_order,
)
from tests.store.common import (
    FAR,
    TABLES_OF_VERSION_1,
    OpenStore,
    PassTime,
    address,
    by_id,
    make_lease,
    make_server,
    make_session,
    params_in,
    remove,
    running_in,
    write_anything,
)


@pytest.fixture
def url(database: Path) -> str:
    return address(database)


def _back_up(database: Path, to: Path) -> None:
    source, target = sqlite3.connect(database), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()


def _exchange(copy: Path, database: Path) -> None:
    remove(database)
    shutil.copy(copy, database.with_name("new"))
    os.replace(database.with_name("new"), database)


def _copy_over(copy: Path, database: Path) -> None:
    # As an administrator does who stops everything that writes
    last = sqlite3.connect(database)
    last.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    last.close()
    inode = database.stat().st_ino
    with database.open("r+b") as file:
        file.write(copy.read_bytes())
        file.truncate()
    assert database.stat().st_ino == inode


# By SQLite's backup API into the open file, by another file in its place, and by bytes over it
WAYS = {"backup": _back_up, "exchanged": _exchange, "copied over": _copy_over}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("more", [0, 1, 5, 20])
def test_a_reader_of_a_restored_store_starts_over_however_much_was_written_since(
    opened: OpenStore, database: Path, tmp_path: Path, way: str, more: int
) -> None:
    writer, reader, ahead = opened(), opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    reader.snapshot()
    _back_up(database, tmp_path / "copy")
    for number in range(3):
        writer.observe("s1", by_id(make_session(2), make_session(3, clients=number)))
    revision, last = reader.snapshot().revision, ahead.snapshot().revision
    assert revision == last
    WAYS[way](tmp_path / "copy", database)
    for number in range(more):
        writer.observe("s1", by_id(make_session(1), make_session(2, clients=number)))
    for store in (reader, ahead):
        with pytest.raises(OrderLost):
            store.changes(revision)
        assert running_in(store).keys() == {"s1-1", "s1-2"}


def test_who_has_seen_no_more_than_a_restored_copy_has_goes_on(
    opened: OpenStore, database: Path, tmp_path: Path
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    revision = reader.snapshot().revision
    _back_up(database, tmp_path / "copy")
    writer.observe("s1", by_id(make_session(2)))
    _back_up(tmp_path / "copy", database)
    changes = reader.changes(revision)
    assert changes is None or list(changes.records) == []
    writer.observe("s1", by_id(make_session(1), make_session(3)))
    changes = reader.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-3"]


def test_a_later_copy_in_the_place_of_an_older_one_is_not_what_that_has_become(
    opened: OpenStore,
    database: Path,
    tmp_path: Path,
    pass_time: PassTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite_order, "MAX_CHANGES", 5)
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()))
    _back_up(database, tmp_path / "older")
    pass_time(100)
    for number in range(20):
        writer.observe("s1", by_id(make_session(clients=number)))
    _back_up(database, tmp_path / "later")
    _exchange(tmp_path / "older", database)
    revision = reader.snapshot().revision
    _exchange(tmp_path / "later", database)
    with pytest.raises(OrderLost):
        reader.changes(revision)


def test_a_file_that_is_exchanged_just_when_it_is_opened_is_not_kept(
    opened: OpenStore, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, path in ((1, database), (2, tmp_path / "another")):
        store = open_store(address(path))
        store.observe("s1", by_id(make_session(number)))
        store.close()
    connect = sqlite3.connect

    def connect_and_lose(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute("PRAGMA user_version").fetchone()
        _exchange(tmp_path / "another", database)
        return connection

    reader = opened()
    with monkeypatch.context() as unlucky:
        unlucky.setattr(sqlite3, "connect", connect_and_lose)
        with pytest.raises(StoreError, match="has just been replaced"):
            reader.snapshot()
    assert running_in(reader).keys() == {"s1-2"}


def test_no_two_stores_have_a_step_in_common(tmp_path: Path) -> None:
    revisions = []
    for name in ("one", "two"):
        store = open_store(address(tmp_path / name))
        revisions.append(store.snapshot().revision)
        with pytest.raises(OrderLost):
            store.changes(revisions[0]._replace(step="0123456789abcdef"))
        store.close()
    assert revisions[0].number == revisions[1].number
    assert revisions[0].step != revisions[1].step


def test_the_name_of_a_step_says_nothing_of_how_many_there_were(store: Store) -> None:
    names = []
    for number in range(5):
        store.observe("s1", by_id(make_session(clients=number)))
        names.append(store.snapshot().revision.step)
    assert len(set(names)) == 5
    assert {len(name) for name in names} == {16}


# Older versions.


@pytest.mark.parametrize("way", WAYS)
def test_a_reader_starts_over_where_it_left_out_what_the_restored_store_has_not_changed_yet(
    opened: OpenStore, database: Path, tmp_path: Path, way: str
) -> None:
    writer, reader = opened(), opened()
    revision = reader.snapshot().revision
    sessions = by_id(*map(make_session, range(AT_ONCE + 1)))
    writer.observe("s1", sessions)
    _back_up(database, tmp_path / "copy")
    writer.set_params("s1-0", "alice", {"a": 1})
    changes = reader.changes(revision)
    assert changes is not None and changes.more
    assert {record.id for record in changes.records} == sessions.keys() - {"s1-0", f"s1-{AT_ONCE}"}
    WAYS[way](tmp_path / "copy", database)
    with pytest.raises(OrderLost):
        reader.changes(changes.revision)


def test_a_reader_of_a_store_made_anew_takes_no_older_one_for_what_that_has_become(
    opened: OpenStore, database: Path, tmp_path: Path, pass_time: PassTime
) -> None:
    writer, reader = opened(), opened()
    for number in range(9):
        writer.observe("s1", by_id(make_session(number)))
    pass_time(KEEP_ENDS_SECONDS + 1)
    write_anything(writer)
    _back_up(database, tmp_path / "copy")
    remove(database)
    revision = reader.snapshot().revision
    _exchange(tmp_path / "copy", database)
    for _ in range(2):
        with pytest.raises(OrderLost):
            reader.changes(revision)
    assert reader.changes(reader.snapshot().revision) is None


_VERSION_1 = (
    TABLES_OF_VERSION_1
    + """
INSERT INTO meta VALUES (1, 7, 2, 'random');
INSERT INTO session VALUES ('s1-1', 4, 's1', 'alice', 'digest', '{"a":1}',
    '{"id":"s1-1","login":"alice","serverId":"s1","hostname":"host","params":{"a":1}}', NULL);
INSERT INTO session VALUES ('s1-2', 5, 's1', 'alice', NULL, '{}', NULL, 1700000000);
INSERT INTO revoked VALUES ('token', 6, 1099511627776);
PRAGMA user_version = 1;
"""
)
_VERSION_2 = (
    _VERSION_1
    + """
CREATE TABLE server (
    id TEXT PRIMARY KEY, revision INTEGER UNIQUE, text TEXT, ended INTEGER, view TEXT, holder TEXT,
    instance TEXT, host TEXT, seconds REAL, boot TEXT, expires REAL, rival TEXT, rival_until REAL
);
CREATE TABLE remembered (
    id TEXT PRIMARY KEY, server_id TEXT NOT NULL, login TEXT NOT NULL, params TEXT NOT NULL,
    text TEXT NOT NULL, since INTEGER NOT NULL
);
CREATE INDEX remembered_server ON remembered (server_id);
INSERT INTO server VALUES ('s1', 7, '{"id":"s1","hostname":"host"}', NULL, 'edition', 'one', '1',
    'host of one', 3600.0, 'another boot', 5000.0, NULL, NULL);
PRAGMA user_version = 2;
"""
)


@pytest.mark.parametrize("version", [_VERSION_1, _VERSION_2], ids=["1", "2"])
def test_a_store_of_an_older_version_is_taken_over_with_all_that_it_holds(
    opened: OpenStore, database: Path, version: str
) -> None:
    with sqlite3.connect(database) as old:
        old.executescript(version)
    old.close()
    store, other = opened(), opened()
    snapshot = store.snapshot()
    assert snapshot.revision.number == 7
    assert dict(snapshot.revoked) == {"token": FAR}
    assert params_in(other) == {"a": 1}
    assert other.snapshot().revision == snapshot.revision
    store.heartbeat(make_server(), make_lease())
    store.observe("s1", by_id(make_session(3)), make_lease())
    changes = other.changes(snapshot.revision)
    assert changes is not None
    assert {record.id: record.text is None for record in changes.records} == {
        "s1-1": True,
        "s1-3": False,
    }


def test_a_process_of_an_older_version_can_write_no_more(opened: OpenStore, database: Path) -> None:
    old = sqlite3.connect(database, isolation_level=None)
    old.executescript(_VERSION_2)
    opened().observe("s1", by_id(make_session(2)))
    with pytest.raises(sqlite3.OperationalError, match="meta"):
        old.execute("UPDATE meta SET revision = revision + 1 RETURNING revision")
    old.close()


@pytest.mark.parametrize(
    "harm", ["DELETE FROM step", "DELETE FROM head", "UPDATE head SET revision = 'x'"]
)
def test_an_order_without_its_last_step_is_an_error_that_names_the_file(
    opened: OpenStore, database: Path, harm: str
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()))
    revision = reader.snapshot().revision
    with sqlite3.connect(database) as other:
        other.execute(harm)
    other.close()
    calls: list[Callable[[], object]] = [reader.snapshot, lambda: reader.changes(revision)]
    for call in calls:
        with pytest.raises(StoreError, match=str(database)):
            call()


def test_many_revocations_are_written_in_a_few_steps(store: Store) -> None:
    before = store.snapshot().revision
    tokens = {str(number): int(time.time()) + 3600 for number in range(5000)}
    store.revoke(tokens)
    read, more = list[Changes](), True
    while more:
        found = store.changes(before)
        assert found is not None
        read.append(found)
        before, more = found.revision, found.more
    assert [(len(changes.revoked), len(changes.steps)) for changes in read] == [(1000, 1)] * 5
    assert dict(store.snapshot().revoked) == tokens
    store.revoke(tokens)  # as each reader does that has seen them
    assert store.changes(before) is None
