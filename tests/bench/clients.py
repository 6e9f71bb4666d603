"""The process of :mod:`tests.bench.crowd`: one loop over thousands of bare sockets that do not
block.

Every byte is parsed, and every message that carries the same number must have the same bytes at
everyone who gets it.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import re
import select
import socket
import struct
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

CONNECT_SECONDS = 120.0
COMPRESSED = -1  # in place of the number of a message that is compressed
NO_NUMBER = -2
_SO_TIMESTAMPNS = 35  # of Linux; the socket module does not name it
_STAMP = struct.Struct("qq")
_RESET = struct.pack("ii", 1, 0)  # a close that leaves no TIME_WAIT behind
_ETHERNET_SEGMENT, _NARROW_BUFFER = 1448, 8192
_NUMBER = re.compile(rb"seq\W{1,2}(\d+)")  # as a member, or in a text
_TEXT, _COMPRESSED_TEXT, _CLOSE, _PING, _PONG = 0x81, 0xC1, 0x88, 0x89, 0x8A


class FrameError(Exception):
    """What came is not what a server may send."""


@dataclass(slots=True)
class Client:
    """One WebSocket, from its handshake on."""

    number: int
    sock: socket.socket
    request: bytes
    due: int  # messages until it is served
    sessions: dict[str, Any] | None
    rest: bytes = b""
    shaken: bool = False


@dataclass
class Opening:
    """A call of ``connect`` under way, and what has become of it; see
    :class:`tests.bench.crowd.Connected`."""

    port: int
    targets: Sequence[str]
    at_once: int
    first: int
    keep: bool
    narrow: bool
    deflates: bool
    began: float = field(default_factory=time.monotonic)
    started: int = 0
    seconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    extensions: Counter[str] = field(default_factory=Counter)

    @property
    def under_way(self) -> int:
        return self.started - len(self.seconds) - self.failed.total()

    def served(self) -> None:
        self.seconds.append(time.monotonic() - self.began)

    def open(self) -> Client:
        """Begin the next connection."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if self.narrow:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _ETHERNET_SEGMENT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW_BUFFER)
        sock.connect_ex(("127.0.0.1", self.port))
        client = Client(
            self.started,
            sock,
            handshake(self.targets[self.started], self.deflates and not self.keep),
            self.first,
            {} if self.keep else None,
        )
        self.started += 1
        return client


def run(pipe: Connection) -> None:
    """Do what comes through ``pipe`` until it closes."""
    gc.disable()  # nothing here makes cycles
    Clients(pipe).run()


