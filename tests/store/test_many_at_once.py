"""Very much at once is written and read in parts, and others have their turn in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from fastx_list.replica import replica as replica_module
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything
from fastx_list.replica.view import Entry
from fastx_list.store import AT_ONCE, Changes, Revision, Store
from tests.store.common import (
    PATIENCE,
    OpenStore,
    before_each_step,
    by_id,
    make_lease,
    make_server,
    make_session,
    params_in,
    running_in,
)
from tests.support import wait_for

MANY = 3 * AT_ONCE + 10
LAST_STEPS = [AT_ONCE, AT_ONCE, AT_ONCE, 10]


def _read(store: Store, revision: Revision) -> list[Changes]:
    """Return all that followed ``revision``, as it is read."""
    found, more = list[Changes](), True
    while more:
        changes = store.changes(revision)
        assert changes is not None
        found.append(changes)
        revision, more = changes.revision, changes.more
    return found


def _fill(writer: Store) -> None:
    writer.observe("s1", by_id(*map(make_session, range(MANY))), make_lease())


def _at_step(number: int, call: Callable[[], None]) -> Callable[[], None]:
    """Return what makes ``call`` before the step of this ``number``, and before no other."""
    steps = itertools.count(1)
    return lambda: call() if next(steps) == number else None


def _die() -> None:
    raise KeyboardInterrupt


def test_many_ends_come_in_parts_with_what_is_new_first(opened: OpenStore) -> None:
    writer, reader = opened(), opened()
    _fill(writer)
    revision = reader.snapshot().revision
    edition = writer.observe("s1", by_id(make_session(MANY)), make_lease())
    assert writer.edition("s1") == edition
    parts = _read(reader, revision)
    records = [record for part in parts for record in part.records]
    assert [record.text is None for record in records] == [False, *[True] * MANY]
    assert len({record.id for record in records}) == MANY + 1
    assert max(len(part.records) for part in parts) <= 2 * AT_ONCE
    assert sum(len(part.steps) for part in parts) == len(LAST_STEPS) + 1
    assert parts[-1].revision == reader.snapshot().revision
    assert running_in(reader).keys() == {f"s1-{MANY}"}


def test_others_write_between_the_parts_and_nothing_of_theirs_is_lost(opened: OpenStore) -> None:
    writer, other, reader = opened(), opened(), opened()
    _fill(writer)
    seen = []
    for count in (AT_ONCE, MANY):  # the first ends are one step, and nobody sees part of it
        left = by_id(*map(make_session, range(count, MANY)), make_session(MANY))
        writer.observe("s1", left, make_lease())
        assert other.set_params(f"s1-{MANY}", "alice", {"round": count}) is not None
        seen.append(len(running_in(reader)))
    assert seen == [MANY - AT_ONCE + 1, 1]
    assert params_in(reader, f"s1-{MANY}") == {"round": MANY}


def test_a_writer_that_dies_between_two_parts_has_written_the_first_of_them(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, other, reader = opened(), opened(), opened()
    _fill(writer)
    known = writer.edition("s1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        before_each_step(writer, patch, _at_step(3, _die))
        writer.observe("s1", {}, make_lease())
    assert len(running_in(reader)) == MANY - 2 * AT_ONCE
    assert other.edition("s1") != known  # so an agent that is started again looks what is there
    assert other.observe("s1", {}, make_lease()) == reader.edition("s1")
    assert running_in(reader) == {}


def test_a_lease_vouches_for_nothing_between_two_parts(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = opened(), opened()
    vouched = list[bool]()

    def look() -> None:
        reader.snapshot()
        vouched.append("s1" in reader.renewed)

    before_each_step(writer, monkeypatch, look)
    for sessions in (map(make_session, range(MANY)), (make_session(MANY),)):
        edition = writer.observe("s1", by_id(*sessions), make_lease())
        assert writer.heartbeat(make_server(), make_lease(), edition) is None
    look()
    assert vouched == [*[False] * 4, True, True] * 2


def test_what_was_left_unfinished_is_whole_once_its_agent_has_seen_that_it_is(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = opened(), opened()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        before_each_step(writer, patch, _at_step(2, _die))
        writer.observe("s1", by_id(*map(make_session, range(MANY))), make_lease())
    written = running_in(reader)
    left = by_id(*map(make_session, range(len(written))))
    assert left.keys() == written.keys() and "s1" not in reader.renewed
    assert writer.observe("s1", left, make_lease()) == reader.edition("s1")
    reader.snapshot()
    assert "s1" in reader.renewed


def test_another_agent_that_writes_between_two_parts_makes_them_begin_again(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, other, reader = opened(), opened(), opened()
    writer.observe("s1", by_id(*map(make_session, range(MANY))))

    def write() -> None:
        other.observe("s1", by_id(make_session(MANY + 1)))

    before_each_step(writer, monkeypatch, _at_step(2, write))
    writer.observe("s1", by_id(make_session(MANY)))
    assert running_in(reader).keys() == {f"s1-{MANY}"}


def test_a_list_that_cannot_catch_up_at_once_says_so_and_goes_on(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    _fill(writer)
    replica = Replica(opened(), Entry)
    replica.refresh()
    writer.observe("s1", by_id(make_session(MANY)), make_lease())
    monkeypatch.setattr(replica_module, "CATCH_UP_SECONDS", -1)  # one part each time
    left = list[int]()
    while replica.problem is not None or not left:
        replica.refresh()
        left.append(len(replica.entries(Everything.SESSIONS)))
    assert len(left) > 2
    assert left == sorted(left, reverse=True) and left[-1] == 1
    monkeypatch.setattr(replica_module, "CATCH_UP_SECONDS", PATIENCE)
    _fill(writer)
    replica.refresh()
    assert replica.problem is None and len(replica.entries(Everything.SESSIONS)) == MANY


def test_many_ends_of_a_lease_come_in_parts_and_a_server_that_is_back_meanwhile_has_all_again(
    opened: OpenStore,
) -> None:
    writer, reader = opened(), opened()
    _fill(writer)
    writer.set_params("s1-0", "alice", {"a": 1})
    edition = writer.observe("s1", by_id(*map(make_session, range(MANY))), make_lease(seconds=1))
    revision = reader.snapshot().revision
    changes = wait_for("the first ends", lambda: reader.changes(revision))
    assert 0 < len(changes.records) <= 2 * AT_ONCE
    assert len(running_in(writer)) < MANY and writer.edition("s1") != edition
    writer.observe("s1", by_id(*map(make_session, range(MANY))), make_lease())
    assert len(running_in(opened())) == MANY and params_in(reader, "s1-0") == {"a": 1}
    assert len(writer.recall("s1")) == MANY


def test_all_ends_of_a_lease_come_without_a_pause(opened: OpenStore) -> None:
    writer, reader = opened(), opened()
    _fill(writer)
    writer.observe("s1", by_id(*map(make_session, range(MANY))), make_lease(seconds=1))
    revision, sizes = reader.snapshot().revision, list[int]()
    wait_for("the first ends", lambda: reader.changes(revision) is not None)
    while (changes := reader.changes(revision)) is not None:
        revision = changes.revision
        sizes.append(len(changes.records))
    assert sum(sizes) == MANY and max(sizes) <= 2 * AT_ONCE
    assert not running_in(reader) and len(writer.recall("s1")) == MANY
