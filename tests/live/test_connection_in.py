"""What a client may send, and what becomes of it."""

from __future__ import annotations

import struct
from contextlib import closing

import pytest
from websockets.frames import Close, Opcode

from fastx_list.api.protocol import MAX_CLIENT_FRAMES, MAX_CLIENT_MESSAGE
from fastx_list.live.connection import CLOSE_SECONDS
from tests.live.wire import (
    GOING_AWAY,
    Wire,
    client,
    client_close,
    close_code,
    closes,
    fragments,
    is_open,
    messages,
    opcodes,
    raw,
)


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
def test_a_ping_is_answered(wire: Wire, payload: bytes) -> None:
    wire.sends(client(Opcode.PING, payload))
    assert [(frame.opcode, bytes(frame.data)) for frame in wire.reads_all()] == [
        (Opcode.PONG, payload)
    ]


def test_pings_are_answered_in_their_order(wire: Wire) -> None:
    wire.sends(*(client(Opcode.PING, b"%d" % number) for number in range(20)))
    assert [bytes(frame.data) for frame in wire.reads_all()] == [
        b"%d" % number for number in range(20)
    ]


def test_a_ping_between_the_fragments_of_a_message_is_answered(wire: Wire) -> None:
    first, last = fragments(Opcode.TEXT, b"a", b"b")
    wire.sends(first, client(Opcode.PING, b"x"), last)
    assert opcodes(wire.reads_all()) == [Opcode.PONG]
    assert wire.is_served


def test_a_call_to_read_that_finds_nothing_changes_nothing(wire: Wire) -> None:
    assert wire.reading.callback is not None
    wire.reading.callback()
    assert is_open(wire)


def test_a_connection_ends_as_soon_as_reading_fails(wire: Wire) -> None:
    wire.publish("s1", b"{}")
    wire.peer.close()  # which resets it, as the peer has not read that
    assert wire.reading.callback is not None
    wire.reading.callback()
    assert not wire.is_served


def test_a_frame_that_comes_byte_by_byte_is_understood(wire: Wire) -> None:
    for byte in client(Opcode.TEXT, b"x" * 200) + client(Opcode.PING, b"hello"):
        wire.sends(bytes([byte]))
    assert [(frame.opcode, bytes(frame.data)) for frame in wire.reads_all()] == [
        (Opcode.PONG, b"hello")
    ]


def test_pings_of_a_peer_that_reads_nothing_are_not_piled_up(narrow: Wire) -> None:
    ping = client(Opcode.PING, b"x" * 125)
    for _ in range(100):
        narrow.sends(*[ping] * MAX_CLIENT_FRAMES)
        narrow.tend(0)
    narrow.publish("s1", b"{}")
    frames = narrow.reads_all()
    assert opcodes(frames).count(Opcode.PONG) < 200
    assert messages(frames) == [("s1", {})]


@pytest.mark.parametrize(
    "parts", [[0], [1], [1024], [0, 0, 0], [1000, 24], [1024, 0], [0, 1024], [16] * 64]
)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_messages_of_up_to_1_kib_are_ignored(wire: Wire, opcode: Opcode, parts: list[int]) -> None:
    assert MAX_CLIENT_MESSAGE == 1024
    wire.sends(*fragments(opcode, *(b"x" * part for part in parts)))
    assert is_open(wire)


def test_any_number_of_messages_of_1_kib_is_ignored(wire: Wire) -> None:
    for opcode in (Opcode.TEXT, Opcode.BINARY) * 150:
        wire.sends(client(opcode, b"x" * 1024))
        wire.tend(0)
    assert is_open(wire)


FLOODS = {
    "empty messages": client(Opcode.TEXT),
    "empty fragments": client(Opcode.CONT, fin=False),
    "messages": client(Opcode.BINARY, b"x" * 50),
    "pings": client(Opcode.PING),
    "pongs": client(Opcode.PONG, b"x"),
}


