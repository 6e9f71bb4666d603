"""A connection on a real socket: what its peer gets, whatever the peer does and however slowly.

Everything runs in one thread, as in the sidecar: the test stands in for the event loop and calls
what would be called. So each test decides what happens when, and nothing depends on how long
anything takes. What comes out is parsed by another implementation of the protocol than the one it
was made with.
"""

from __future__ import annotations

import json
import math
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from fastx_list.live.bus import Mailbox
from fastx_list.live.connection import (
    CLOSE_SECONDS,
    MAX_CLIENT_FRAMES,
    MAX_CLIENT_MESSAGE,
    Connection,
)
from fastx_list.live.frames import session_frame
from fastx_list.replica.replica import Change
from fastx_list.replica.view import Entry
from fastx_list.tokens import Claims

INTERVAL = 25.0  # between pings
PATIENCE = 60.0  # with a socket that takes nothing
GOING_AWAY = 1001


class Watching:
    """In place of a watcher of libev: remembers whom to call."""

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None
        self.starts = 0

    def start(self, callback: Callable[[], None]) -> None:
        assert self.callback is None, "it is started already"
        self.callback = callback
        self.starts += 1

    def stop(self) -> None:
        self.callback = None

    close = stop


class Wire:
    """A connection and its peer; the names of methods say what the peer does."""

    def __init__(self, send_buffer: int = 0) -> None:
        self.ours, self.peer = socket.socketpair()
        if send_buffer:
            self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.ours.setblocking(False)
        self.peer.setblocking(False)
        self.now = 1000.0
        self.patience = PATIENCE
        self.reading, self.watching = Watching(), Watching()
        self.mailbox = Mailbox()
        self.sessions: dict[str, Entry | None] = {}
        self.received = bytearray()
        self.ended = False  # whether the peer has read the end of the stream
        self.is_served = True
        claims = Claims("alice", 2**40, "jti", False)
        self.connection = Connection(
            self.ours, claims, self.mailbox, "alice", self, self._end, lambda: self.now
        )

    def io(self, fd: int, events: int) -> Watching:
        """Stand in for the loop."""
        assert fd == self.ours.fileno()
        return {1: self.reading, 2: self.watching}[events]

    def _end(self, connection: Connection) -> None:
        assert connection is self.connection and self.is_served, "it ends but once"
        self.is_served = False

    def let_it_read(self) -> None:
        while self.reading.callback is not None and select.select([self.ours], [], [], 0)[0]:
            self.reading.callback()

    def sends(self, *frames: bytes) -> None:
        data = memoryview(b"".join(frames))
        while data and self.is_served:
            try:
                data = data[self.peer.send(data) :]
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass
            self.let_it_read()

    def reads(self, size: int = 1 << 20) -> int:
        """Read what is there, up to ``size`` bytes; return how many there were."""
        try:
            data = self.peer.recv(size)
        except BlockingIOError:
            return 0
        except ConnectionResetError:
            data = b""
        self.ended = self.ended or not data
        self.received += data
        return len(data)

    def lets_it_write(self) -> None:
        """Call back who waits for the socket to take more, if it does."""
        if self.watching.callback is not None and select.select([], [self.ours], [], 0)[1]:
            self.watching.callback()

    def reads_all(self) -> list[Frame]:
        """Read until nothing more comes, and return all that has ever come."""
        while self.reads() or (self.watching.callback is not None and not self.ended):
            self.lets_it_write()
        self.reads()
        return parse(bytes(self.received))

    def put(self, session_id: str, text: bytes | None) -> None:
        """Note a change of a session, as the bus does before it flushes."""
        entry = None if text is None else Entry(session_id, "alice", text)
        self.mailbox.put(
            Change(session_id, "alice", entry, self.sessions.get(session_id)),
            session_frame(session_id, None),
        )
        self.sessions[session_id] = entry

    def publish(self, session_id: str, text: bytes | None) -> None:
        self.put(session_id, text)
        self.connection.flush()

    def tend(self, seconds: float) -> bool:
        self.now += seconds
        return self.connection.tend(self.now, INTERVAL, self.patience)

    def hangs_up(self) -> None:
        self.peer.close()
        self.let_it_read()

    def close(self) -> None:
        self.hangs_up()
        assert not self.is_served, "it goes on although there is nobody any more"
        assert (
            self.ours.fileno() == -1
            and self.reading.callback is None
            and self.watching.callback is None
        )


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A wire that takes at once what a test is likely to send."""
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
def narrow() -> Iterator[Wire]:
    """A wire that holds a few KiB."""
    wire = Wire(send_buffer=1)
    yield wire
    wire.close()


def parse(data: bytes) -> list[Frame]:
    """Return the frames that ``data`` is; fails unless they are well-formed, whole, and nothing
    follows a close."""
    stream = StreamReader()
    frames: list[Frame] = []
    stream.feed_data(data)
    while stream.buffer:
        assert not frames or frames[-1].opcode is not Opcode.CLOSE, (
            f"sent after the close: {bytes(stream.buffer)!r}"
        )
        try:
            next(Frame.parse(stream.read_exact, mask=False))
        except StopIteration as end:
            frames.append(end.value)
        else:
            raise AssertionError(f"torn after {len(frames)} frames")
    return frames


def _messages(frames: Sequence[Frame]) -> list[tuple[str, Any]]:
    """Return the published messages among ``frames``, as pairs of id and data."""
    texts = [json.loads(bytes(frame.data)) for frame in frames if frame.opcode is Opcode.TEXT]
    return [(text["id"], text["data"]) for text in texts]


def _closes(frames: Sequence[Frame]) -> list[Close]:
    return [Close.parse(frame.data) for frame in frames if frame.opcode is Opcode.CLOSE]


def _close_code(frames: Sequence[Frame]) -> int:
    """Return the code of the one close frame, which is the last."""
    closes = _closes(frames)
    assert len(closes) == 1
    assert frames[-1].opcode is Opcode.CLOSE
    return int(closes[0].code)


def _opcodes(frames: Sequence[Frame]) -> list[Opcode]:
    return [frame.opcode for frame in frames]


def client(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    """Return a frame as a client sends it."""
    return Frame(opcode, data, fin).serialize(mask=True)


def client_close(code: int | None, reason: str = "") -> bytes:
    return client(Opcode.CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def raw(first: int, length: bytes, payload: bytes = b"", mask: bytes = b"\0\0\0\0") -> bytes:
    """Return a frame of these bytes, however wrong it is. The mask is one that changes nothing."""
    return bytes([first]) + length + mask + payload


def _fragments(opcode: Opcode, *parts: bytes) -> list[bytes]:
    last = len(parts) - 1
    return [
        client(Opcode.CONT if number else opcode, part, number == last)
        for number, part in enumerate(parts)
    ]


def _text(size: int, **members: Any) -> bytes:
    return json.dumps({**members, "x": "x" * size}).encode()


def _fill(wire: Wire, sessions: int = 300, size: int = 1000) -> None:
    """Publish more than the wire holds, to a peer that reads nothing."""
    for number in range(sessions):
        wire.publish(f"s{number}", _text(size))
    assert wire.watching.callback is not None


# What goes out.


def test_it_sends_what_is_in_the_mailbox_and_waits_for_nothing(wire: Wire) -> None:
    wire.put("s2", b'{"a":1}')
    wire.put("s1", None)
    wire.connection.flush()
    assert _messages(wire.reads_all()) == [("s2", {"a": 1}), ("s1", None)]
    assert wire.watching.starts == 0


def test_flushing_an_empty_mailbox_sends_nothing(wire: Wire) -> None:
    wire.connection.flush()
    assert wire.reads_all() == []


def test_it_sends_more_frames_than_fit_into_one_write(wire: Wire) -> None:
    for number in range(500):
        wire.put(f"s{number}", b"{}")
    wire.connection.flush()
    assert _messages(wire.reads_all()) == [(f"s{number}", {}) for number in range(500)]


def test_it_waits_for_a_full_socket_and_then_goes_on(narrow: Wire) -> None:
    _fill(narrow, 20)
    assert narrow.watching.starts == 1
    assert [name for name, _ in _messages(narrow.reads_all())] == [
        f"s{number}" for number in range(20)
    ]
    assert narrow.watching.callback is None


def test_it_stops_watching_when_everything_is_out_and_starts_again_when_need_be(
    narrow: Wire,
) -> None:
    for _ in range(3):
        _fill(narrow, 20)
        narrow.reads_all()
        assert narrow.watching.callback is None
    assert narrow.watching.starts >= 3
    assert len(narrow.reads_all()) == 60


def test_a_frame_bigger_than_the_socket_holds_arrives(narrow: Wire) -> None:
    narrow.publish("s1", _text(300_000))
    assert _messages(narrow.reads_all()) == [("s1", {"x": "x" * 300_000})]


def test_a_reader_that_reads_nothing_costs_one_frame_a_session(narrow: Wire) -> None:
    for number in range(2000):
        narrow.publish(f"s{number % 100}", _text(100, number=number))
    messages = _messages(narrow.reads_all())
    # What was taken out of the mailbox before the socket was full, and then one newest state of
    # each.
    assert len(messages) < 300
    assert {name: data["number"] for name, data in messages} == {
        f"s{number % 100}": number for number in range(1900, 2000)
    }


def test_what_waits_for_a_slow_reader_is_the_newest_state(narrow: Wire) -> None:
    for state in (1, 2):
        for number in range(500):
            narrow.put(f"s{number}", _text(100, state=state))
        narrow.connection.flush()
    states = [data["state"] for _, data in _messages(narrow.reads_all())]
    assert states.count(2) == 500
    assert states.count(1) < 200  # no more than the socket held and one write was going to take


def test_a_peer_that_has_gone_is_noticed_and_nothing_is_sent_to_it(wire: Wire) -> None:
    wire.peer.close()
    wire.publish("s1", b"{}")
    wire.publish("s2", b"{}")
    wire.let_it_read()
    assert not wire.is_served
    assert wire.watching.callback is None


def test_a_peer_that_goes_while_it_is_waited_for_is_not_waited_for_any_longer(narrow: Wire) -> None:
    _fill(narrow)
    narrow.hangs_up()
    assert not narrow.is_served
    assert narrow.watching.callback is None


def test_nothing_is_sent_on_a_dropped_connection(wire: Wire) -> None:
    wire.connection.drop()
    wire.publish("s1", b"{}")
    wire.tend(INTERVAL)
    wire.connection.close(GOING_AWAY, "")
    wire.let_it_read()
    assert not wire.is_served
    assert wire.reads_all() == []
    assert wire.ended


def test_dropping_twice_does_no_harm(narrow: Wire) -> None:
    _fill(narrow)
    narrow.connection.drop()
    narrow.connection.drop()
    narrow.let_it_read()
    assert not narrow.is_served


# The end.


def test_a_close_says_its_code_and_reason(wire: Wire) -> None:
    wire.connection.close(4401, "the token has expired")
    assert _closes(wire.reads_all()) == [Close(4401, "the token has expired")]


def test_what_is_out_before_the_close_arrives_before_it(wire: Wire) -> None:
    wire.publish("s1", b"{}")
    wire.connection.close(GOING_AWAY, "")
    assert _opcodes(wire.reads_all()) == [Opcode.TEXT, Opcode.CLOSE]


def test_nothing_is_sent_after_a_close(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.publish("s1", b"{}")
    wire.sends(client(Opcode.PING, b"x"), client(Opcode.TEXT, b"x" * 2000))
    wire.tend(INTERVAL)
    wire.connection.close(4401, "")
    assert _close_code(wire.reads_all()) == GOING_AWAY


def test_a_frame_that_is_partly_out_is_finished_before_the_close(narrow: Wire) -> None:
    big = _text(100_000)
    narrow.publish("s1", big)
    assert narrow.watching.callback is not None
    narrow.publish("s2", b"{}")
    narrow.connection.close(GOING_AWAY, "")
    narrow.publish("s3", b"{}")
    frames = narrow.reads_all()
    assert _messages(frames) == [("s1", json.loads(big))]  # what stood behind it is obsolete
    assert _close_code(frames) == GOING_AWAY


@pytest.mark.parametrize("seed", range(10))
def test_a_close_to_a_full_socket_waits_for_its_turn(seed: int) -> None:
    choose = random.Random(seed)
    with closing(Wire(send_buffer=choose.choice([1, 3000, 9000]))) as wire:
        _fill(wire, choose.randint(30, 100), choose.randint(500, 3000))
        for _ in range(choose.randint(0, 20)):
            wire.reads(choose.randint(1, 5000))
            wire.lets_it_write()
        wire.connection.close(GOING_AWAY, "the server restarts")
        assert _close_code(wire.reads_all()) == GOING_AWAY


def test_the_peers_answer_to_a_close_ends_the_connection_at_once(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.sends(client_close(GOING_AWAY))
    assert not wire.is_served
    assert _close_code(wire.reads_all()) == GOING_AWAY
    assert wire.ended


def test_a_peer_that_does_not_answer_a_close_is_dropped(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.tend(CLOSE_SECONDS - 0.1)
    wire.let_it_read()
    assert wire.is_served
    wire.tend(0.1)
    wire.let_it_read()
    assert not wire.is_served
    assert _close_code(wire.reads_all()) == GOING_AWAY
    assert wire.ended


def test_a_second_close_does_not_give_the_peer_more_time(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.tend(CLOSE_SECONDS / 2)
    wire.connection.close(4401, "")
    wire.tend(CLOSE_SECONDS / 2)
    wire.let_it_read()
    assert not wire.is_served


def test_a_peer_that_talks_on_instead_of_answering_a_close_is_dropped(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    for _ in range(20):
        wire.sends(client(Opcode.TEXT, b"x"), client(Opcode.PING), client(Opcode.PONG))
        wire.tend(CLOSE_SECONDS / 10)
    wire.let_it_read()
    assert not wire.is_served


def test_a_peer_that_does_not_even_read_the_close_is_dropped(narrow: Wire) -> None:
    _fill(narrow)
    narrow.connection.close(GOING_AWAY, "")
    narrow.tend(CLOSE_SECONDS)
    narrow.let_it_read()
    assert not narrow.is_served
    assert narrow.watching.callback is None


# RFC 6455 section 5.5.1: a close is answered with its own code. One without a code reads as 1005,
# which may not be sent.
@pytest.mark.parametrize(
    ("code", "answer"),
    [(1000, 1000), (1001, 1001), (1011, 1011), (3000, 3000), (4999, 4999), (None, 1000)],
)
def test_a_clients_close_is_answered_and_the_connection_ends(
    wire: Wire, code: int | None, answer: int
) -> None:
    wire.sends(client_close(code))
    assert not wire.is_served  # at once: RFC 6455 section 7.1.1 has the server close first
    assert _close_code(wire.reads_all()) == answer
    assert wire.ended


def test_a_clients_close_may_have_a_reason(wire: Wire) -> None:
    wire.sends(client_close(1000, "żółw" * 10))
    assert _close_code(wire.reads_all()) == 1000


def test_what_a_client_sends_after_its_close_is_ignored(wire: Wire) -> None:
    wire.sends(client_close(1000) + client(Opcode.PING, b"x") + client_close(1001) + b"\xff\xff")
    assert _close_code(wire.reads_all()) == 1000


def test_a_clients_close_is_answered_also_when_the_socket_is_full(narrow: Wire) -> None:
    narrow.publish("s1", _text(100_000))
    assert narrow.watching.callback is not None
    narrow.sends(client_close(1000))
    frames = narrow.reads_all()
    assert [name for name, _ in _messages(frames)] == ["s1"]
    assert _close_code(frames) == 1000
    # Here, too, it is the server that hangs up when all is out, and it does not wait for anything
    # more.
    narrow.let_it_read()
    narrow.reads()
    assert narrow.ended
    assert not narrow.is_served


def test_a_client_that_closes_and_then_reads_nothing_is_dropped(narrow: Wire) -> None:
    _fill(narrow)
    narrow.sends(client_close(1000))
    narrow.tend(CLOSE_SECONDS)
    narrow.let_it_read()
    assert not narrow.is_served


def test_a_client_that_hangs_up_without_a_word_is_no_longer_served(wire: Wire) -> None:
    wire.hangs_up()
    assert not wire.is_served


# What comes in.


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
    first, last = _fragments(Opcode.TEXT, b"a", b"b")
    wire.sends(first, client(Opcode.PING, b"x"), last)
    assert _opcodes(wire.reads_all()) == [Opcode.PONG]
    assert wire.is_served


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
    assert _opcodes(frames).count(Opcode.PONG) < 200
    assert _messages(frames) == [("s1", {})]


def _is_open(wire: Wire) -> bool:
    """Whether the connection goes on, and has said nothing yet."""
    before = wire.reads_all()
    wire.sends(client(Opcode.PING, b"are you there?"))
    return wire.is_served and before == [] and _opcodes(wire.reads_all()) == [Opcode.PONG]


@pytest.mark.parametrize(
    "parts", [[0], [1], [1024], [0, 0, 0], [1000, 24], [1024, 0], [0, 1024], [16] * 64]
)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_messages_of_up_to_1_kib_are_ignored(wire: Wire, opcode: Opcode, parts: list[int]) -> None:
    assert MAX_CLIENT_MESSAGE == 1024
    wire.sends(*_fragments(opcode, *(b"x" * part for part in parts)))
    assert _is_open(wire)


def test_any_number_of_messages_of_1_kib_is_ignored(wire: Wire) -> None:
    for opcode in (Opcode.TEXT, Opcode.BINARY) * 150:
        wire.sends(client(opcode, b"x" * 1024))
        wire.tend(0)
    assert _is_open(wire)


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
    assert _closes(wire.reads_all()) == []
    wire.sends(*[frame] * 10_000)
    frames = wire.reads_all()
    assert _close_code(frames) == 1008
    assert _opcodes(frames).count(Opcode.PONG) == (
        2 * MAX_CLIENT_FRAMES if frame == FLOODS["pings"] else 0
    )
    wire.tend(CLOSE_SECONDS)  # no longer, whatever else it sends
    wire.let_it_read()
    assert not wire.is_served


def test_whoever_is_told_goodbye_and_floods_is_not_listened_to_any_more(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.sends(*[client(Opcode.TEXT)] * (MAX_CLIENT_FRAMES + 1), client_close(GOING_AWAY))
    assert _close_code(wire.reads_all()) == GOING_AWAY
    assert wire.ended and wire.is_served  # its answer was not read
    wire.tend(CLOSE_SECONDS)
    assert not wire.is_served


def test_a_message_that_comes_in_many_pieces_is_one_frame(wire: Wire) -> None:
    for byte in client(Opcode.TEXT, b"x" * 1000):
        wire.sends(bytes([byte]))
    assert _is_open(wire)


@pytest.mark.parametrize(
    "parts",
    [[1025], [70_000], [1024, 1], [600, 600], [0, 1025], [16] * 64 + [1], [1000, 1000, 1000]],
)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_message_over_1_kib_closes_with_1009(
    wire: Wire, opcode: Opcode, parts: list[int]
) -> None:
    wire.sends(*_fragments(opcode, *(b"x" * part for part in parts)))
    assert _close_code(wire.reads_all()) == 1009
    assert wire.is_served  # until the peer has answered
    wire.sends(client_close(1009))
    assert not wire.is_served


@pytest.mark.parametrize("character", ["é", "値", "\N{PILE OF POO}"])
@pytest.mark.parametrize("fragmented", [False, True])
def test_the_size_of_a_text_is_that_of_its_bytes(character: str, fragmented: bool) -> None:
    data = (character * 1024).encode()
    whole = data[: 1024 // len(character.encode()) * len(character.encode())]
    for text, is_too_long in [(whole, False), (whole + character.encode(), True), (data, True)]:
        with closing(Wire()) as wire:
            wire.sends(
                *_fragments(Opcode.TEXT, *([text[:501], text[501:]] if fragmented else [text]))
            )
            if is_too_long:
                assert _close_code(wire.reads_all()) == 1009
            else:
                assert _is_open(wire)


def test_pings_between_fragments_do_not_count(wire: Wire) -> None:
    first, last = _fragments(Opcode.TEXT, b"x" * 1000, b"x" * 24)
    wire.sends(first, client(Opcode.PING, b"x" * 125), client(Opcode.PONG, b"x" * 125), last)
    assert _opcodes(wire.reads_all()) == [Opcode.PONG]
    assert wire.is_served


def test_a_message_that_would_be_endless_is_not_waited_for(wire: Wire) -> None:
    wire.sends(raw(0x82, b"\xff" + struct.pack("!Q", 2**40), b"x" * 2000))
    assert _close_code(wire.reads_all()) == 1009


def test_a_message_over_1_kib_is_read_to_its_end_so_that_the_answer_is_understood(
    wire: Wire,
) -> None:
    wire.sends(
        *_fragments(Opcode.BINARY, *[b"x" * 10_000] * 50), client(Opcode.PING), client_close(1009)
    )
    assert _close_code(wire.reads_all()) == 1009
    assert not wire.is_served


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
    assert _opcodes(frames) == [Opcode.TEXT, Opcode.CLOSE]
    assert _close_code(frames) == 1002


@pytest.mark.parametrize(
    "data",
    [
        client(Opcode.TEXT, b"\xff"),
        client(Opcode.TEXT, b"\xc3"),
        client(Opcode.TEXT, b"\xed\xa0\x80"),
        client(Opcode.CLOSE, b"\x03\xe8\xff"),
        b"".join(_fragments(Opcode.TEXT, b"\xc3", b"x")),
        # The frames have random masks
    ],
    ids=["no character", "half a character", "a surrogate", "a reason", "in fragments"],
)
def test_text_that_is_not_utf8_closes_with_1007(wire: Wire, data: bytes) -> None:
    wire.sends(data)
    assert _close_code(wire.reads_all()) == 1007


def test_a_character_may_stand_in_two_fragments(wire: Wire) -> None:
    wire.sends(*_fragments(Opcode.TEXT, b"\xc3", b"\xa9"))
    assert _is_open(wire)


def test_after_malformed_data_nothing_more_is_understood(wire: Wire) -> None:
    wire.sends(MALFORMED["the opcode 3"])
    wire.sends(client(Opcode.PING, b"x"), client_close(1000))
    wire.publish("s1", b"{}")
    assert _close_code(wire.reads_all()) == 1002


def test_whoever_sends_malformed_data_without_end_still_learns_what_was_wrong(wire: Wire) -> None:
    # Data that was not read when a socket is closed makes the kernel reset the connection, and the
    # close is lost.
    wire.sends(MALFORMED["the opcode 3"])
    for _ in range(20):
        wire.sends(b"\xff" * 50_000)
    wire.tend(CLOSE_SECONDS)
    wire.let_it_read()
    assert not wire.is_served
    assert _close_code(wire.reads_all()) == 1002


@pytest.mark.parametrize("what", ["malformed", "too long"])
def test_a_frame_that_is_partly_out_is_finished_before_a_refusal(narrow: Wire, what: str) -> None:
    _fill(narrow)
    narrow.sends(
        MALFORMED["the opcode 3"] if what == "malformed" else client(Opcode.TEXT, b"x" * 2000)
    )
    assert _close_code(narrow.reads_all()) == (1002 if what == "malformed" else 1009)


# Pings.


def test_it_pings_when_it_is_time_and_not_before(wire: Wire) -> None:
    wire.tend(INTERVAL - 1)
    assert wire.reads_all() == []
    wire.tend(1)
    assert _opcodes(wire.reads_all()) == [Opcode.PING]
    wire.tend(1)
    assert _opcodes(wire.reads_all()) == [Opcode.PING]


def test_a_peer_that_answers_pings_stays(wire: Wire) -> None:
    for number in range(1, 6):
        wire.tend(INTERVAL)
        frames = wire.reads_all()
        assert _opcodes(frames) == [Opcode.PING] * number
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
    assert _opcodes(wire.reads_all()) == [Opcode.PING]
    assert wire.ended


def test_a_peer_that_stops_answering_is_dropped(wire: Wire) -> None:
    wire.tend(INTERVAL)
    wire.sends(client(Opcode.PONG))
    wire.tend(INTERVAL)
    wire.tend(INTERVAL)
    wire.let_it_read()
    assert not wire.is_served


def test_a_reader_that_reads_nothing_is_given_its_time_and_then_dropped(narrow: Wire) -> None:
    _fill(narrow)
    for _ in range(int(PATIENCE) - 1):  # the whole of it, although it answers no ping
        assert not narrow.tend(1) and narrow.is_served
    narrow.publish("s1", _text(1000))  # what it is owed meanwhile does not count as reading
    assert narrow.tend(1) and not narrow.is_served
    assert narrow.watching.callback is None
    assert not narrow.tend(0)


def test_a_slow_reader_that_reads_now_and_then_stays_although_no_ping_comes_to_it(
    narrow: Wire,
) -> None:
    _fill(narrow)
    for _ in range(10):
        assert not narrow.tend(PATIENCE * 0.9)
        while not narrow.reads(100_000):
            pass
        narrow.lets_it_write()
        assert narrow.watching.callback is not None
    assert narrow.is_served


def test_a_ping_that_waited_behind_the_rest_does_not_count(narrow: Wire) -> None:
    narrow.tend(INTERVAL)
    _fill(narrow)
    narrow.tend(PATIENCE / 2)
    assert _opcodes(narrow.reads_all()).count(Opcode.PING) == 1
    narrow.tend(INTERVAL - 1)
    assert _opcodes(narrow.reads_all()).count(Opcode.PING) == 1
    narrow.tend(1)
    assert _opcodes(narrow.reads_all()).count(Opcode.PING) == 2
    narrow.tend(INTERVAL)  # now it has had the time to answer
    narrow.let_it_read()
    assert not narrow.is_served


def test_one_that_has_read_all_may_be_idle_for_as_long_as_it_likes(narrow: Wire) -> None:
    _fill(narrow)
    narrow.reads_all()
    narrow.sends(client(Opcode.PONG))
    assert not narrow.tend(PATIENCE) and narrow.is_served


def test_a_connection_that_is_closing_is_not_pinged(wire: Wire) -> None:
    wire.now += INTERVAL
    wire.connection.close(GOING_AWAY, "")
    wire.tend(0)
    assert _opcodes(wire.reads_all()) == [Opcode.CLOSE]


def test_a_pong_that_nobody_asked_for_is_ignored(wire: Wire) -> None:
    wire.sends(client(Opcode.PONG, b"x"))
    assert _is_open(wire)


# Everything at once.


@pytest.mark.parametrize("seed", range(40))
def test_no_frame_is_ever_torn_whoever_writes_and_however_the_peer_reads(seed: int) -> None:
    choose = random.Random(seed)
    with closing(Wire(send_buffer=choose.choice([1, 2500, 6000, 20_000]))) as wire:
        _scribble(wire, choose)


def _scribble(wire: Wire, choose: random.Random) -> None:
    wire.patience = math.inf  # the clock here is for pings
    sizes = choose.choice([(0, 100), (0, 3000), (60_000, 70_000)])
    latest: dict[str, Any] = {}
    pings: list[bytes] = []
    ends = choose.choice(["stays", "server closes", "client closes", "client sends too much"])
    for step in range(400):
        action = choose.choice(
            ["publish", "publish", "reads", "reads", "writable", "ping", "tend", "talk"]
        )
        if action == "publish":
            for _ in range(choose.randint(1, 5)):
                name, text = (
                    f"s{choose.randint(0, 20)}",
                    choose.choice([None, _text(choose.randint(*sizes), step=step)]),
                )
                latest[name] = text and json.loads(text)
                wire.put(name, text)
            wire.connection.flush()
        elif action == "reads":
            wire.reads(choose.randint(1, 5000))
        elif action == "writable":
            wire.lets_it_write()
        elif action == "ping":
            pings.append(choose.randbytes(choose.randint(0, 125)))
            wire.sends(client(Opcode.PING, pings[-1]))
        elif action == "tend":
            wire.sends(client(Opcode.PONG))  # whoever reads slowly is not dead
            wire.tend(INTERVAL)
        else:
            wire.sends(
                *_fragments(choose.choice([Opcode.TEXT, Opcode.BINARY]), b"x" * 500, b"x" * 500)
            )
    assert wire.is_served
    if ends == "server closes":
        wire.connection.close(GOING_AWAY, "the server restarts")
    elif ends == "client closes":
        wire.sends(client_close(1000))
    elif ends == "client sends too much":
        wire.sends(client(Opcode.BINARY, b"x" * 5000))
    for _ in range(100):
        wire.reads(choose.randint(1, 5000))
        wire.lets_it_write()
        wire.connection.flush()
    frames = wire.reads_all()
    assert set(_opcodes(frames)) <= {Opcode.TEXT, Opcode.PING, Opcode.PONG, Opcode.CLOSE}
    answers = iter(pings)
    # In order; some may be left out
    assert all(bytes(frame.data) in answers for frame in frames if frame.opcode is Opcode.PONG)
    if ends == "stays":
        there = {name: data for name, data in latest.items() if data is not None}
        assert {
            name: data for name, data in dict(_messages(frames)).items() if data is not None
        } == there
    else:
        assert (
            _close_code(frames)
            == {"server closes": GOING_AWAY, "client closes": 1000, "client sends too much": 1009}[
                ends
            ]
        )


_OPCODES = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG])
_FRAMES = st.builds(client, _OPCODES, st.binary(max_size=125), st.just(True)) | st.builds(
    client,
    st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
    st.binary(max_size=2000),
    st.booleans(),
)
_CLOSES = st.builds(client_close, st.none() | st.integers(0, 0xFFFF), st.text(max_size=20))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    pieces=st.lists(_FRAMES | _FRAMES | _CLOSES | st.binary(max_size=50), max_size=10),
    cut=st.integers(1, 300),
)
def test_whatever_a_client_sends_is_answered_with_whole_frames(
    pieces: list[bytes], cut: int
) -> None:
    with closing(Wire()) as wire:
        data = b"".join(pieces)
        wire.publish("s1", b"{}")
        for start in range(0, len(data), cut):
            wire.sends(data[start : start + cut])
        wire.publish("s2", b"{}")
        frames = wire.reads_all()
        assert set(_opcodes(frames)) <= {Opcode.TEXT, Opcode.PONG, Opcode.CLOSE}
        names = [name for name, _ in _messages(frames)]
        assert names == (["s1"] if _closes(frames) else ["s1", "s2"])
        assert all(
            close.code in (1000, 1002, 1007, 1009) or close.code in range(1000, 5000)
            for close in _closes(frames)
        )
