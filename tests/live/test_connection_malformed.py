"""What is no WebSocket frame, or not one that a client may send."""

from __future__ import annotations

import struct

import pytest
from websockets.frames import Opcode

from fastx_list.live.connection import CLOSE_SECONDS
from tests.live.wire import (
    Wire,
    client,
    client_close,
    close_code,
    fill,
    fragments,
    is_open,
    opcodes,
    raw,
)

MALFORMED = {
    "a frame without a mask": b"\x81\x01x",
    "the opcode 3": raw(0x83, b"\x80"),
    "the opcode 15": raw(0x8F, b"\x80"),
    "a reserved bit": raw(0xC1, b"\x81", b"x"),
    "another reserved bit": raw(0x91, b"\x81", b"x"),
    "a reserved bit on a ping": raw(0xC9, b"\x80"),
    "a fragmented ping": raw(0x09, b"\x80"),
    "a fragmented close": raw(0x08, b"\x80"),
    "a ping of 126 bytes": raw(0x89, b"\xfe\x00\x7e", b"x" * 126),
    "a length of 125 in two bytes": raw(0x81, b"\xfe\x00\x7d", b"x" * 125),
    "a length of 126 in eight bytes": raw(0x81, b"\xff" + struct.pack("!Q", 126), b"x" * 126),
    "a length of 64 bits": raw(0x81, b"\xff" + struct.pack("!Q", 2**63)),
    "a continuation of nothing": client(Opcode.CONT, b"x"),
    "a message in the midst of another": (
        client(Opcode.TEXT, b"a", fin=False) + client(Opcode.TEXT, b"b")
    ),
    "a close of one byte": client(Opcode.CLOSE, b"\x03"),
    **{
        f"a close with {code}": client_close(code)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_closes_with_1002(wire: Wire, data: bytes) -> None:
    wire.publish("s1", b"{}")
    wire.sends(data)
    frames = wire.reads_all()
    assert opcodes(frames) == [Opcode.TEXT, Opcode.CLOSE]
    assert close_code(frames) == 1002


@pytest.mark.parametrize(
    "data",
    [
        client(Opcode.TEXT, b"\xff"),
        client(Opcode.TEXT, b"\xc3"),
        client(Opcode.TEXT, b"\xed\xa0\x80"),
        client(Opcode.CLOSE, b"\x03\xe8\xff"),
        b"".join(fragments(Opcode.TEXT, b"\xc3", b"x")),
        # The frames have random masks
    ],
    ids=["no character", "half a character", "a surrogate", "a reason", "in fragments"],
)
def test_text_that_is_not_utf8_closes_with_1007(wire: Wire, data: bytes) -> None:
    wire.sends(data)
    assert close_code(wire.reads_all()) == 1007


def test_a_character_may_stand_in_two_fragments(wire: Wire) -> None:
    wire.sends(*fragments(Opcode.TEXT, b"\xc3", b"\xa9"))
    assert is_open(wire)


def test_after_malformed_data_nothing_more_is_understood(wire: Wire) -> None:
    wire.sends(MALFORMED["the opcode 3"])
    wire.sends(client(Opcode.PING, b"x"), client_close(1000))
    wire.publish("s1", b"{}")
    assert close_code(wire.reads_all()) == 1002


def test_after_malformed_data_our_side_of_the_stream_ends_and_the_peer_has_to_end_its_own(
    wire: Wire,
) -> None:
    wire.sends(MALFORMED["the opcode 3"])
    assert close_code(wire.reads_all()) == 1002
    assert wire.ended and wire.is_served
    wire.hangs_up()
    assert not wire.is_served


def test_whoever_sends_malformed_data_without_end_still_learns_what_was_wrong(wire: Wire) -> None:
    # Data that was not read when a socket is closed makes the kernel reset the connection, and the
    # close is lost.
    wire.sends(MALFORMED["the opcode 3"])
    for _ in range(20):
        wire.sends(b"\xff" * 50_000)
    wire.tend(CLOSE_SECONDS)
    wire.let_it_read()
    assert not wire.is_served
    assert close_code(wire.reads_all()) == 1002


@pytest.mark.parametrize("what", ["malformed", "too long"])
def test_a_frame_that_is_partly_out_is_finished_before_a_refusal(narrow: Wire, what: str) -> None:
    fill(narrow)
    narrow.sends(
        MALFORMED["the opcode 3"] if what == "malformed" else client(Opcode.TEXT, b"x" * 2000)
    )
    assert close_code(narrow.reads_all()) == (1002 if what == "malformed" else 1009)