@pytest.mark.parametrize("frame", FLOODS.values(), ids=FLOODS)
def test_more_frames_at_a_time_than_anybody_needs_close_with_1008(wire: Wire, frame: bytes) -> None:
    first = client(Opcode.TEXT, fin=False) if frame == FLOODS["empty fragments"] else frame
    wire.sends(first, *[frame] * (MAX_CLIENT_FRAMES - 1))
    wire.tend(0)
    wire.sends(*[frame] * MAX_CLIENT_FRAMES)
    assert closes(wire.reads_all()) == []
    wire.sends(*[frame] * 10_000)
    frames = wire.reads_all()
    assert close_code(frames) == 1008
    assert opcodes(frames).count(Opcode.PONG) == (
        2 * MAX_CLIENT_FRAMES if frame == FLOODS["pings"] else 0
    )
    wire.tend(CLOSE_SECONDS)  # no longer, whatever else it sends
    wire.let_it_read()
    assert not wire.is_served


def test_whoever_is_told_goodbye_and_floods_is_not_listened_to_any_more(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.sends(*[client(Opcode.TEXT)] * (MAX_CLIENT_FRAMES + 1), client_close(GOING_AWAY))
    assert close_code(wire.reads_all()) == GOING_AWAY
    assert wire.ended and wire.is_served  # its answer was not read
    wire.tend(CLOSE_SECONDS)
    assert not wire.is_served


def test_a_message_that_comes_in_many_pieces_is_one_frame(wire: Wire) -> None:
    for byte in client(Opcode.TEXT, b"x" * 1000):
        wire.sends(bytes([byte]))
    assert is_open(wire)


@pytest.mark.parametrize(
    "parts",
    [[1025], [70_000], [1024, 1], [600, 600], [0, 1025], [16] * 64 + [1], [1000, 1000, 1000]],
)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_message_over_1_kib_closes_with_1009(
    wire: Wire, opcode: Opcode, parts: list[int]
) -> None:
    wire.sends(*fragments(opcode, *(b"x" * part for part in parts)))
    assert close_code(wire.reads_all()) == 1009
    assert wire.is_served  # until the peer has answered
    wire.sends(client_close(1009))
    assert not wire.is_served


def test_whoever_sends_too_long_a_message_is_told_how_long_one_may_be(wire: Wire) -> None:
    wire.sends(client(Opcode.TEXT, b"x" * 1025))
    assert closes(wire.reads_all()) == [Close(1009, "takes at most 1024 bytes")]


@pytest.mark.parametrize("character", ["é", "値", "\N{PILE OF POO}"])
@pytest.mark.parametrize("fragmented", [False, True])
def test_the_size_of_a_text_is_that_of_its_bytes(character: str, fragmented: bool) -> None:
    data = (character * 1024).encode()
    whole = data[: 1024 // len(character.encode()) * len(character.encode())]
    for text, is_too_long in [(whole, False), (whole + character.encode(), True), (data, True)]:
        with closing(Wire()) as wire:
            wire.sends(
                *fragments(Opcode.TEXT, *([text[:501], text[501:]] if fragmented else [text]))
            )
            if is_too_long:
                assert close_code(wire.reads_all()) == 1009
            else:
                assert is_open(wire)


def test_pings_between_fragments_do_not_count(wire: Wire) -> None:
    first, last = fragments(Opcode.TEXT, b"x" * 1000, b"x" * 24)
    wire.sends(first, client(Opcode.PING, b"x" * 125), client(Opcode.PONG, b"x" * 125), last)
    assert opcodes(wire.reads_all()) == [Opcode.PONG]
    assert wire.is_served


def test_a_message_that_would_be_endless_is_not_waited_for(wire: Wire) -> None:
    wire.sends(raw(0x82, b"\xff" + struct.pack("!Q", 2**40), b"x" * 2000))
    assert close_code(wire.reads_all()) == 1009


def test_a_message_over_1_kib_is_read_to_its_end_so_that_the_answer_is_understood(
    wire: Wire,
) -> None:
    wire.sends(
        *fragments(Opcode.BINARY, *[b"x" * 10_000] * 50), client(Opcode.PING), client_close(1009)
    )
    assert close_code(wire.reads_all()) == 1009
    assert not wire.is_served
