"""One WebSocket of the sidecar: what goes out, what comes in, when it ends.

Nothing here waits, so a connection has no thread and no greenlet of its own, only the event loop's
two watchers of its socket. What the socket does not take at once stays in order, behind the frame
that is partly out, and goes when the socket takes more; so no frame is ever torn, whoever else
writes (a ping, a pong, a close), and a slow reader costs its mailbox.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Protocol, cast

from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode, ParseFailed

from fastx_list.live.bus import Mailbox
from fastx_list.live.frames import close_frame, ping_frame, pong_frame
from fastx_list.replica.topics import Topic
from fastx_list.tokens import Claims

MAX_CLIENT_MESSAGE = 1024
# From one call of tend() to the next; a client has nothing to send but pings and pongs
MAX_CLIENT_FRAMES = 100
CLOSE_SECONDS = 2.0  # how long a peer has to answer a close
TOKEN_ENDED = 4401
_FRAMES_PER_WRITE = 64
_READS_TO_THE_END = 256
# RFC 6455 section 7.4.1: never in a frame
_ABSENT = {CloseReason.NO_STATUS_RCVD, CloseReason.ABNORMAL_CLOSURE}
_READABLE, _WRITABLE = 1, 2  # libev's EV_READ and EV_WRITE


class Watcher(Protocol):
    """Calls back, on the loop, while a socket can be read or written."""

    def start(self, callback: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class Loop(Protocol):
    """The event loop; gevent's is one."""

    def io(self, fd: int, events: int) -> Watcher: ...


