"""Compressed messages as clients get them, inflated by another implementation than compressed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from fastx_list.live.bus import News, Told
from fastx_list.live.deflate import Deflate, Snapshot
from fastx_list.live.frames import FramedEntry, session_frame
from tests.live.inflating import Inflating
from tests.live.wire import Wire, messages, text_of

MANY = 2000


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire(inflates=True)
    yield wire
    wire.close()


def entry(number: int, clients: int = 0) -> FramedEntry:
    """Return a session that is as like to its neighbours as real ones are."""
    started = 1_700_000_000_000 + number * 7919
    members = {
        "id": random.Random(number).randbytes(16).hex(),
        "serverPid": 1000 + number,
        "geometry": "1920x1080",
        "windowMode": "desktop",
        "started": started,
        "lastConnect": started + 5000,
        "command": ("startxfce4", "matlab -desktop", "gnome-session")[number % 3],
        "clients": clients,
        "params": {"name": f"Session {number}", "project": f"p{number % 50}"},
        "hostname": "node1.example.org",
        "login": "alice",
        "display": number,
        "serverId": "3f6c2a0e",
        "cpuPercentage": 12.5,
        "videoRam": 65536,
    }
    text = json.dumps(members, separators=(",", ":")).encode()
    return FramedEntry(str(members["id"]), "alice", text)


def news(*entries: FramedEntry) -> News:
    return News([Told(each.id, each, True) for each in entries])


def ended(told: FramedEntry) -> News:
    return News([Told(told.id, session_frame(told.id, None), True)])


def state(frames: list[Frame]) -> dict[str, Any]:
    """Return the sessions that a client has after ``frames``."""
    return {name: data for name, data in dict(messages(frames)).items() if data is not None}


def test_a_message_is_compressed_once_for_all_and_any_window(wire: Wire) -> None:
    wire.connection.deflates = True
    told = entry(1)
    for _ in range(3):
        wire.connection.tell(news(told))
    inflating = Inflating(9, keeps_context=False)
    assert messages(wire.reads_all(inflating)) == [(told.id, json.loads(told.text))] * 3
    assert told.deflated is told.deflated
    [data, *same] = inflating.compressed
    assert len(data) < len(told.frame) * 0.75 and same == [data, data]


def test_what_would_not_be_shorter_goes_out_as_it_is(wire: Wire) -> None:
    wire.connection.deflates = True
    dense = FramedEntry("s1", "alice", b"0")
    assert dense.deflated is dense.frame
    wire.connection.tell(news(dense))
    wire.connection.tell(ended(dense))
    assert len(messages(wire.reads_all())) == 2


def test_who_did_not_agree_gets_no_compressed_message() -> None:
    plain = Wire()
    plain.connection.tell(news(entry(1)))
    assert len(messages(plain.reads_all())) == 1
    plain.close()


@pytest.mark.parametrize(
    ("agreed", "at_most"),
    [(Deflate(None, True), 100), (Deflate(15, True), 100), (Deflate(12, True), 115)],
)
def test_a_snapshot_costs_a_session_little(agreed: Deflate, at_most: int) -> None:
    snapshot = agreed.snapshot()
    assert snapshot is not None
    assert len(snapshot.frames(entry(number).frame for number in range(MANY))) < at_most * MANY


@pytest.mark.parametrize("agreed", [Deflate(None, False), Deflate(15, False), Deflate(11, True)])
def test_where_messages_cannot_refer_to_others_a_snapshot_has_no_compressor(
    agreed: Deflate,
) -> None:
    assert agreed.snapshot() is None


@pytest.mark.parametrize("bits", [12, 15])
@pytest.mark.parametrize("seed", range(10))
def test_whatever_changes_while_a_snapshot_is_sent_can_be_inflated_and_is_the_last_state(
    seed: int, bits: int
) -> None:
    choose = random.Random(seed)
    wire = Wire(inflates=True, send_buffer=choose.choice([1, 20_000, 1_000_000]))
    now = {number: entry(number) for number in range(1000)}
    snapshot = Snapshot(bits)
    for start in range(0, 1000, 100):
        there = [now[number] for number in range(start, start + 100) if number in now]
        wire.connection.tell_together(news(*there), snapshot)
        for _ in range(choose.randint(0, 20)):
            _change(wire, now, choose)
    wire.connection.deflates = True
    for _ in range(100):
        _change(wire, now, choose)
    frames = wire.reads_all(Inflating(bits))
    assert state(frames) == {each.id: json.loads(each.text) for each in now.values()}
    wire.close()


def _change(wire: Wire, now: dict[int, FramedEntry], choose: random.Random) -> None:
    number = choose.randrange(1000)
    before = now.pop(number, None)
    if before is None or choose.random() < 0.7:
        now[number] = entry(number, choose.randrange(9))
        wire.connection.tell(News([Told(now[number].id, now[number], before is not None)]))
    else:
        wire.connection.tell(ended(before))
    wire.reads(choose.randrange(3000))
    wire.lets_it_write()


def test_a_session_that_begins_again_and_ends_while_a_snapshot_is_sent_is_over() -> None:
    wire = Wire(inflates=True, send_buffer=1)
    snapshot = Snapshot(15)
    first, again = entry(0), entry(0, clients=1)
    wire.connection.tell_together(news(*(entry(number) for number in range(1, 1000))), snapshot)
    assert wire.watching.callback is not None
    wire.connection.tell(News([Told(first.id, again, False)]))
    wire.connection.tell_together(news(again), snapshot)
    wire.connection.deflates = True
    wire.connection.tell(ended(again))
    assert first.id not in state(wire.reads_all(Inflating()))
    wire.close()


def test_who_reads_nothing_is_not_compressed_for_without_end() -> None:
    wire = Wire(inflates=True, send_buffer=1)
    snapshot = Snapshot(15)
    sessions = [
        FramedEntry(f"s{number}", "alice", text_of(10, y=os.urandom(10_000).hex()))
        for number in range(100)
    ]
    for each in sessions:
        wire.connection.tell_together(news(each), snapshot)
    assert sum(map(len, wire.connection._out)) < 300_000
    wire.connection.deflates = True
    frames = wire.reads_all(Inflating())
    assert state(frames) == {each.id: json.loads(each.text) for each in sessions}
    wire.close()


def test_a_goodbye_in_a_snapshot_leaves_no_torn_frame() -> None:
    wire = Wire(inflates=True, send_buffer=1)
    snapshot = Snapshot(15)
    for start in range(0, 1000, 100):
        wire.connection.tell_together(
            news(*(entry(number) for number in range(start, start + 100))), snapshot
        )
    wire.connection.close(1001, "the server restarts")
    frames = wire.reads_all(Inflating())
    assert frames[-1].opcode is Opcode.CLOSE and len(messages(frames)) < 1000
    wire.close()
