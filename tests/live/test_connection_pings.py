"""Pings, and how long a connection waits for a peer."""

from __future__ import annotations

from websockets.frames import Opcode

from fastx_list.api.protocol import spare_frames
from tests.live.wire import (
    GOING_AWAY,
    INTERVAL,
    PATIENCE,
    Wire,
    client,
    fill,
    is_open,
    opcodes,
    text_of,
)


def test_it_pings_when_it_is_time_and_not_before(wire: Wire) -> None:
    wire.tend(INTERVAL - 1)
    assert wire.reads_all() == []
    wire.tend(1)
    assert opcodes(wire.reads_all()) == [Opcode.PING]
    wire.tend(1)
    assert opcodes(wire.reads_all()) == [Opcode.PING]


def test_a_peer_that_answers_pings_stays(wire: Wire) -> None:
    for number in range(1, 6):
        wire.tend(INTERVAL)
        frames = wire.reads_all()
        assert opcodes(frames) == [Opcode.PING] * number
        wire.sends(client(Opcode.PONG, bytes(frames[-1].data)))
    assert wire.is_served


def test_a_peer_that_does_not_answer_a_ping_is_dropped_when_the_next_is_due(wire: Wire) -> None:
    wire.tend(INTERVAL)
    wire.tend(INTERVAL - 1)
    wire.let_it_read()
    assert wire.is_served
    wire.tend(1)
    wire.let_it_read()
    assert not wire.is_served
    assert opcodes(wire.reads_all()) == [Opcode.PING]
    assert wire.ended


def test_a_peer_that_stops_answering_is_dropped(wire: Wire) -> None:
    wire.tend(INTERVAL)
    wire.sends(client(Opcode.PONG))
    wire.tend(INTERVAL)
    wire.tend(INTERVAL)
    wire.let_it_read()
    assert not wire.is_served


def test_a_reader_that_reads_nothing_is_given_its_time_and_then_dropped(narrow: Wire) -> None:
    fill(narrow)
    for _ in range(int(PATIENCE) - 1):  # the whole of it, although it answers no ping
        assert not narrow.tend(1) and narrow.is_served
    narrow.publish("s1", text_of(1000))  # what it is owed meanwhile does not count as reading
    assert narrow.tend(1) and not narrow.is_served
    assert narrow.watching.callback is None
    assert not narrow.tend(0)


def test_a_call_to_write_that_finds_no_room_gives_a_reader_no_more_time(narrow: Wire) -> None:
    fill(narrow)
    for _ in range(int(PATIENCE)):
        assert narrow.is_served and narrow.watching.callback is not None
        narrow.watching.callback()
        narrow.tend(1)
    assert not narrow.is_served


def test_a_slow_reader_that_reads_now_and_then_stays_although_no_ping_comes_to_it(
    narrow: Wire,
) -> None:
    fill(narrow)
    for _ in range(10):
        assert not narrow.tend(PATIENCE * 0.9)
        while not narrow.reads(100_000):
            pass
        narrow.lets_it_write()
        assert narrow.watching.callback is not None
    assert narrow.is_served


def test_a_ping_that_waited_behind_the_rest_does_not_count(narrow: Wire) -> None:
    narrow.tend(INTERVAL)
    fill(narrow)
    narrow.tend(PATIENCE / 2)
    assert opcodes(narrow.reads_all()).count(Opcode.PING) == 1
    narrow.tend(INTERVAL - 1)
    assert opcodes(narrow.reads_all()).count(Opcode.PING) == 1
    narrow.tend(1)
    assert opcodes(narrow.reads_all()).count(Opcode.PING) == 2
    narrow.tend(INTERVAL)  # now it has had the time to answer
    narrow.let_it_read()
    assert not narrow.is_served


def test_one_that_has_read_all_may_be_idle_for_as_long_as_it_likes(narrow: Wire) -> None:
    fill(narrow)
    narrow.reads_all()
    narrow.sends(client(Opcode.PONG))
    assert not narrow.tend(PATIENCE) and narrow.is_served


def test_a_connection_that_is_closing_is_not_pinged(wire: Wire) -> None:
    wire.now += INTERVAL
    wire.connection.close(GOING_AWAY, "")
    wire.tend(0)
    assert opcodes(wire.reads_all()) == [Opcode.CLOSE]


def test_a_pong_that_nobody_asked_for_is_ignored(wire: Wire) -> None:
    wire.sends(client(Opcode.PONG, b"x"))
    assert is_open(wire)


def test_an_answer_that_came_while_nobody_read_keeps_a_peer(wire: Wire) -> None:
    """As when the sidecar was stopped: the timer may have its turn before the socket."""
    wire.tend(INTERVAL)
    wire.peer.send(client(Opcode.PONG))
    wire.tend(INTERVAL)
    assert wire.is_served
    wire.tend(0)
    assert opcodes(wire.reads_all()) == [Opcode.PING] * 2


def test_a_reader_that_has_read_while_nobody_looked_stays(narrow: Wire) -> None:
    fill(narrow)
    while narrow.reads():
        pass
    assert not narrow.tend(PATIENCE) and narrow.is_served


def test_frames_that_came_while_nobody_read_are_those_of_more_than_half_a_second(
    wire: Wire,
) -> None:
    frames = [client(Opcode.PONG)] * 1000
    wire.connection.tend(wire.now, INTERVAL, PATIENCE, spare_frames(6))
    wire.sends(*frames)
    wire.let_it_read()
    assert wire.is_served and wire.connection.mailbox is not None
    wire.tend(0)
    wire.sends(*frames)
    assert opcodes(wire.reads_all()) == [Opcode.CLOSE]