class Connection:
    """A subscriber on a socket that does not block."""

    # There are ten thousands of these.
    __slots__ = (
        "claims",
        "mailbox",
        "topic",
        "_sock",
        "_loop",
        "_ended",
        "_clock",
        "_readable",
        "_writable",
        "_out",
        "_protocol",
        "_length",
        "_frames",
        "_last_ping",
        "_answered",
        "_closing_at",
        "_hang_up_how",
        "_stuck_at",
        "_gone",
        "__weakref__",
    )

    def __init__(
        self,
        sock: socket.socket,
        claims: Claims,
        mailbox: Mailbox,
        topic: Topic,
        loop: Loop,
        ended: Callable[[Connection], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over ``sock``, and close it in the end; ``ended`` is called then. ``topic`` is what
        it follows."""
        self.claims = claims
        self.mailbox = mailbox
        self.topic = topic
        self._sock = sock
        self._loop = loop
        self._ended = ended
        self._clock = clock
        self._out: list[bytes | memoryview] = []
        self._protocol = FrameProtocol(client=False, extensions=[])
        self._length = 0
        self._frames = 0
        self._last_ping = clock()
        self._answered = True
        self._closing_at: float | None = None
        self._hang_up_how: int | None = None
        self._stuck_at: float | None = None  # since when the socket has taken nothing
        self._gone = False
        self._writable: Watcher | None = None
        self._readable = loop.io(sock.fileno(), _READABLE)
        self._readable.start(self._receive)

    def flush(self) -> None:
        """Send what the socket takes now of what is owed."""
        if self._writable is None:  # else the loop calls when there is room
            self._write()

    def _write(self) -> None:
        while not self._gone:
            out = self._out
            if not out:
                if self._closing_at is None:
                    out += self.mailbox.take(_FRAMES_PER_WRITE)
                if not out:
                    break
            try:
                sent = (
                    self._sock.send(out[0])
                    if len(out) == 1
                    else self._sock.sendmsg(out[:_FRAMES_PER_WRITE])
                )
            except BlockingIOError:
                self._wait_for_room()
                return
            except OSError:
                self.drop()
                return
            self._stuck_at = None
            if len(out) == 1 and sent == len(out[0]):
                out.clear()
            else:
                self._forget(sent)
        self._stop_waiting()
        if self._hang_up_how is not None:
            self._shutdown(self._hang_up_how)

    def _wait_for_room(self) -> None:
        if self._writable is None:
            self._writable = self._loop.io(self._sock.fileno(), _WRITABLE)
            self._writable.start(self._write)
        if self._stuck_at is None:
            self._stuck_at = self._clock()

    def _stop_waiting(self) -> None:
        if self._writable is not None:
            self._writable.close()
            self._writable = None
            # A ping that had to wait behind all the rest says nothing about the peer.
            self._last_ping, self._answered = self._clock(), True

    def _forget(self, sent: int) -> None:
        for index, frame in enumerate(self._out):
            if len(frame) > sent:
                self._out[: index + 1] = [memoryview(frame)[sent:]] if sent else [frame]
                return
            sent -= len(frame)
        self._out.clear()

    def _send(self, frame: bytes) -> None:
        self._out.append(frame)
        self.flush()

    def close(self, code: int, reason: str) -> None:
        """Say goodbye with this status code; nothing else is sent after it."""
        if self._closing_at is None:
            self._closing_at = self._clock()
            # A frame that is partly out has to be finished; what stands behind it is obsolete.
            self._out = [rest for rest in self._out if isinstance(rest, memoryview)]
            self._send(close_frame(code, reason))

    def drop(self) -> None:
        """End the connection without a word."""
        if self._gone:
            return
        self._gone = True
        self._readable.close()
        self._stop_waiting()
        self._sock.close()
        self._ended(self)

    def _shutdown(self, how: int) -> None:
        if how == socket.SHUT_RDWR:
            self.drop()
            return
        try:
            self._sock.shutdown(how)
        except OSError:
            pass

    def tend(self, now: float, ping_interval: float, slow_timeout: float) -> bool:
        """Ping, or drop a peer that answers neither ping nor close or reads nothing; to be called
        twice a second.

        Return whether it was dropped because its socket had taken nothing for ``slow_timeout``
        seconds.
        """
        if self._gone:
            return False
        self._frames = 0
        if self._closing_at is not None:
            if now - self._closing_at >= CLOSE_SECONDS:
                self.drop()
        # Who reads late answers late, too, so it is not asked whether it lives
        elif self._writable is not None:
            if self._stuck_at is not None and now - self._stuck_at >= slow_timeout:
                self.drop()
                return True
        elif now - self._last_ping >= ping_interval:
            if not self._answered:
                self.drop()
                return False
            self._answered = False
            self._last_ping = now
            self._send(ping_frame())
        return False

    def _receive(self) -> None:
        """Take what the client has sent; the loop calls again if there is more."""
        try:
            data = self._sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop()
        elif self._hang_up_how is None:
            try:
                self._protocol.receive_bytes(data)
                for frame in self._protocol.received_frames():
                    self._frames += frame.frame_finished
                    if self._frames > MAX_CLIENT_FRAMES:
                        self._hang_up(CloseReason.POLICY_VIOLATION, socket.SHUT_WR)
                        return
                    if frame.opcode is Opcode.CLOSE:
                        code = cast("tuple[int, str]", frame.payload)[0]
                        self._hang_up(
                            CloseReason.NORMAL_CLOSURE if code in _ABSENT else code,
                            socket.SHUT_RDWR,
                        )
                        return
                    if frame.opcode is Opcode.PONG:
                        self._answered = True
                    elif frame.opcode is Opcode.PING:
                        if self._closing_at is None and len(self._out) < _FRAMES_PER_WRITE:
                            self._send(pong_frame(cast(bytes, frame.payload)))
                    else:
                        self._ignore(cast("str | bytes", frame.payload), frame.message_finished)
            except ParseFailed as error:
                self._hang_up(error.code, socket.SHUT_WR)

    def _ignore(self, payload: str | bytes, finished: bool) -> None:
        self._length += len(payload.encode() if isinstance(payload, str) else payload)
        if self._length > MAX_CLIENT_MESSAGE:
            self.close(CloseReason.MESSAGE_TOO_BIG, f"takes at most {MAX_CLIENT_MESSAGE} bytes")
        if finished:
            self._length = 0

    def _hang_up(self, code: int, how: int) -> None:
        """Send what has to be sent, then be the first to end the connection (RFC 6455 section
        7.1.1)."""
        if self._gone:
            return
        self._hang_up_how = how
        # Bytes left unread would make the kernel reset the connection, and the peer lose the
        # reason.
        try:
            for _ in range(_READS_TO_THE_END):
                if not self._sock.recv(4096):
                    break
        except OSError:
            pass
        self.close(code, "")
        self.flush()
