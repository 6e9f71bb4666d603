"""Data in Redis that was lost, or that somebody else wrote."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from typing import Any

import pytest

from fastx_list.model.server import Server
from fastx_list.store import (
    OrderLost,
    SnapshotNeeded,
    Store,
    StoreError,
    division,
    redis_errors,
    redis_link,
    redis_script,
)
from tests.store.common import OpenStore, Raw, by_id, make_lease, make_session, running_in

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url


@pytest.mark.parametrize("more", [0, 1, 2, 10])
def test_a_reader_of_a_redis_that_was_emptied_needs_a_snapshot(
    opened: OpenStore, raw: Raw, more: int
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    revision = reader.snapshot().revision
    raw.empty()
    # Its revisions reach, meet and overtake the one that the reader knows
    for number in range(more):
        writer.observe("s1", by_id(make_session(3, clients=number)))
    for _ in range(2):
        with pytest.raises(OrderLost):
            reader.changes(revision)
    snapshot = reader.snapshot()
    assert {record.id for record in snapshot.records} == ({"s1-3"} if more else set())
    writer.observe("s1", by_id(make_session(4)))
    changes = reader.changes(snapshot.revision)
    assert changes is not None


def test_a_reader_of_a_redis_that_was_emptied_takes_no_older_one_for_what_that_has_become(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = opened(), opened()
    for number in range(9):
        writer.observe("s1", by_id(make_session(number)))
    with monkeypatch.context() as later:
        later.setattr(redis_script, "KEEP_ENDS_SECONDS", -1)  # as if all were older than that
        writer.observe("s1", {})
    copy = {key: raw.client.dump(key) for key in raw.all_keys()}
    raw.empty()
    writer.observe("s1", {})
    writer.observe("s1", by_id(make_session()))
    revision = reader.snapshot().revision
    raw.empty()
    for key, value in copy.items():
        raw.client.restore(key, 0, value)
    for _ in range(2):
        with pytest.raises(OrderLost):
            reader.changes(revision)
    assert reader.changes(reader.snapshot().revision) is None


def test_a_head_that_was_lost_alone_keeps_nobody_from_writing(opened: OpenStore, raw: Raw) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    revision = reader.snapshot().revision
    raw.client.delete(raw.key("head"))
    writer.observe("s1", by_id(make_session(1), make_session(2, clients=1)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert running_in(reader).keys() == {"s1-1", "s1-2"}


def test_a_reader_that_waits_notices_that_redis_was_emptied(opened: OpenStore, raw: Raw) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    revision = reader.snapshot().revision
    timer = threading.Timer(0.1, raw.empty)
    timer.start()
    with pytest.raises(SnapshotNeeded):
        while True:
            assert reader.changes(revision, timeout=0.2) is None
    timer.join()


@pytest.mark.parametrize("times", [1, 100])
def test_a_redis_that_is_emptied_while_it_is_read_is_read_once_more(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(division, "READ_TRIES", 3)
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    ask, emptied = redis_link.Link.ask, 0

    def empty_and_ask(link: redis_link.Link, *commands: Any, more: float = 0) -> Any:
        nonlocal emptied
        if "HSCAN" in (each[0] for each in commands) and emptied < times:
            emptied += 1
            raw.empty()
            raw.client.set(raw.key("head"), f"{emptied} ")
        return ask(link, *commands, more=more)

    monkeypatch.setattr(redis_link.Link, "ask", empty_and_ask)
    if times == 1:
        assert running_in(reader) == {}
    else:
        with pytest.raises(StoreError, match="changes faster than it can be read"):
            reader.snapshot()


def test_an_agent_notices_that_redis_was_emptied(opened: OpenStore, raw: Raw) -> None:
    agent, reader = opened(), opened()
    agent.observe("s1", by_id(make_session(1)), make_lease())
    raw.empty()
    assert agent.edition("s1") is None
    agent.observe("s1", by_id(make_session(1)), make_lease())
    assert running_in(reader).keys() == {"s1-1"}


def _harmful(name: str, **members: str) -> bytes:
    all_members = {
        "id": f'"{name}"',
        "login": '"x"',
        "serverId": '"s1"',
        "hostname": '"host"',
        "params": "{}",
        **members,
    }
    return (
        "{" + ",".join(f'"{member}":{text}' for member, text in all_members.items()) + "}"
    ).encode()


def test_what_is_no_session_is_reported_once_and_the_others_are_read(
    opened: OpenStore, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    good = raw.client.hget(raw.key("sessions"), "s1-1")
    harm = {
        "a": b"no json",
        "b": b"[]",
        "c": b'{"id": "c"}',
        "d": good,
        "e": b'{"id":"e","login":1,"serverId":"s"}',
        "f": b"\xff",
        "g": b'"g"',
        "h": _harmful("h", params="[]"),
        "i": b"null",
        "j": _harmful("j", login="[]"),
        "k": _harmful("k", x="NaN"),
        "l": _harmful("l", params='{"x":' + "[" * 40 + "]" * 40 + "}"),
        "m": _harmful("m", x="[" * 100_000 + "]" * 100_000),
    }
    raw.client.hset(raw.key("sessions"), mapping=harm)
    raw.client.hset(
        raw.key("servers"),
        mapping={
            "x": b"no json",
            "y": b"[]",
            "z": b'{"id":"s1"}',
            "w": b'{"id":"w","x":' + b"[" * 40 + b"]" * 40 + b"}",
        },
    )
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            assert running_in(reader).keys() == {"s1-1", "s1-2"}
            assert list(reader.snapshot().servers) == []
    assert len(caplog.records) == len(harm) + 4
    assert writer.set_params("a", "alice", {"x": 1}) is None


def test_what_is_no_change_is_left_out_and_the_others_are_read(opened: OpenStore, raw: Raw) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    revision = reader.snapshot().revision
    writer.observe("s1", by_id(make_session(1, clients=1)))
    head = raw.client.get(raw.key("head")).decode().split()
    harmful: list[dict[str, Any]] = [
        {"s": "s1-9", "d": "no json"},
        {"s": b"\xff", "l": "x", "v": "y"},
        {"s": "s1-9"},
        {"j": "token", "e": "never"},
        {"m": b"\xff"},
    ]
    for number, harm in enumerate(harmful, start=1):
        raw.client.xadd(
            raw.key("changes"), {"p": head[1], "t": "0", **harm}, id=f"{int(head[0]) + number}-0"
        )
        raw.client.set(raw.key("head"), f"{int(head[0]) + number} {head[1]}")
    changes = reader.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-1"]
    assert (changes.revoked, changes.servers) == ({}, ())
    assert changes.revision.number == int(head[0]) + 5


@pytest.mark.parametrize("lasts", ["-5", "0", "nan", "-inf", "1e999", "", "none"])
def test_a_lease_that_is_none_keeps_nobody_from_reading(
    opened: OpenStore, raw: Raw, lasts: str
) -> None:
    agent, reader = opened(), opened()
    agent.observe("s1", by_id(make_session(1)), make_lease())
    raw.client.hset(raw.key("lease:s1"), "lasts", lasts)
    assert running_in(reader).keys() == {"s1-1"}


def test_a_head_that_is_none_is_an_error_that_names_it(store: Store, raw: Raw) -> None:
    raw.client.set(raw.key("head"), "mine")
    with pytest.raises(StoreError, match="head.*remove that key"):
        store.snapshot()


def test_a_prefix_that_holds_something_else_is_an_error_that_names_the_store(
    store: Store, raw: Raw
) -> None:
    for name in ("sessions", "digests:s1", "servers"):
        raw.client.set(raw.key(name), "mine")
    for call in (
        store.snapshot,
        lambda: store.observe("s1", by_id(make_session())),
        lambda: store.set_params("a", "b", {}),
    ):
        with pytest.raises(StoreError, match="the store, Redis at 127.0.0.1:[0-9]+, database 3"):
            call()


HUGE = 256 << 20  # bytes of one value
READ = """
import resource, sys
from fastx_list.store import StoreError, open_store
store = open_store(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for call in (store.snapshot, lambda: store.recall("s1"), lambda: store.edition("s1")):
    try:
        call()
    except StoreError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.programs
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("head", "'SET', KEYS[2], it"),
        ("view:s1", "'SET', KEYS[2], it"),
        ("sessions", "'HSET', KEYS[2], 's1-1', it"),
        ("servers", "'HSET', KEYS[2], it, ''"),
    ],
)
def test_a_huge_value_costs_no_reader_its_size(
    opened: OpenStore, url: str, raw: Raw, name: str, write: str
) -> None:
    opened().observe("s1", by_id(make_session(1)))
    raw.client.setrange(raw.key("it"), HUGE - 1, "x")
    script = f"local it = redis.call('GET', KEYS[1]); redis.call({write})"
    raw.client.eval(script, 2, raw.key("it"), raw.key(name))
    try:
        command = [sys.executable, "-c", READ, url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        raw.empty()
    *said, grown = done.stdout.splitlines()
    assert int(grown) < 32 * 1024  # KiB
    assert any("more than stores write" in each for each in said), said
    assert any(raw.key(name) in each for each in said), said


def test_a_redis_that_a_newer_release_writes_is_neither_read_nor_written(
    opened: OpenStore, raw: Raw
) -> None:
    store = opened()
    store.observe("s1", by_id(make_session(1)))
    revision = store.snapshot().revision
    set_format(raw, str(redis_errors.FORMAT + 1))
    newer = "the store, Redis at .*, was made by a newer fastx-list; install that here"
    for call in (
        lambda: store.observe("s1", {}),
        lambda: store.heartbeat(Server("s1", "host"), make_lease()),
        lambda: store.revoke({"jti": 1}),
        store.end_leases,
        store.snapshot,
        lambda: opened().snapshot(),
    ):
        with pytest.raises(StoreError, match=newer):
            call()
    for format_ in (str(redis_errors.FORMAT), "nonsense"):
        set_format(raw, format_)
        assert [record.id for record in store.snapshot().records] == ["s1-1"]
        assert store.changes(revision) is None


def set_format(raw: Raw, text: str) -> None:
    raw.client.hset(raw.key("clock"), "format", text)
