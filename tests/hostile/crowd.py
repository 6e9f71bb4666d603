"""Clients that cost a server patience: they connect and say nothing, or too little, or too
slowly, or do not read."""

from __future__ import annotations

import resource
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support import WAIT_SECONDS

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"  # the hostile clients' address, and another one's
FLOOR_SECONDS = 1.0  # faster than this is fast, whatever else the machine does


class Crowd:
    """Connections to one port, from one address."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []
        self._dripping: list[socket.socket] = []
        self._over = threading.Event()
        self._drip = threading.Thread(target=self._send_slowly)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def __enter__(self) -> Crowd:
        self._drip.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._drip.join()
        for sock in self._sockets:
            sock.close()

    def add(self, count: int, first: bytes = b"", slowly: bool = False) -> list[socket.socket]:
        """Open connections that send ``first``, and then nothing, or a byte a second."""
        added = [dial(self._port, HERE) for _ in range(count)]
        for sock in added:
            if first:
                sock.sendall(first)
        self._sockets += added
        if slowly:
            self._dripping += added
        return added

    def _send_slowly(self) -> None:
        while not self._over.wait(1):
            for sock in self._dripping:
                try:
                    sock.send(b"x", socket.MSG_DONTWAIT)
                except OSError:
                    pass  # it was hung up on


def dial(port: int, address: str = ELSEWHERE) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), WAIT_SECONDS, (address, 0))


def ask(port: int, request: bytes, address: str = ELSEWHERE) -> bytes:
    """Send ``request`` and return all that comes back, until the server hangs up."""
    with dial(port, address) as sock:
        sock.sendall(request)
        return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    """Return what the server sends until it hangs up."""
    sock.settimeout(WAIT_SECONDS)
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def times(port: int, path: str, count: int = 200) -> list[float]:
    """Ask ``count`` times from another address; return the seconds that each answer took."""
    taken = []
    for _ in range(count):
        began = time.monotonic()
        answer = ask(port, get(path))
        taken.append(time.monotonic() - began)
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]
    return taken


def check_not_slower(before: list[float], after: list[float]) -> None:
    """See that it takes others at most three times as long."""
    for percent in (50, 99):
        was, now = (
            statistics.quantiles(taken, n=100, method="inclusive")[percent - 1]
            for taken in (before, after)
        )
        assert now <= max(3 * was, FLOOR_SECONDS), f"{percent} of 100 in {now:.3f} s: was {was:.3f}"


@contextmanager
def within(seconds: float, what: Callable[[], str]) -> Iterator[None]:
    began = time.monotonic()
    yield
    taken = time.monotonic() - began
    assert taken < seconds, f"{taken:.1f} s: {what()}"
