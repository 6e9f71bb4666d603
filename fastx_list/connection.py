"""One WebSocket of the sidecar: what goes out, what comes in, when it ends.

Writing never waits. What the socket does not take at once stays in order, behind the frame that is partly out, and goes when the
socket takes more; so no frame is ever torn, whoever else writes (a ping, a pong, a close), and a slow reader costs its mailbox.
Reading is the only thing that waits, in the greenlet that serves the request.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Protocol, cast

from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode, ParseFailed

from fastx_list.bus import Mailbox
from fastx_list.frames import close_frame, ping_frame, pong_frame
from fastx_list.tokens import Claims

MAX_CLIENT_MESSAGE = 1024
CLOSE_SECONDS = 2.0  # how long a peer has to answer a close
TOKEN_ENDED = 4401
_FRAMES_PER_WRITE = 64
_ABSENT = {CloseReason.NO_STATUS_RCVD, CloseReason.ABNORMAL_CLOSURE}  # RFC 6455 section 7.4.1: never in a frame


class Watcher(Protocol):
    """Calls back when the socket takes more; a libev io watcher does."""

    def start(self, callback: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...


class Connection:
    """A subscriber on a socket that does not block."""

    def __init__(self, sock: socket.socket, claims: Claims, mailbox: Mailbox, writable: Watcher, now: float) -> None:
        self.claims = claims
        self.mailbox = mailbox
        self.last_ping = now
        self._sock = sock
        self._fd = sock.fileno()
        self._writable = writable
        self._waiting = False
        self._out: deque[bytes | memoryview] = deque()
        self._answered = True
        self._closing_at: float | None = None
        self._hang_up_how: int | None = None
        self._gone = False

    def flush(self) -> None:
        """Send what the socket takes now of what is owed."""
        while not self._gone:
            if not self._out and self._closing_at is None:
                self._out.extend(self.mailbox.take(_FRAMES_PER_WRITE))
            if not self._out:
                break
            try:
                sent = os.writev(self._fd, list(islice(self._out, _FRAMES_PER_WRITE)))
            except BlockingIOError:
                if not self._waiting:
                    self._waiting = True
                    self._writable.start(self.flush)
                return
            except OSError:
                self.drop()
                return
            self._forget(sent)
        if self._waiting:
            self._waiting = False
            self._writable.stop()
        if self._hang_up_how is not None:
            self._shutdown(self._hang_up_how)

    def _forget(self, sent: int) -> None:
        while sent:
            first = self._out.popleft()
            if len(first) > sent:
                self._out.appendleft(memoryview(first)[sent:])
                return
            sent -= len(first)

    def _send(self, frame: bytes) -> None:
        self._out.append(frame)
        self.flush()

    def close(self, code: int, reason: str, now: float) -> None:
        """Say goodbye with this status code; nothing else is sent after it."""
        if self._closing_at is None:
            self._closing_at = now
            # A frame that is partly out has to be finished; what stands behind it is obsolete.
            begun = [rest for rest in self._out if isinstance(rest, memoryview)]
            self._out = deque(begun)
            self._send(close_frame(code, reason))

    def drop(self) -> None:
        """End the connection without a word; the reader notices."""
        self._gone = True
        if self._waiting:
            self._waiting = False
            self._writable.stop()
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        try:
            self._sock.shutdown(how)
        except OSError:
            pass

    def tend(self, now: float, ping_interval: float) -> None:
        """Ping, and drop a peer that has not answered the last ping or a close. To be called now and then."""
        if self._closing_at is not None:
            if now - self._closing_at >= CLOSE_SECONDS:
                self.drop()
        elif now - self.last_ping >= ping_interval:
            if not self._answered:
                self.drop()
                return
            self._answered = False
            self.last_ping = now
            self._send(ping_frame())

    def read(self, clock: Callable[[], float]) -> None:
        """Read what the client sends until either side has ended the connection."""
        protocol = FrameProtocol(client=False, extensions=[])
        length = 0
        while True:
            try:
                data = self._sock.recv(4096)
            except OSError:
                return
            if not data:
                return
            try:
                protocol.receive_bytes(data)
                for frame in protocol.received_frames():
                    if frame.opcode is Opcode.CLOSE:
                        code = cast("tuple[int, str]", frame.payload)[0]
                        self._hang_up(CloseReason.NORMAL_CLOSURE if code in _ABSENT else code, socket.SHUT_RDWR, clock())
                        return
                    if frame.opcode is Opcode.PONG:
                        self._answered = True
                    elif frame.opcode is Opcode.PING:
                        if self._closing_at is None and len(self._out) < _FRAMES_PER_WRITE:
                            self._send(pong_frame(cast(bytes, frame.payload)))
                    else:
                        length += len(frame.payload.encode() if isinstance(frame.payload, str) else frame.payload)
                        if length > MAX_CLIENT_MESSAGE:
                            self.close(CloseReason.MESSAGE_TOO_BIG, f"takes at most {MAX_CLIENT_MESSAGE} bytes", clock())
                        if frame.message_finished:
                            length = 0
            except ParseFailed as error:
                self._hang_up(error.code, socket.SHUT_WR, clock())
                return

    def _hang_up(self, code: int, how: int, now: float) -> None:
        """Send what has to be sent, then be the first to end the connection (RFC 6455 section 7.1.1); wait for its end."""
        self._hang_up_how = how
        self.close(code, "", now)
        self.flush()
        # Bytes left unread would make the kernel reset the connection, and the peer lose the reason.
        try:
            while self._sock.recv(4096):
                pass
        except OSError:
            pass
