"""What SQLite forgets in time, and who notices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fastx_list.store import HISTORY_SECONDS, Record, SnapshotNeeded, Store
from tests.store.common import NOW, OpenStore, address, by_id, make_session


@pytest.fixture
def url(database: Path) -> str:
    return address(database)


def test_a_revocation_is_kept_until_its_token_has_expired_and_then_forgotten(
    store: Store, pass_time: Callable[[float], None]
) -> None:
    store.revoke("soon", NOW + 10)
    store.revoke("later", NOW + 1000)
    pass_time(9)
    store.observe("s1", {})
    assert store.snapshot().revoked.keys() == {"soon", "later"}
    pass_time(2)
    store.observe("s1", {})
    assert store.snapshot().revoked.keys() == {"later"}


def test_an_end_is_told_as_long_as_history_is_kept(
    opened: OpenStore, pass_time: Callable[[float], None]
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()))
    revision = reader.snapshot().revision
    writer.observe("s1", {})
    pass_time(HISTORY_SECONDS)
    writer.observe("s1", {})
    changes = reader.changes(revision)
    assert changes is not None
    assert list(changes.records) == [Record("s1-1", "alice", "s1", None)]


def test_a_reader_that_has_fallen_off_the_history_needs_a_snapshot(
    opened: OpenStore, pass_time: Callable[[float], None]
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    revision = reader.snapshot().revision
    writer.observe("s1", by_id(make_session(2)))
    pass_time(HISTORY_SECONDS + 1)
    writer.observe("s1", by_id(make_session(2)))
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
    opened: OpenStore, pass_time: Callable[[float], None]
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    writer.observe("s1", {})
    revision = reader.snapshot().revision
    pass_time(HISTORY_SECONDS + 1)
    writer.observe("s1", {})
    assert reader.changes(revision) is None
    writer.observe("s1", by_id(make_session(2)))
    changes = reader.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-2"]


def test_only_a_reader_that_would_miss_an_end_is_told_so(
    opened: OpenStore, pass_time: Callable[[float], None]
) -> None:
    writer, behind, between = opened(), opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    first = behind.snapshot().revision
    writer.observe("s1", by_id(make_session(2)))
    second = between.snapshot().revision
    pass_time(HISTORY_SECONDS - 10)
    writer.observe("s1", {})
    pass_time(11)
    writer.observe("s2", {})
    with pytest.raises(SnapshotNeeded):
        behind.changes(first)
    changes = between.changes(second)
    assert changes is not None
    assert list(changes.records) == [Record("s1-2", "alice", "s1", None)]
