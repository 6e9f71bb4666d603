"""A connection and its peer on a real socket.

Everything runs in one thread, as in the sidecar: the test stands in for the event loop and calls
what would be called. So each test decides what happens when, and nothing depends on how long
anything takes. What comes out is parsed by another implementation of the protocol than the one it
was made with.
"""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from websockets.extensions.base import Extension
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from fastx_list.api.arrival import Patience
from fastx_list.live.bus import News, Told
from fastx_list.live.connection import Connection
from fastx_list.live.frames import FramedEntry, session_frame
from fastx_list.tokens import Claims

INTERVAL = 25.0  # between pings
PATIENCE = 60.0  # with a socket that takes nothing
GOING_AWAY = 1001


class Watching:
    """In place of a watcher of libev: remembers whom to call."""

    def __init__(self) -> None:
        self.callback: Callable[[], object] | None = None
        self.starts = 0

    def start(self, callback: Callable[[], object]) -> None:
        assert self.callback is None, "it is started already"
        self.callback = callback
        self.starts += 1

    def stop(self) -> None:
        self.callback = None

    close = stop


class Time(Patience):
    """Passes when a test says so, while somebody looks after the connection."""

    def now(self) -> float:
        return self._clock()

    def unseen(self) -> float:
        return 0.0


class Wire:
    """A connection and its peer; the names of methods say what the peer does."""

    def __init__(
        self,
        send_buffer: int = 0,
        pair: tuple[socket.socket, socket.socket] | None = None,
        inflates: bool = False,
    ) -> None:
        self.ours, self.peer = pair or socket.socketpair()
        if send_buffer:
            self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.ours.setblocking(False)
        self.peer.setblocking(False)
        self.now = 1000.0
        self.patience = PATIENCE
        self.reading, self.watching = Watching(), Watching()
        self.changes: list[Told] = []
        self.sessions: dict[str, FramedEntry | None] = {}
        self.received = bytearray()
        self.ended = False  # whether the peer has read the end of the stream
        self.is_served = True
        claims = Claims("alice", 2**40, "jti", False)
        self.connection = Connection(
            self.ours, claims, (), "alice", self, self._end, inflates, Time(lambda: self.now)
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

    def reads_all(self, *extensions: Extension) -> list[Frame]:
        """Read until nothing more comes, and return all that has ever come."""
        while self.reads() or (self.watching.callback is not None and not self.ended):
            self.lets_it_write()
        self.reads()
        return parse(bytes(self.received), extensions)

    def put(self, session_id: str, text: bytes | None) -> None:
        """Note a change of a session, for the next :meth:`tell`."""
        entry = None if text is None else FramedEntry(session_id, "alice", text)
        is_known = entry is None or self.sessions.get(session_id) is not None
        state = entry or session_frame(session_id, None)
        self.changes.append(Told(session_id, state, is_known))
        self.sessions[session_id] = entry

    def tell(self) -> None:
        """Tell of all changes that were noted."""
        news, self.changes = News(self.changes), []
        self.connection.tell(news)

    def publish(self, session_id: str, text: bytes | None) -> None:
        self.put(session_id, text)
        self.tell()

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


def parse(data: bytes, extensions: Sequence[Extension] = ()) -> list[Frame]:
    """Return the frames that ``data`` is, as ``extensions`` read them; fails unless they are
    well-formed, whole, and nothing follows a close."""
    stream = StreamReader()
    frames: list[Frame] = []
    stream.feed_data(data)
    while stream.buffer:
        assert not frames or frames[-1].opcode is not Opcode.CLOSE, (
            f"sent after the close: {bytes(stream.buffer)!r}"
        )
        try:
            next(Frame.parse(stream.read_exact, mask=False, extensions=extensions))
        except StopIteration as end:
            frames.append(end.value)
        else:
            raise AssertionError(f"torn after {len(frames)} frames")
    return frames


def messages(frames: Sequence[Frame]) -> list[tuple[str, Any]]:
    """Return the published messages among ``frames``, as pairs of id and data."""
    texts = [json.loads(bytes(frame.data)) for frame in frames if frame.opcode is Opcode.TEXT]
    return [(text["id"], text["data"]) for text in texts]


def closes(frames: Sequence[Frame]) -> list[Close]:
    return [Close.parse(frame.data) for frame in frames if frame.opcode is Opcode.CLOSE]


def close_code(frames: Sequence[Frame]) -> int:
    """Return the code of the one close frame, which is the last."""
    found = closes(frames)
    assert len(found) == 1
    assert frames[-1].opcode is Opcode.CLOSE
    return int(found[0].code)


def opcodes(frames: Sequence[Frame]) -> list[Opcode]:
    return [frame.opcode for frame in frames]


def client(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    """Return a frame as a client sends it."""
    return Frame(opcode, data, fin).serialize(mask=True)


def client_close(code: int | None, reason: str = "") -> bytes:
    return client(Opcode.CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def raw(first: int, length: bytes, payload: bytes = b"", mask: bytes = b"\0\0\0\0") -> bytes:
    """Return a frame of these bytes, however wrong it is. The mask is one that changes nothing."""
    return bytes([first]) + length + mask + payload


def fragments(opcode: Opcode, *parts: bytes) -> list[bytes]:
    last = len(parts) - 1
    return [
        client(Opcode.CONT if number else opcode, part, number == last)
        for number, part in enumerate(parts)
    ]


def text_of(size: int, **members: Any) -> bytes:
    return json.dumps({**members, "x": "x" * size}).encode()


def fill(wire: Wire, sessions: int = 300, size: int = 1000) -> None:
    """Publish more than the wire holds, to a peer that reads nothing."""
    for number in range(sessions):
        wire.publish(f"s{number}", text_of(size))
    assert wire.watching.callback is not None


def is_open(wire: Wire) -> bool:
    """Whether the connection goes on, and has said nothing yet."""
    before = wire.reads_all()
    wire.sends(client(Opcode.PING, b"are you there?"))
    return wire.is_served and before == [] and opcodes(wire.reads_all()) == [Opcode.PONG]
