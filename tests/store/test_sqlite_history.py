"""What SQLite forgets in time, and who notices."""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest

from fastx_list.store import (
    KEEP_ENDS_SECONDS,
    KEEP_REVOKED_SECONDS,
    OrderLost,
    Record,
    SnapshotNeeded,
    Store,
    sqlite_order,
)
from tests.store.common import (
    NOW,
    OpenStore,
    PassTime,
    address,
    by_id,
    make_session,
    running_in,
    write_anything,
)

DAY = 86_400


@pytest.fixture
def url(database: Path) -> str:
    return address(database)


def test_a_revocation_outlives_its_token_by_a_day_and_is_then_forgotten(
    store: Store, pass_time: PassTime
) -> None:
    store.revoke({"soon": NOW + 10, "later": NOW + 1000})
    pass_time(KEEP_REVOKED_SECONDS + 9)
    write_anything(store)
    assert store.snapshot().revoked.keys() == {"soon", "later"}
    pass_time(2)
    write_anything(store)
    snapshot = store.snapshot()
    assert snapshot.revoked.keys() == {"later"}
    assert snapshot.kept_from == NOW + 11


@pytest.mark.parametrize("jump", [DAY, 400 * DAY])
def test_no_jump_of_the_wall_clock_deletes_a_revocation(
    opened: OpenStore, pass_time: PassTime, jump: float
) -> None:
    before, ahead = opened(), opened()
    before.revoke({"token": NOW + 3600})
    pass_time(jump, passed=False)
    write_anything(ahead)  # as an agent does that is started then
    pass_time(3600)  # until somebody notices
    write_anything(ahead)
    pass_time(-jump, passed=False)
    write_anything(ahead)
    assert before.snapshot().revoked.keys() == {"token"}
    pass_time(DAY + 1)  # and nothing of it remains
    write_anything(ahead)
    assert before.snapshot().revoked.keys() == set()


def test_a_store_made_while_the_clock_was_ahead_believes_it_when_it_is_put_right(
    store: Store, pass_time: PassTime
) -> None:
    pass_time(400 * DAY, passed=False)
    write_anything(store)
    pass_time(-400 * DAY, passed=False)
    store.revoke({"token": NOW + 10})
    write_anything(store)
    assert store.snapshot().revoked.keys() == {"token"}


def test_a_jump_of_the_wall_clock_ends_no_history(opened: OpenStore, pass_time: PassTime) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()))
    revision = reader.snapshot().revision
    writer.observe("s1", {})
    pass_time(400 * DAY, passed=False)
    for _ in range(3):
        write_anything(writer)
    changes = reader.changes(revision)
    assert changes is not None
    assert list(changes.records) == [Record("s1-1", "alice", "s1", None)]


def test_the_history_is_bounded_by_number_too(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_order, "MAX_CHANGES", 20)
    writer, late, later = opened(), opened(), opened()
    revision = late.snapshot().revision
    for number in range(10):
        writer.observe("s1", by_id(make_session(number)))
    second = later.snapshot().revision
    for number in range(10, 15):
        writer.observe("s1", by_id(make_session(number)))
    with pytest.raises(SnapshotNeeded) as raised:
        late.changes(revision)
    assert not isinstance(raised.value, OrderLost)
    changes = later.changes(second)
    assert changes is not None
    assert [record.id for record in changes.records if record.text is None] == [
        f"s1-{number}" for number in range(9, 14)
    ]
    assert len(changes.steps) == 5


def test_what_is_forgotten_at_once_is_bounded(
    opened: OpenStore, database: Path, monkeypatch: pytest.MonkeyPatch, pass_time: PassTime
) -> None:
    monkeypatch.setattr(sqlite_order, "AT_ONCE", 10)
    writer, reader = opened(), opened()
    for number in range(50):
        writer.observe("s1", by_id(make_session(number)))
    pass_time(KEEP_ENDS_SECONDS + 1)
    kept = []
    for _ in range(20):
        write_anything(writer)
        with sqlite3.connect(database) as look:
            [[count]] = look.execute("SELECT count(*) FROM session WHERE ended IS NOT NULL")
        look.close()
        kept.append(count)
    assert kept[0] >= 35 and kept[-1] == 0
    assert max(before - after for before, after in pairwise([49, *kept])) <= 12
    assert running_in(reader).keys() == {"s1-49"}


def test_an_end_is_told_as_long_as_history_is_kept(opened: OpenStore, pass_time: PassTime) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()))
    revision = reader.snapshot().revision
    writer.observe("s1", {})
    pass_time(KEEP_ENDS_SECONDS)
    write_anything(writer)
    changes = reader.changes(revision)
    assert changes is not None
    assert list(changes.records) == [Record("s1-1", "alice", "s1", None)]


def test_a_reader_that_has_fallen_off_the_history_needs_a_snapshot(
    opened: OpenStore, pass_time: PassTime
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    revision = reader.snapshot().revision
    writer.observe("s1", by_id(make_session(2)))
    pass_time(KEEP_ENDS_SECONDS + 1)
    write_anything(writer)
    for _ in range(2):
        with pytest.raises(SnapshotNeeded):
            reader.changes(revision)
    snapshot = reader.snapshot()
    assert [record.id for record in snapshot.records] == ["s1-2"]
    assert reader.changes(snapshot.revision) is None
    writer.observe("s1", {})
    changes = reader.changes(snapshot.revision)
    assert changes is not None
    assert list(changes.records) == [Record("s1-2", "alice", "s1", None)]


def test_a_reader_that_saw_the_end_goes_on_when_it_is_forgotten(
    opened: OpenStore, pass_time: PassTime
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    writer.observe("s1", {})
    revision = reader.snapshot().revision
    pass_time(KEEP_ENDS_SECONDS + 1)
    write_anything(writer)
    changes = reader.changes(revision)
    assert changes is not None and list(changes.records) == []
    writer.observe("s1", by_id(make_session(2)))
    changes = reader.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-2"]


def test_only_a_reader_that_would_miss_an_end_is_told_so(
    opened: OpenStore, pass_time: PassTime
) -> None:
    writer, behind, between = opened(), opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    first = behind.snapshot().revision
    writer.observe("s1", by_id(make_session(2)))
    second = between.snapshot().revision
    pass_time(KEEP_ENDS_SECONDS - 10)
    writer.observe("s1", {})
    pass_time(11)
    write_anything(writer)
    with pytest.raises(SnapshotNeeded):
        behind.changes(first)
    changes = between.changes(second)
    assert changes is not None
    assert list(changes.records) == [Record("s1-2", "alice", "s1", None)]
