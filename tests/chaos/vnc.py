"""A real X server with real clients: as little of RFB (RFC 6143) as keeps a client connected."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from pathlib import Path

from tests.support import Processes, program, wait_for

FIRST_PORT = 10_000  # up to where the kernel takes ports for clients, which begin at 32,768
FIRST_DISPLAY, MOST_DISPLAYS = 100, 20_000
SECONDS = 60.0  # generous, since nothing here is about speed


_used: set[int] = set()


def spare_display() -> int:
    """Return the number of a display that nobody has, and that was not given before. The locks are
    shared with all that use this machine's /tmp."""
    while True:
        number = FIRST_DISPLAY + secrets.randbelow(MOST_DISPLAYS)
        if number not in _used and not os.path.exists(f"/tmp/.X{number}-lock"):
            _used.add(number)
            return number


class Desktop:
    """One Xtigervnc."""

    def __init__(self, processes: Processes, display: int, geometry: str) -> None:
        self._display = display
        self._port = FIRST_PORT + display
        server = program("Xtigervnc", "tigervnc-standalone-server")
        self.process: subprocess.Popen[bytes] = processes.start(
            [
                *(server, f":{display}", "-geometry", geometry, "-SecurityTypes", "None"),
                *("-rfbport", str(self._port), "-AlwaysShared"),
            ],
            "desktop",
        )
        self.clients: list[socket.socket] = []
        wait_for("the X server", lambda: Path(f"/tmp/.X11-unix/X{display}").exists(), SECONDS)

    def connect(self) -> None:
        client: socket.socket = wait_for("a VNC server", self._try, SECONDS)
        client.settimeout(SECONDS)
        _read(client, 12)
        client.sendall(b"RFB 003.008\n")
        kinds = _read(client, 1)[0]
        _read(client, kinds)
        client.sendall(b"\x01")  # no password
        assert _read(client, 4) == b"\0\0\0\0"
        client.sendall(b"\x01")  # shared
        self.clients.append(client)

    def _try(self) -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", self._port), SECONDS)
        except ConnectionRefusedError:
            return None

    def disconnect(self) -> None:
        self.clients.pop(0).close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for client in self.clients:
            client.close()
        for path in (f"/tmp/.X11-unix/X{self._display}", f"/tmp/.X{self._display}-lock"):
            if os.path.exists(path):
                os.unlink(path)


def _read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        assert part, "the VNC server has hung up"
        data += part
    return data
