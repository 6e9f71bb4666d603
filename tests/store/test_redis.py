"""What Redis keeps and for how long, and its clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis as client_library

from fastx_list.store import (
    REMEMBER_SECONDS,
    SnapshotNeeded,
    Store,
    StoreError,
    open_store,
    redis,
    redis_link,
    redis_reader,
    redis_script,
)
from tests.store.common import (
    OpenStore,
    Raw,
    by_id,
    make_lease,
    make_server,
    make_session,
    params_in,
    running_in,
)
from tests.support import wait_for

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url


# Who vouches for what is read.


def _around_renewals(
    patch: pytest.MonkeyPatch,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
) -> None:
    """Let these come before and after each look at the renewals."""
    run = redis_script.Script.run

    def around(script: redis_script.Script, link: Any, step: str, *rest: Any) -> Any:
        if step != "renewals":
            return run(script, link, step, *rest)
        before()
        answer = run(script, link, step, *rest)
        after()
        return answer

    patch.setattr(redis_script.Script, "run", around)


@pytest.mark.parametrize("when", ["before", "after"])
def test_no_lease_vouches_for_an_older_store_that_takes_the_place_of_its_own(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def later(than: float) -> float | None:  # as Redis counts whole ones
        now = time.monotonic()
        return now if now > than + 0.01 else None

    agent, reader = opened(), opened()
    agent.observe("s1", by_id(make_session(1)), make_lease())
    older = {key: raw.client.dump(key) for key in raw.all_keys()}
    written = time.monotonic()
    until = wait_for("a later millisecond", lambda: later(written))
    wait_for("one after that", lambda: later(until))
    agent.observe("s1", by_id(make_session(1), make_session(2)), make_lease())

    def restore() -> None:
        if older:
            raw.client.delete(*raw.all_keys())
        for key in list(older):
            raw.client.restore(key, 0, older.pop(key))

    _around_renewals(monkeypatch, **{when: restore})
    read = reader.snapshot()
    assert not older
    assert len(read.records) == 2 or reader.renewed["s1"] <= until


def test_a_lease_vouches_for_what_was_written_before_it_was_looked_at(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, reader = opened(), opened()
    agent.observe("s1", by_id(make_session(1)), make_lease())
    both = by_id(make_session(1), make_session(2))
    _around_renewals(monkeypatch, before=lambda: agent.observe("s1", both, make_lease()))
    assert {record.id for record in reader.snapshot().records} == {"s1-1", "s1-2"}


def test_who_is_stopped_while_looking_takes_no_lease_for_renewed_later(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = opened()
    opened().observe("s1", by_id(make_session()), make_lease())
    written, stops = time.monotonic(), list[float]()
    _around_renewals(monkeypatch, after=lambda: stops.append(3600))
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(stops))
    monkeypatch.setattr(redis_reader, "time", clock)
    reader.snapshot()
    assert stops and reader.renewed["s1"] < written + 1800


# What is kept.


def test_all_keys_have_the_prefix_and_one_hash_tag(store: Store, raw: Raw) -> None:
    before = raw.client.dbsize()
    store.observe("s1", by_id(make_session(1), make_session(2)), make_lease(seconds=0.01))
    store.heartbeat(make_server("s2"), make_lease())
    store.set_params("s1-1", "alice", {"a": 1})
    store.revoke({"token": 2**40})
    wait_for("the end of the lease", lambda: not running_in(store))
    assert raw.client.dbsize() - before == len(raw.all_keys()) > 5
    assert len({client_library.crc.key_slot(key.encode()) for key in raw.all_keys()}) == 1


def test_without_history_nothing_of_a_session_stays_once_it_has_ended(
    redis_url: str, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_script, "KEEP_ENDS_SECONDS", -1)
    store = open_store(redis_url, keep=0)
    store.observe("s1", by_id(make_session(command="SECRET")))
    store.set_params("s1-1", "alice", {"a": "SECRET"})
    store.observe("s1", {})
    store.observe("s1", {})
    held = [raw.client.dump(key) for key in raw.all_keys() if raw.client.type(key) != b"stream"]
    assert not any(b"SECRET" in value for value in held)
    assert raw.client.xlen(raw.key("changes")) == 0
    store.close()


def test_what_left_with_a_lease_is_kept_in_mind_for_a_day(store: Store, raw: Raw) -> None:
    store.observe("s1", by_id(make_session()), make_lease(seconds=0.01))
    wait_for("the end of the lease", lambda: not running_in(store))
    gone = [raw.key(name) for name in ("gone:s1", "gone-params:s1")]
    assert [raw.client.ttl(key) for key in gone] == [-1, -1]  # no clock ends them that may be set
    for seconds, kept in ((REMEMBER_SECONDS - 60, 2), (60, 0)):
        raw.client.hincrby(raw.key("clock"), "now", seconds * 1000)
        store.heartbeat(make_server("s2"), make_lease())
        assert raw.client.exists(*gone) == kept


def test_the_history_is_bounded_and_who_falls_off_needs_a_snapshot(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_script, "MAX_CHANGES", 100)
    writer, reader, eager = opened(), opened(), opened()
    revision = reader.snapshot().revision
    position = eager.snapshot().revision
    for number in range(60):
        writer.observe("s1", by_id(*(make_session(each, clients=number) for each in range(10))))
        changes = eager.changes(position)
        assert changes is not None
        position = changes.revision
    # Redis trims whole nodes, of 100 entries as a rule
    assert raw.client.xlen(raw.key("changes")) <= 300
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    snapshot = reader.snapshot()
    assert (snapshot.revision.number, len(snapshot.records)) == (600, 10)
    writer.observe("s1", {})
    changes = reader.changes(snapshot.revision)
    assert changes is not None
    assert len(changes.records) == 10


def test_the_history_is_forgotten_in_time_and_who_is_up_to_date_goes_on(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader, behind = opened(), opened(), opened()
    start = behind.snapshot().revision
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    revision = reader.snapshot().revision
    monkeypatch.setattr(redis_script, "KEEP_ENDS_SECONDS", -1)  # as if all were older than that
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    assert raw.client.xlen(raw.key("changes")) == 0
    assert reader.changes(revision) is None
    with pytest.raises(SnapshotNeeded):
        behind.changes(start)
    monkeypatch.setattr(redis_script, "KEEP_ENDS_SECONDS", 600)
    writer.observe("s1", by_id(make_session(2)))
    changes = reader.changes(revision)
    assert changes is not None
    assert [(record.id, record.text) for record in changes.records] == [("s1-1", None)]


def test_a_revocation_is_forgotten_when_its_token_has_expired(store: Store) -> None:
    store.revoke({"old": 1_700_000_000})
    store.revoke({"new": 2**40})
    store.observe("s1", {})
    assert dict(store.snapshot().revoked) == {"new": 2**40}


def test_many_sessions_are_read_a_page_at_a_time_with_what_changes_meanwhile(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_reader, "PAGE", 10)
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(*(make_session(number) for number in range(2000))))
    pages = 0
    ask = redis_link.Link.ask

    def ask_and_write(link: Any, *commands: Any, more: float = 0) -> Any:
        nonlocal pages
        if "HSCAN" in (each[0] for each in commands):
            pages += 1
            if pages in (5, 50, 100):
                writer.observe(
                    "s1",
                    by_id(
                        *(
                            make_session(number, clients=pages)
                            for number in range(pages, 2000 + pages)
                        )
                    ),
                )
        return ask(link, *commands, more=more)

    monkeypatch.setattr(redis_link.Link, "ask", ask_and_write)
    snapshot = reader.snapshot()
    assert pages >= 100
    members = [json.loads(str(record.text)) for record in snapshot.records]
    assert {each["id"] for each in members} == {f"s1-{number}" for number in range(100, 2100)}
    assert len(members) == 2000 and {each["clients"] for each in members} == {100}
    assert reader.changes(snapshot.revision) is None


def test_an_agent_can_have_more_sessions_than_a_function_of_lua_has_arguments(store: Store) -> None:
    store.observe("s1", by_id(*(make_session(number) for number in range(3000))))
    assert len(running_in(store)) == 3000
    store.observe("s1", {})
    assert running_in(store) == {}


def test_sessions_that_another_writes_between_the_read_and_the_write_do_not_mix_with_it(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened(), opened()
    store.observe("s1", by_id(make_session(1)))
    link = store._patient  # type: ignore[attr-defined]
    transaction = link.transaction
    interleaved = [by_id(make_session(1), make_session(2)), by_id(make_session(3))]

    def look_and_let_another_write(*commands: Any) -> Any:
        answer = transaction(*commands)
        if interleaved:
            other.observe("s1", interleaved.pop())
        return answer

    monkeypatch.setattr(link, "transaction", look_and_let_another_write)
    store.observe("s1", by_id(make_session(1, clients=5), make_session(4)))
    assert not interleaved
    assert running_in(other).keys() == {"s1-1", "s1-4"}


def test_a_writer_gives_up_when_others_write_the_same_each_time(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "TRIES", 3)
    store, other = opened(), opened()
    store.observe("s1", by_id(make_session()))
    ask, tries = redis_link.Link.ask, 0

    def ask_and_let_another_write(link: Any, *commands: Any, more: float = 0) -> Any:
        nonlocal tries
        answers = ask(link, *commands, more=more)
        if link is not store._quick and link is not store._patient:  # type: ignore[attr-defined]
            return answers
        if commands[0][0] == "HGET":
            tries += 1
            other.set_params("s1-1", "alice", {"a": tries})
        elif commands[0][0] == "MULTI":
            tries += 1
            other.observe("s1", by_id(make_session(clients=tries)))
        return answers

    monkeypatch.setattr(redis_link.Link, "ask", ask_and_let_another_write)
    with pytest.raises(StoreError, match="was changed by others again and again"):
        store.observe("s1", by_id(make_session(2)))
    with pytest.raises(StoreError, match="was changed by others again and again"):
        store.set_params("s1-1", "alice", {"b": 1})
    assert tries == 6
    [session] = running_in(other).values()
    assert (session["clients"], session["params"]) == (3, {"a": 6})


def test_params_that_another_sets_meanwhile_are_kept_too(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened(), opened()
    store.observe("s1", by_id(make_session()))
    link = store._quick  # type: ignore[attr-defined]
    ask, others = link.ask, [{"a": 1}]

    def ask_and_let_another_write(*commands: Any, more: float = 0) -> Any:
        answers = ask(*commands, more=more)
        if commands[0][0] == "HGET" and others:
            other.set_params("s1-1", "alice", others.pop())
        return answers

    monkeypatch.setattr(link, "ask", ask_and_let_another_write)
    store.set_params("s1-1", "alice", {"b": 2})
    assert params_in(other) == {"a": 1, "b": 2}


# Its clock.


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_or_hours_that_nobody_could_reach_it_end_no_lease(
    opened: OpenStore, raw: Raw, hours: int
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()), make_lease(seconds=60))
    raw.client.hincrby(raw.key("clock"), "wall", hours * 3600_000)
    assert running_in(reader).keys() == {"s1-1"}
    assert running_in(opened()).keys() == {"s1-1"}
    held = writer.holder("s1")
    assert held is not None
    assert writer.heartbeat(make_server(), make_lease(seconds=60)) is None


def test_a_lease_of_a_dead_agent_ends_after_such_a_jump_as_well(
    opened: OpenStore, raw: Raw
) -> None:
    writer = opened()
    writer.observe("s1", by_id(make_session()), make_lease(seconds=60))
    for jump in range(4):
        assert running_in(opened()).keys() == {"s1-1"}, jump
        raw.client.hincrby(raw.key("clock"), "wall", -3600_000)  # a fourth of the lease each time
    assert running_in(opened()) == {}