class Clients:
    """The loop. A command is a method ``do_…``; each sends one reply."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._epoll = select.epoll()
        self._epoll.register(pipe.fileno(), select.EPOLLIN)
        self._clients: dict[int, Client] = {}
        self._paused: list[Client] = []
        self._opening: Opening | None = None
        self._collecting: tuple[int, float] | None = None
        self._lost: Counter[str] = Counter()
        self._seen: dict[int, bytes] = {}
        self._forget_arrivals()

    def _forget_arrivals(self) -> None:
        self._whose, self._numbers, self._times = array("q"), array("q"), array("q")

    def run(self) -> None:
        while True:
            for fd, events in self._epoll.poll(0.1, 4096):
                client = self._clients.get(fd)
                if client is not None:
                    self._serve(client, events)
                elif fd == self._pipe.fileno():
                    try:
                        command, arguments = self._pipe.recv()
                    except EOFError:
                        return
                    getattr(self, f"do_{command}")(*arguments)
            self._go_on()

    def _go_on(self) -> None:
        if self._opening is not None:
            while (
                self._opening.started < len(self._opening.targets)
                and self._opening.under_way < self._opening.at_once
            ):
                client = self._opening.open()
                self._clients[client.sock.fileno()] = client
                self._epoll.register(client.sock, select.EPOLLOUT)
            if time.monotonic() - self._opening.began > CONNECT_SECONDS:
                for client in list(self._clients.values()):
                    if client.due or not client.shaken:
                        self._end(client, "not served in time")
            if self._opening.started == len(self._opening.targets) and not self._opening.under_way:
                self._pipe.send(
                    (self._opening.seconds, self._opening.failed, self._opening.extensions)
                )
                self._opening = None
        if self._collecting is not None:
            count, deadline = self._collecting
            if len(self._times) >= count or time.monotonic() >= deadline:
                self._collecting = None
                self._pipe.send((self._whose, self._numbers, self._times))
                self._forget_arrivals()

    def do_connect(self, *arguments: Any) -> None:
        self._opening = Opening(*arguments)

    def do_collect(self, count: int, seconds: float) -> None:
        self._collecting = count, time.monotonic() + seconds

    def do_pause(self, numbers: Sequence[int]) -> None:
        chosen = set(numbers)
        self._paused = [client for client in self._clients.values() if client.number in chosen]
        for client in self._paused:
            self._epoll.unregister(client.sock)
        self._pipe.send(len(self._paused))

    def do_resume(self) -> None:
        for client in self._paused:
            self._epoll.register(client.sock, select.EPOLLIN)
        self._pipe.send(len(self._paused))
        self._paused.clear()

    def do_lost(self) -> None:
        self._pipe.send(self._lost)

    def do_states(self) -> None:
        self._pipe.send(
            {
                client.number: client.sessions
                for client in self._clients.values()
                if client.sessions is not None
            }
        )

    def _serve(self, client: Client, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                client.sock.send(client.request)
                self._epoll.modify(client.sock, select.EPOLLIN)
                return
            data, notes, _, _ = client.sock.recvmsg(65536, 64)
            stamp = 0
            for _, _, note in notes:
                seconds, nanoseconds = _STAMP.unpack(note)
                stamp = seconds * 1_000_000_000 + nanoseconds
            if not data:
                raise FrameError("ended without a close")
            if client.rest:
                data = client.rest + data
            client.rest = (
                self._parse(client, data, stamp)
                if client.shaken
                else self._shake(client, data, stamp)
            )
        except (OSError, FrameError) as error:
            self._end(
                client, (error.strerror if isinstance(error, OSError) else None) or str(error)
            )

    def _shake(self, client: Client, data: bytes, stamp: int) -> bytes:
        head, end, data = data.partition(b"\r\n\r\n")
        if not end:
            return head
        status, *lines = head.decode("latin-1").split("\r\n")
        if status.split(" ")[1:2] != ["101"]:
            raise FrameError(status)
        client.shaken = True
        assert self._opening is not None
        self._opening.extensions.update(
            line.partition(":")[2].strip()
            for line in lines
            if line.lower().startswith("sec-websocket-extensions:")
        )
        if not client.due:
            self._opening.served()
        return self._parse(client, data, stamp)

    def _parse(self, client: Client, data: bytes, stamp: int) -> bytes:
        """Take the frames of ``data`` and return what is left over."""
        at, end = 0, len(data)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size > 127:
                raise FrameError("a frame is torn: it is masked")
            if size >= 126:
                start += 2 if size == 126 else 8
                if start > end:
                    break
                size = int.from_bytes(data[at + 2 : start], "big")
            if end - start < size:
                break
            self._take(client, data[at], data[start : start + size], stamp)
            at = start + size
        return data[at:]

    def _take(self, client: Client, first: int, payload: bytes, stamp: int) -> None:
        if first == _TEXT:
            found = _NUMBER.search(payload)
            number = int(found[1]) if found else NO_NUMBER
            if found and self._seen.setdefault(number, payload) != payload:
                raise FrameError("a frame is torn: the same message has other bytes")
            if client.sessions is not None:
                try:
                    message = json.loads(payload)
                except ValueError:
                    raise FrameError("a frame is torn: its message is no JSON") from None
                client.sessions[message["id"]] = message["data"]
            self._record(client, number, stamp)
        elif first == _COMPRESSED_TEXT:
            self._record(client, COMPRESSED, stamp)
        elif first == _PING:
            # Masked with zeros, which leaves the payload as it is.
            client.sock.send(bytes([_PONG, 0x80 | len(payload)]) + bytes(4) + payload)
        elif first == _CLOSE:
            raise FrameError(f"closed with {int.from_bytes(payload[:2], 'big')}")
        elif first != _PONG:
            raise FrameError(f"a frame is torn: it begins with 0x{first:02x}")

    def _record(self, client: Client, number: int, stamp: int) -> None:
        if client.due:
            client.due -= 1
            if not client.due and self._opening is not None:
                self._opening.served()
            return
        self._whose.append(client.number)
        self._numbers.append(number)
        self._times.append(stamp)

    def _end(self, client: Client, reason: str) -> None:
        del self._clients[client.sock.fileno()]
        client.sock.close()
        if self._opening is not None and (client.due or not client.shaken):
            self._opening.failed[reason] += 1
        else:
            self._lost[reason] += 1


def handshake(target: str, deflates: bool) -> bytes:
    """Return the request that a browser would send for ``target``; one that ``deflates`` offers
    compression."""
    key = base64.b64encode(os.urandom(16)).decode()
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    return (
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade:"
        " websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key:"
        f" {key}\r\n{offer if deflates else ''}\r\n"
    ).encode()
