"""What there is, and what observe does with it: run against each store."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fastx_list.model.session import encode
from fastx_list.store import Record, Store
from tests.store.common import OpenStore, by_id, is_unchanged, make_session, params_in, running_in


def test_opening_a_store_touches_nothing(opened: OpenStore, database: Path) -> None:
    opened()
    assert not database.exists()


def test_a_new_store_is_empty(store: Store) -> None:
    snapshot = store.snapshot()
    assert list(snapshot.records) == []
    assert dict(snapshot.revoked) == {}
    assert store.changes(snapshot.revision) is None


def test_it_writes_new_sessions(store: Store) -> None:
    one, two = make_session(1, clients=2, started=5), make_session(2, login="bob", params={"a": 1})
    store.observe("s1", by_id(one, two))
    assert set(store.snapshot().records) == {
        Record("s1-1", "alice", "s1", encode(one, {})),
        Record("s1-2", "bob", "s1", encode(two, {"a": 1})),
    }


def test_it_writes_text_of_any_script(store: Store) -> None:
    session = make_session(command='xterm -T "Ünïcode \N{PILE OF POO} \0 \\"', login="żółw")
    store.observe("s1", by_id(session))
    assert running_in(store)["s1-1"]["command"] == session.command
    assert store.set_params("s1-1", "żółw", {"ключ": "値"}) is not None
    assert params_in(store) == {"ключ": "値"}


def test_it_writes_changed_sessions(store: Store) -> None:
    store.observe("s1", by_id(make_session(clients=0)))
    store.observe("s1", by_id(make_session(clients=1)))
    assert running_in(store)["s1-1"]["clients"] == 1


def test_it_ends_the_sessions_that_are_missing(store: Store) -> None:
    store.observe("s1", by_id(make_session(1), make_session(2)))
    before = store.snapshot().revision
    store.observe("s1", by_id(make_session(2)))
    assert running_in(store).keys() == {"s1-2"}
    changes = store.changes(before)
    assert changes is not None
    assert list(changes.records) == [Record("s1-1", "alice", "s1", None)]


def test_observing_no_session_ends_all_of_the_server(store: Store) -> None:
    store.observe("s1", by_id(make_session(1), make_session(2)))
    store.observe("s1", {})
    assert running_in(store) == {}


def test_it_leaves_the_sessions_of_other_servers_alone(store: Store) -> None:
    store.observe("s1", by_id(make_session(1)))
    store.observe("s2", by_id(make_session(1, "s2")))
    store.observe("s1", {})
    assert running_in(store).keys() == {"s2-1"}


def test_observing_the_same_sessions_writes_nothing(store: Store) -> None:
    store.observe("s1", by_id(make_session(1, params={"a": 1}), make_session(2)))
    before = store.snapshot()
    store.observe("s1", by_id(make_session(1, params={"a": 1}), make_session(2)))
    assert store.changes(before.revision) is None
    assert is_unchanged(store, before)


def test_it_writes_only_what_has_changed(store: Store) -> None:
    store.observe("s1", by_id(make_session(1), make_session(2), make_session(3)))
    before = store.snapshot().revision
    store.observe("s1", by_id(make_session(1), make_session(2, clients=1), make_session(3)))
    changes = store.changes(before)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-2"]
    assert changes.revision.number == before.number + 1


def test_what_is_observed_is_taken_whole_or_not_at_all(store: Store) -> None:
    store.observe("s1", by_id(make_session(1), make_session(2)))
    before = store.snapshot()
    # A number that JSON does not have cannot be written, and by then the two sessions in front of
    # it have been.
    with pytest.raises(ValueError):
        store.observe(
            "s1",
            by_id(
                make_session(2, clients=5), make_session(3), make_session(4, params={"x": math.nan})
            ),
        )
    assert is_unchanged(store, before)
    assert store.changes(before.revision) is None
    store.observe("s1", by_id(make_session(3)))
    assert running_in(store).keys() == {"s1-3"}


def test_a_snapshot_holds_running_sessions_only(store: Store) -> None:
    store.observe("s1", by_id(make_session(1), make_session(2)))
    store.observe("s1", by_id(make_session(2)))
    assert [record.text is None for record in store.snapshot().records] == [False]
