"""A cable between a client and a sidecar, which can be cut."""

from __future__ import annotations

import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import session
from tests.live.clients import Observe
from tests.support import WAIT_SECONDS, Service, wait_for

DOCUMENT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
_RESET = struct.pack("ii", 1, 0)  # a close that the other side takes for an error

Shown = Callable[[], Mapping[str, int] | None]


class Cable:
    """Takes connections at ``port`` and passes on what goes over them, until it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        # Both ends of each connection, and the address that each asked for
        self._pairs: dict[socket.socket, socket.socket] = {}
        self.asked: list[str] = []
        self._is_whole = True
        self._was_cut = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        # This thread alone opens and closes connections: select(2) takes no closed ones
        while not self._is_over:
            if not self._is_whole:
                self._end_all()
                self._was_cut.set()
            ready, _, _ = select.select([self._listener, *self._pairs], [], [], 0.02)
            for each in ready:
                if each is self._listener:
                    self._take()
                elif each in self._pairs:
                    self._pass_on(each)
        self._end_all()
        self._listener.close()

    def _take(self) -> None:
        client, _ = self._listener.accept()
        if not self._is_whole:
            _reset(client)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            _reset(client)
            return
        self._pairs |= {client: server, server: client}

    def _pass_on(self, side: socket.socket) -> None:
        data = b""
        with suppress(OSError):
            data = side.recv(65536)
            self.asked += re.findall(r"^GET (\S+)", data.decode("latin-1"))
            self._pairs[side].sendall(data)
        if not data:
            self._end(side)

    def _end_all(self) -> None:
        while self._pairs:
            self._end(next(iter(self._pairs)))

    def _end(self, side: socket.socket) -> None:
        other = self._pairs.pop(side)
        del self._pairs[other]
        for each in (side, other):
            _reset(each)

    def cut(self) -> None:
        """End all connections without a word, and take no others."""
        self._was_cut.clear()
        self._is_whole = False
        assert self._was_cut.wait(WAIT_SECONDS)

    def mend(self) -> None:
        self._is_whole = True

    def remove(self) -> None:
        self._is_over = True
        self._thread.join()


def _reset(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


@contextmanager
def cable(target: int) -> Iterator[Cable]:
    made = Cable(target)
    try:
        yield made
    finally:
        made.remove()


def client_in(language: str) -> str:
    """Return the client that the document has in this language."""
    blocks: list[str] = re.findall(
        rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL
    )
    [found] = [block for block in blocks if "follow(" in block]
    return found


def live_through_outages(service: Service, observe: Observe, wire: Cable, shown: Shown) -> None:
    """See that a client shows the list after each of them: ``shown`` says how many clients each
    session has for it. ``service`` runs, and is empty."""
    steps: list[dict[str, int]] = [{"a": 0, "b": 0}, {"b": 1, "c": 0}, {"c": 2}, {"c": 2, "d": 0}]

    def has(clients: Mapping[str, int]) -> None:
        observe(*[session(name, clients=number) for name, number in clients.items()])

    has(steps[0])
    wait_for("the list", lambda: shown() == steps[0])
    wire.cut()
    has(steps[1])
    before = len(wire.asked)
    wire.mend()
    wait_for("what has changed", lambda: shown() == steps[1])
    assert "since=" in wire.asked[before]
    service.running["live"].kill()  # its workers see that, and end
    service.running["live"].wait()
    has(steps[2])
    service.start_live()
    wait_for("what another sidecar says", lambda: shown() == steps[2])
    has(steps[3])
    wait_for("a change", lambda: shown() == steps[3])
