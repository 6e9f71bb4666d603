"""One WebSocket of the sidecar: what goes out, what comes in, when it ends.

Nothing here waits, so a connection has no thread and no greenlet of its own, only the event loop's
watchers of its socket. News goes straight into the socket. What that does not take at once is owed:
the rest of the frame that is partly out first, then what is in the mailbox. It goes when the socket
takes more. So no frame is ever torn, whoever else writes (a ping, a pong, a close), and what a slow
reader costs is its mailbox.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import cast

from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from fastx_list.api.arrival import Patience
from fastx_list.api.protocol import MAX_CLIENT_FRAMES, MAX_CLIENT_MESSAGE, CloseCode, spare_frames
from fastx_list.live.bus import Filters, Mailbox, News
from fastx_list.live.deflate import Inflater, Snapshot
from fastx_list.live.frames import close_frame, ping_frame, pong_frame
from fastx_list.live.loop import READABLE, WRITABLE, Loop, Watcher
from fastx_list.replica.topics import Topic
from fastx_list.tokens import Claims

CLOSE_SECONDS = 2.0  # that a peer has to answer a close
_FRAMES_PER_WRITE = 64  # that are taken at a time; the kernel takes up to 1,024
_MAX_AHEAD = 256 * 1024  # bytes of a snapshot that are compressed before the socket takes them
_READ_SIZE = 4096
_READS_TO_THE_END = 256  # of what a peer has sent that is not listened to any more
# RFC 6455 section 7.4.1: these say that a close has no code, and are never in a frame
_ABSENT = {CloseReason.NO_STATUS_RCVD, CloseReason.ABNORMAL_CLOSURE}


class State(Enum):
    """How far a connection is; :class:`Connection` says what happens in each state."""

    OPEN = auto()
    CLOSING = auto()
    REFUSING = auto()
    ANSWERING = auto()
    GONE = auto()


OPEN, CLOSING, REFUSING, ANSWERING, GONE = State


class Connection:
    """A subscriber on a socket that does not block.

    ``OPEN``: it sends what it is owed, and pings; what the client sends is checked. It leaves this
    state for one of the next three when its close frame takes the place of all that is not partly
    out; nothing is sent after that.

    ``CLOSING``: we have closed, and wait for the client's answer.

    ``REFUSING``: the client has broken the protocol, or sends too much. It is not listened to any
    more. Once all is out our side of the stream ends, and the client has to end its own.

    ``ANSWERING``: the client has closed. Once our answer is out the connection ends.

    ``GONE``: the socket is closed. Every other state comes to this when the client hangs up, when
    sending fails, or when the client lets us wait for too long.

    ``CLOSING`` becomes ``REFUSING`` or ``ANSWERING`` for the same reasons as ``OPEN`` does. There
    are no other ways.
    """

    # There are ten thousands of these.
    __slots__ = (
        "claims",
        "filters",
        "topic",
        "deflates",
        "mailbox",
        "_sock",
        "_loop",
        "_on_gone",
        "_patience",
        "_state",
        "_waits_since",
        "_read_watcher",
        "_room_watcher",
        "_out",
        "_parser",
        "_message_size",
        "_frames_taken",
        "_last_ping",
        "_is_ping_answered",
        "__weakref__",
    )

    def __init__(
        self,
        sock: socket.socket,
        claims: Claims,
        filters: Filters,
        topic: Topic,
        loop: Loop,
        on_gone: Callable[[Connection], None],
        inflates: bool,
        patience: Patience,
    ) -> None:
        """Take over ``sock``, and close it in the end; ``on_gone`` is called then. With
        ``inflates`` it takes compressed messages."""
        # What its token says
        self.claims = claims
        # What it follows, and the filters that all of it has to pass
        self.topic, self.filters = topic, filters
        # Whether news goes out compressed; not while a snapshot's messages refer to each other
        self.deflates = False
        # What it is owed
        self.mailbox = Mailbox()
        self._sock = sock
        # Calls back when the socket is ready
        self._loop = loop
        # Called once it is gone
        self._on_gone = on_gone
        # For how long the peer is waited for; all its times are in these seconds
        self._patience = patience
        # How far it is
        self._state = OPEN
        # While OPEN with a full socket: when that last took something. After OPEN: when it closed
        self._waits_since = 0.0
        # Frames that are not out yet; of the first there may be only the rest
        self._out: list[bytes | memoryview] = []
        # Parses what comes in
        self._parser = FrameProtocol(client=False, extensions=[Inflater()] if inflates else [])
        # Of the client's message that has not ended yet, in bytes
        self._message_size = 0
        # How many frames have come in since tend() was called
        self._frames_taken = 0
        # When it was last pinged, or last had all that it was owed, and whether that was answered
        self._last_ping, self._is_ping_answered = self._patience.now(), True
        # Calls back when there is room in the socket; None unless that is full
        self._room_watcher: Watcher | None = None
        # Calls back when there is something to read, until the end
        self._read_watcher = loop.io(sock.fileno(), READABLE)
        self._read_watcher.start(self._receive)

    # What goes out

    def tell(self, news: News) -> None:
        """Send ``news`` as far as the socket takes it now, and owe the rest."""
        if self._state is not OPEN:
            return
        sent = 0
        data = news.deflated if self.deflates else news.data
        if self._room_watcher is None:  # else there is something that goes before it
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self.drop()
                return
            if sent == len(data):
                return
        rest, owed = news.after(sent, self.deflates)
        if rest is not None:
            self._out.append(rest)
        for told in owed:
            self.mailbox.put(told)
        self._wait_for_room(sent > 0)

    def tell_together(self, news: News, snapshot: Snapshot) -> None:
        """Send ``news`` compressed by ``snapshot``; ``deflates`` may be set once that is over."""
        if sum(map(len, self._out)) > _MAX_AHEAD:
            self.tell(news)  # costs a slow reader bytes rather than us memory
        elif self._state is OPEN and news.told:
            for told in news.told:
                self.mailbox.forget(told.id)
            self.send(snapshot.frames(told.frame for told in news.told))

    def _flush(self) -> None:
        if self._room_watcher is None:  # else the loop calls when there is room
            self._write()

    def send(self, data: bytes) -> None:
        """Send ``data`` before all that is owed."""
        self._out.append(data)
        self._flush()

    def _write(self) -> None:
        has_sent = False
        while self._state is not GONE:
            out = self._out
            if not out:
                if self._state is OPEN:
                    out += self.mailbox.take(_FRAMES_PER_WRITE, self.deflates)
                if not out:
                    break
            try:
                sent = self._sock.sendmsg(out)
            except BlockingIOError:
                self._wait_for_room(has_sent)
                return
            except OSError:
                self.drop()
                return
            has_sent = True
            self._forget(sent)
        self._stop_waiting()
        if self._state is ANSWERING:
            self.drop()
        elif self._state is REFUSING:
            self._end_our_side()

    def _forget(self, sent: int) -> None:
        for index, frame in enumerate(self._out):
            if len(frame) > sent:
                self._out[: index + 1] = [memoryview(frame)[sent:]] if sent else [frame]
                return
            sent -= len(frame)
        self._out.clear()

    def _wait_for_room(self, has_sent: bool) -> None:
        is_new = self._room_watcher is None
        if self._room_watcher is None:
            self._room_watcher = self._loop.io(self._sock.fileno(), WRITABLE)
            self._room_watcher.start(self._write)
        if self._state is OPEN and (is_new or has_sent):
            self._waits_since = self._patience.now()

    def _stop_waiting(self) -> None:
        if self._room_watcher is not None:
            self._room_watcher.close()
            self._room_watcher = None
            # A ping that had to wait behind all the rest says nothing about the peer.
            self._last_ping, self._is_ping_answered = self._patience.now(), True

    # What comes in

    def _receive(self) -> bool:
        """Take what has come, and return whether that is anything; the loop calls for more."""
        try:
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.drop()
        elif self._is_listening():
            try:
                self._parser.receive_bytes(data)
                for frame in self._parser.received_frames():
                    self._take(frame)
                    if not self._is_listening():
                        break
            except ParseFailed as error:
                self._hang_up(REFUSING, error.code)
        return True

    def _is_listening(self) -> bool:
        return self._state is OPEN or self._state is CLOSING

    def _take(self, frame: Frame) -> None:
        self._frames_taken += frame.frame_finished
        if self._frames_taken > MAX_CLIENT_FRAMES + spare_frames(self._patience.unseen()):
            self._hang_up(REFUSING, CloseCode.TOO_MANY_FRAMES)
        elif frame.opcode is Opcode.CLOSE:
            code = cast("tuple[int, str]", frame.payload)[0]
            self._hang_up(ANSWERING, CloseReason.NORMAL_CLOSURE if code in _ABSENT else code)
        elif frame.opcode is Opcode.PONG:
            self._is_ping_answered = True
        elif frame.opcode is Opcode.PING:
            if self._state is OPEN and len(self._out) < _FRAMES_PER_WRITE:
                self.send(pong_frame(cast(bytes, frame.payload)))
        else:
            self._ignore(cast("str | bytes", frame.payload), frame.message_finished)

    def _ignore(self, payload: str | bytes, finished: bool) -> None:
        self._message_size += len(payload.encode() if isinstance(payload, str) else payload)
        if self._message_size > MAX_CLIENT_MESSAGE:
            self.close(CloseCode.MESSAGE_TOO_LONG, f"takes at most {MAX_CLIENT_MESSAGE} bytes")
        if finished:
            self._message_size = 0

    # When it ends

    def tend(self, now: float, ping_interval: float, slow_timeout: float, spare: int = 0) -> bool:
        """Ping, or drop a peer that answers neither ping nor close or reads nothing; to be called
        twice a second. So many ``spare`` frames may have come since the last call.

        Return whether it was dropped because its socket had taken nothing for ``slow_timeout``
        seconds.
        """
        self._frames_taken = -spare
        if self._state is not OPEN:
            if now - self._waits_since >= CLOSE_SECONDS:
                self.drop()
        # Who reads late answers late, too, so it is not asked whether it lives
        elif self._room_watcher is not None:
            if now - self._waits_since >= slow_timeout:
                self._write()  # it may have read since we could last see that
            if self._room_watcher is not None and now - self._waits_since >= slow_timeout:
                self.drop()
                return True
        elif now - self._last_ping >= ping_interval:
            if self._is_ping_answered:
                self._last_ping, self._is_ping_answered = now, False
                self.send(ping_frame())
            elif not self._receive():  # its answer may have come since we could last see that
                self.drop()
        return False

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; nothing else is sent after it."""
        if self._state is OPEN:
            self._say_goodbye(CLOSING, code, reason)

    def _hang_up(self, state: State, code: int) -> None:
        """Send what has to be sent, then be the first to end the connection (RFC 6455 section
        7.1.1)."""
        # Bytes left unread would make the kernel reset the connection, and the peer lose the
        # reason.
        with suppress(OSError):
            for _ in range(_READS_TO_THE_END):
                if not self._sock.recv(_READ_SIZE):
                    break
        if self._state is OPEN:
            self._say_goodbye(state, code, "")
        else:
            self._state = state
            self._flush()

    def _say_goodbye(self, state: State, code: int, reason: str) -> None:
        self._state, self._waits_since = state, self._patience.now()
        # A frame that is partly out has to be finished; what stands behind it is obsolete.
        self._out = [rest for rest in self._out if isinstance(rest, memoryview)]
        self.send(close_frame(code, reason))

    def _end_our_side(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        """End the connection without a word."""
        if self._state is not GONE:
            self._state = GONE
            self._read_watcher.close()
            self._stop_waiting()
            self._sock.close()
            self._on_gone(self)
