"""What readers are told, and in which order: run against each store."""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor

from fastx_list.model.session import encode
from fastx_list.store import Record, Store, open_store
from tests.store.common import FAR, PATIENCE, OpenStore, by_id, make_session, running_in


def test_there_are_no_changes_after_the_last_one(store: Store) -> None:
    store.observe("s1", by_id(make_session()))
    revision = store.snapshot().revision
    for _ in range(3):
        assert store.changes(revision) is None


def test_changes_come_in_the_order_in_which_they_were_written(store: Store) -> None:
    start = store.snapshot().revision
    store.observe("s1", by_id(make_session(2)))
    store.observe("s2", by_id(make_session(1, "s2")))
    store.observe("s1", by_id(make_session(2), make_session(1)))
    store.observe("s2", {})
    store.set_params("s1-2", "alice", {"a": 1})
    changes = store.changes(start)
    assert changes is not None
    # A session stands where it was last changed, and once.
    assert [(record.id, record.text is None) for record in changes.records] == [
        ("s1-1", False),
        ("s2-1", True),
        ("s1-2", False),
    ]


def test_a_session_that_ended_and_came_back_is_running(store: Store) -> None:
    store.observe("s1", by_id(make_session()))
    before = store.snapshot().revision
    store.observe("s1", {})
    store.observe("s1", by_id(make_session(clients=3)))
    changes = store.changes(before)
    assert changes is not None
    assert list(changes.records) == [
        Record("s1-1", "alice", "s1", encode(make_session(clients=3), {}))
    ]
    assert running_in(store)["s1-1"]["clients"] == 3


def test_a_store_sees_what_it_has_written_itself(store: Store) -> None:
    revision = store.snapshot().revision
    for number in range(3):
        store.observe("s1", by_id(make_session(clients=number)))
        changes = store.changes(revision)
        assert changes is not None
        assert json.loads(str(changes.records[0].text))["clients"] == number
        revision = changes.revision
        assert store.changes(revision) is None


def test_a_store_sees_what_another_has_written(opened: OpenStore) -> None:
    writer, reader = opened(), opened()
    revision = reader.snapshot().revision
    for number in range(3):
        assert reader.changes(revision) is None
        writer.observe("s1", by_id(make_session(clients=number)))
        changes = reader.changes(revision)
        assert changes is not None
        assert json.loads(str(changes.records[0].text))["clients"] == number
        revision = changes.revision


def test_two_readers_do_not_take_changes_from_each_other(opened: OpenStore) -> None:
    writer, readers = opened(), [opened(), opened()]
    starts = [reader.snapshot().revision for reader in readers]
    writer.observe("s1", by_id(make_session()))
    for reader, start in zip(readers, starts, strict=True):
        changes = reader.changes(start)
        assert changes is not None
        assert [record.id for record in changes.records] == ["s1-1"]


def test_changes_can_be_asked_for_from_any_revision(store: Store) -> None:
    revisions = [store.snapshot().revision]
    for number in range(5):
        store.observe("s1", by_id(*(make_session(each) for each in range(number + 1))))
        revisions.append(store.snapshot().revision)
    for start in (5, 0, 3, 1, 4, 2):
        changes = store.changes(revisions[start])
        assert (
            [record.id for record in changes.records]
            if changes
            else [f"s1-{number}" for number in range(start, 5)] == []
        )


def test_changes_wait_no_longer_than_they_are_asked_to(store: Store) -> None:
    revision = store.snapshot().revision
    began = time.monotonic()
    assert store.changes(revision, timeout=0.1) is None
    assert 0.1 <= time.monotonic() - began < PATIENCE


def test_changes_that_are_waited_for_come_when_they_are_written(
    opened: OpenStore, url: str, workers: ProcessPoolExecutor
) -> None:
    reader = opened()
    revision = reader.snapshot().revision
    written = workers.submit(_write_once, url)
    changes = reader.changes(revision, timeout=PATIENCE)
    written.result(PATIENCE)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-1"]


def _write_once(url: str) -> None:
    store = open_store(url)
    store.observe("s1", by_id(make_session()))
    store.close()


def test_a_store_that_was_closed_opens_again(store: Store) -> None:
    store.observe("s1", by_id(make_session()))
    revision = store.snapshot().revision
    store.close()
    store.close()
    assert store.changes(revision) is None
    store.close()
    assert running_in(store).keys() == {"s1-1"}
    store.close()
    assert store.set_params("s1-1", "alice", {"a": 1}) is not None
    store.close()
    changes = store.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-1"]


# Revocations.


def test_a_revocation_is_a_change_and_in_the_snapshot(store: Store) -> None:
    store.observe("s1", by_id(make_session()))
    before = store.snapshot().revision
    store.revoke({"token": FAR})
    changes = store.changes(before)
    assert changes is not None
    assert (list(changes.records), dict(changes.revoked)) == ([], {"token": FAR})
    assert changes.revision.number == before.number + 1
    assert dict(store.snapshot().revoked) == {"token": FAR}


def test_of_all_who_revoke_a_token_one_is_told_that_it_was_not(store: Store) -> None:
    assert store.revoke({"token": FAR}) == 1
    assert store.revoke({"token": FAR}) == 0
    assert store.revoke({"token": FAR, "other": FAR}) == 1


def test_a_token_can_be_revoked_twice(store: Store) -> None:
    store.revoke({"token": 2**53 - 2})
    before = store.snapshot().revision
    store.revoke({"token": 2**53 - 1})
    changes = store.changes(before)
    assert changes is not None
    assert dict(changes.revoked) == {"token": 2**53 - 1}
    assert dict(store.snapshot().revoked) == {"token": 2**53 - 1}
