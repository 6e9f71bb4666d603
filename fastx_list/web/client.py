"""A client of the list, as gunicorn sees it."""

from __future__ import annotations

import socket
from contextlib import suppress
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Any

from fastx_list.api.arrival import ARRIVAL_SECONDS, EARLY_BYTES, MAX_REQUEST_BYTES
from fastx_list.errors import PayloadTooLarge

if TYPE_CHECKING:
    from fastx_list.web.worker import Worker

SEND_SECONDS = 30.0  # for an answer, and as much more as its length takes at
SEND_RATE = 16 * 1024  # bytes a second


class Client:
    """A client's connection as gunicorn uses it, for one request. Where it would block, others are
    served."""

    __slots__ = (
        "_early",
        "_left",
        "_out",
        "_response",
        "_worker",
        "arriving",
        "body",
        "deadline",
        "family",
        "given_up",
        "is_watched",
        "local_uid",
        "may_stay",
        "peer",
        "sock",
        "stays",
    )

    def __init__(self, worker: Worker, sock: socket.socket, peer: object) -> None:
        # What accept said of the peer, or which user of this machine it is
        self.peer = peer
        self.family = sock.family
        # Which user of this machine it is, if it came over the socket that is for them
        self.local_uid: int | None = None
        # Whether its request is still on its way
        self.arriving = True
        # Whether it was waited for in vain
        self.given_up = False
        # Whether its connection may be kept for a next request, and whether it is
        self.may_stay = self.stays = False
        # Whether the worker's epoll knows its socket
        self.is_watched = False
        # Its body, and the response that ends with the connection kept, as gunicorn has them
        self.body: Any = None
        self._response: Any = None
        # Until when it is waited for, by the worker's patience
        self.deadline = worker.patience.now() + ARRIVAL_SECONDS
        # What it stands for
        self.sock = sock
        # Lets others be served where this would wait
        self._worker = worker
        # How many bytes it may still send
        self._left = MAX_REQUEST_BYTES
        # What it had sent when it was accepted; None if that was nothing, or has been read since
        self._early: bytes | None = None
        # What is to be sent
        self._out: list[bytes | memoryview] = []

    def fileno(self) -> int:
        return self.sock.fileno()

    def take_in(self) -> bool:
        """Read what has come already; return whether that is anything."""
        with suppress(OSError):  # who reads next meets it again
            self._early = self.sock.recv(EARLY_BYTES, socket.MSG_DONTWAIT)
        return self.has_begun()

    def has_begun(self) -> bool:
        """Return whether anything is read already, and not taken yet."""
        return bool(self._early)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Raises :class:`RequestTimeout` and :class:`PayloadTooLarge`, and
        :class:`BlockingIOError` with ``MSG_DONTWAIT`` alone."""
        if self._early is not None:
            data, self._early = self._early[:size], self._early[size:] or None
            self._left -= len(data)
            return data
        while True:
            try:
                data = self.sock.recv(size, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                if flags & socket.MSG_DONTWAIT:
                    raise
                self._worker.wait_for(self, EPOLLIN, MAX_REQUEST_BYTES)
                continue
            self._left -= len(data)
            if self._left < 0 and self.arriving:
                raise PayloadTooLarge()
            return data

    def send(self, data: bytes) -> int:
        """Send what is no answer yet: 100 Continue."""
        return self.sock.send(data, socket.MSG_DONTWAIT)

    def sendall(self, data: bytes) -> None:
        """Keep ``data`` for the end, where head and body of an answer go out in one piece."""
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out, self.arriving = self._out, [], False
        stays, self.stays = self.stays, False
        rest = sum(map(len, out))
        self.deadline = self._worker.patience.now() + SEND_SECONDS + rest / SEND_RATE
        while rest:
            try:
                sent = self.sock.sendmsg(out, [], socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._worker.wait_for(self, EPOLLOUT, MAX_REQUEST_BYTES + rest)
                continue
            rest -= sent
            if rest:
                out = [memoryview(b"".join(out))[sent:]]
        self.stays = stays

    def may_answer(self, response: Any) -> bool:
        """Return whether a next request can be told from the one that is answered with gunicorn's
        ``response``, and the answers as well."""
        self._response = response
        return (
            response.req.version == (1, 1)
            and response.req.method in ("GET", "POST")  # HEAD has a length and no body
            and (response.response_length is not None or response.status_code == 304)
            and self._has_ended()
        )

    def _has_ended(self) -> bool:
        """Return whether the request has been read to its end, and nothing that came with it is
        left. Of chunks nobody knows; proxies as a rule send none."""
        reader = self.body.reader
        return getattr(reader, "length", None) == 0 and not reader.unreader.buf.getvalue()

    def is_answered(self) -> bool:
        """Return whether it was answered with the connection kept, and with as many bytes as the
        head said."""
        response = self._response
        return (
            response is not None
            and not response.must_close
            and response.sent == (response.response_length or 0)
        )

    def shutdown(self, how: int) -> None:
        """Send the answer, and say that it was all. gunicorn then waits for the peer to hang up,
        unless that is for nothing."""
        self._flush()
        if self.stays or self.given_up or self._is_read():
            raise OSError("there is nothing to wait for")
        self.sock.shutdown(how)

    def _is_read(self) -> bool:
        """Return whether the request has been read to its end. Bytes that nobody reads can cost the
        peer the end of its answer on TCP (RFC 9112 section 9.6). A proxy that cannot send them on a
        Unix socket may not read the answer."""
        reader = getattr(self.body, "reader", None)
        if getattr(reader, "length", None) != 0:  # as long as a body's end is not known
            return False
        try:
            return not self.sock.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True

    def settimeout(self, seconds: float) -> None:
        """Wait so long for the peer to have read the answer."""
        self.arriving = False
        self.deadline = self._worker.patience.now() + seconds

    def gettimeout(self) -> float:
        return 0.0  # as it never blocks

    def close(self) -> None:
        """Send what is left of the answer, and end the connection unless it stays."""
        if self.fileno() == -1:
            return
        try:
            self._flush()
            if self.stays:
                return
            if self.family == socket.AF_UNIX:
                # Unread bytes would make the end look like an error
                self.sock.recv(MAX_REQUEST_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            pass
        self._worker.forget(self)
        self.sock.close()
