"""A reader that leaves a read open asks Redis nothing until something is written."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from fastx_list.store import OrderLost, Revision, Store, redis_reader
from tests.store.common import OpenStore, Raw, by_id, make_session
from tests.support import wait_for

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url


class Watched(NamedTuple):
    """Two users of a store with one session; one waits for what comes after ``revision``."""

    writer: Store
    reader: Store
    revision: Revision


@pytest.fixture
def watched(opened: OpenStore, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(redis_reader, "WATCH_SECONDS", 60.0)
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()))
    revision = reader.snapshot().revision
    wait_for("the watch", lambda: reader.changes(revision) is None and _watches(reader))
    return Watched(writer, reader, revision)


def test_while_nothing_is_written_redis_is_not_asked(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_reader, "WATCH_SECONDS", 60.0)
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()))
    for number in range(3):
        writer.set_params("s1-1", "alice", {"a": number})
        revision = reader.snapshot().revision
        wait_for("the watch", lambda: reader.changes(revision) is None and _watches(reader))
        before = _commands(raw)
        for _ in range(50):
            assert reader.changes(revision) is None
        assert _commands(raw) == before
        reader._reader.expect_ends()  # type: ignore[attr-defined]
        assert reader.changes(revision) is None
        assert _commands(raw) != before and _watches(reader)


def _watches(store: Store) -> bool:
    going_on: bool = store._watch.goes_on()  # type: ignore[attr-defined]
    return going_on


def _commands(raw: Raw) -> dict[str, int]:
    found = raw.client.info("commandstats")
    return {name: found[name]["calls"] for name in found if not name.startswith("cmdstat_info")}


def test_what_was_written_is_read_by_the_next_question_of_anybody(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_reader, "WATCH_SECONDS", 60.0)
    stores = [opened(), opened()]
    stores[0].observe("s1", by_id(make_session()))
    revisions = [store.snapshot().revision for store in stores]
    for number in range(500):
        text = stores[number % 2].set_params("s1-1", "alice", {"a": number})
        for index, store in enumerate(stores):
            changes = store.changes(revisions[index])
            assert changes is not None and [record.text for record in changes.records] == [text]
            revisions[index] = changes.revision
            assert store.changes(changes.revision) is None


@pytest.mark.parametrize(
    "harm", [("CLIENT", "UNBLOCK", "{}", "ERROR"), ("CLIENT", "KILL", "ID", "{}")]
)
def test_a_watch_that_redis_has_given_up_is_noticed(
    raw: Raw, watched: Watched, harm: tuple[str, ...]
) -> None:
    writer, reader, revision = watched
    [blocked] = [each["id"] for each in raw.client.client_list() if "b" in each["flags"]]
    raw.client.execute_command(*(part.format(blocked) for part in harm))
    writer.observe("s1", {})
    changes = reader.changes(revision)
    assert changes is not None and [record.id for record in changes.records] == ["s1-1"]


def test_a_redis_that_is_emptied_before_the_watch_has_begun_is_noticed(
    raw: Raw, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    writer, reader, revision = watched
    writer.observe("s1", by_id(make_session(clients=1)))
    changes = reader.changes(revision)
    assert changes is not None
    watch = reader._watch  # type: ignore[attr-defined]
    begin = watch.begin

    def empty_and_begin(*arguments: Any) -> None:
        raw.empty()
        begin(*arguments)

    monkeypatch.setattr(watch, "begin", empty_and_begin)
    assert reader.changes(changes.revision) is None
    wait_for("an answer", watch._link.has_answer)
    with pytest.raises(OrderLost):
        reader.changes(changes.revision)


def test_who_misses_a_session_in_a_redis_that_was_emptied_asks_it_next(
    raw: Raw, watched: Watched
) -> None:
    _, reader, revision = watched
    raw.empty()  # of which nobody is told who waits for more
    assert reader.set_params("s1-1", "alice", {"a": 1}) is None
    with pytest.raises(OrderLost):
        reader.changes(revision)
