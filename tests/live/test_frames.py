"""The frames, as a parser says that is not the one they were made with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from fastx_list.live.frames import FramedEntry, close_frame, ping_frame, pong_frame, session_frame


def _parse(data: bytes) -> Frame:
    """Return the one whole frame that ``data`` is."""
    stream = StreamReader()
    stream.feed_data(data)
    try:
        next(Frame.parse(stream.read_exact, mask=False))
    except StopIteration as end:
        assert bytes(stream.buffer) == b"", "there is something behind the frame"
        frame: Frame = end.value
        return frame
    raise AssertionError("the frame is not whole")


def _message(data: bytes) -> Any:
    frame = _parse(data)
    assert (frame.opcode, frame.fin, frame.rsv1, frame.rsv2, frame.rsv3) == (
        Opcode.TEXT,
        True,
        False,
        False,
        False,
    )
    return json.loads(bytes(frame.data))


def test_a_session_frame_is_the_published_message() -> None:
    assert _message(session_frame("s1", b'{"id":"s1","clients":2}')) == {
        "id": "s1",
        "data": {"id": "s1", "clients": 2},
    }


def test_a_session_that_has_ended_has_null_for_data() -> None:
    assert _message(session_frame("s1", None)) == {"id": "s1", "data": None}


@pytest.mark.parametrize(
    "session_id", ["", 'a"b', "a\\b", "ünï", "\N{PILE OF POO}", "\0\n\x7f", "</script>"]
)
def test_any_id_is_sent_as_it_is(session_id: str) -> None:
    assert _message(session_frame(session_id, b"{}")) == {"id": session_id, "data": {}}
    assert _message(session_frame(session_id, None)) == {"id": session_id, "data": None}


def test_text_of_any_script_is_sent_as_it_is() -> None:
    members = {"command": "żółw \N{PILE OF POO} \u2028"}
    text = json.dumps(members, ensure_ascii=False).encode()
    assert _message(session_frame("s1", text)) == {"id": "s1", "data": members}


def test_the_frame_of_an_entry_is_made_once() -> None:
    entry = FramedEntry("s1", "alice", b'{"id":"s1"}')
    assert entry.frame is entry.frame
    assert entry.frame == session_frame("s1", entry.text)


# RFC 6455 section 5.2: up to 125 bytes the length has one byte, up to 65535 two more, then eight.
@pytest.mark.parametrize("character", ["x", "é"])
@pytest.mark.parametrize(
    ("size", "header"),
    [
        (124, 2),
        (125, 2),
        (126, 4),
        (127, 4),
        (65534, 4),
        (65535, 4),
        (65536, 10),
        (65537, 10),
        (200_000, 10),
    ],
)
def test_frames_of_any_size_can_be_read(size: int, header: int, character: str) -> None:
    room = size - len('{"id":"s1","data":{"x":""}}')
    filling = character * (room // len(character.encode())) + "x" * (room % len(character.encode()))
    frame = session_frame(
        "s1", json.dumps({"x": filling}, ensure_ascii=False, separators=(",", ":")).encode()
    )
    assert len(_parse(frame).data) == size
    assert len(frame) == header + size
    assert _message(frame) == {"id": "s1", "data": {"x": filling}}


def test_a_frame_does_not_depend_on_those_made_before_it() -> None:
    first = [session_frame("s1", b"{}"), ping_frame(), pong_frame(b"x"), close_frame(1000)]
    assert [session_frame("s1", b"{}"), ping_frame(), pong_frame(b"x"), close_frame(1000)] == first


@pytest.mark.parametrize("reason", ["", "the token has expired", "żółw"])
@pytest.mark.parametrize("code", [1000, 1001, 1002, 1007, 1009, 3000, 4401, 4999])
def test_a_close_frame_has_its_code_and_reason(code: int, reason: str) -> None:
    frame = _parse(close_frame(code, reason))
    assert frame.opcode is Opcode.CLOSE
    assert Close.parse(frame.data) == Close(code, reason)


@pytest.mark.parametrize("character", ["x", "é", "\N{PILE OF POO}"])
def test_a_reason_that_is_too_long_is_cut_between_two_characters(character: str) -> None:
    frame = _parse(close_frame(1001, character * 200))
    assert 122 <= len(frame.data) <= 125  # RFC 6455 section 5.5
    reason = Close.parse(frame.data).reason
    assert reason == character * len(reason)


def test_a_ping_is_a_ping() -> None:
    frame = _parse(ping_frame())
    assert (frame.opcode, bytes(frame.data)) == (Opcode.PING, b"")


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
def test_a_pong_has_the_pings_payload(payload: bytes) -> None:
    frame = _parse(pong_frame(payload))
    assert (frame.opcode, bytes(frame.data)) == (Opcode.PONG, payload)
