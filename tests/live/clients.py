"""Clients of a running sidecar: one that is not ours, and bare sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support import Service

Observe = Callable[..., None]

BOOKMARKS = "&bookmarks=1"


def follow(service: Service, token: str, query: str = "", **options: Any) -> ClientConnection:
    # Who has messages that nobody has taken would wait for ten seconds for the sidecar's goodbye
    options = {"close_timeout": 0.2, **options}
    connection: ClientConnection = connect(f"{service.live_url}?token={token}{query}", **options)
    return connection


def take(connection: ClientConnection) -> tuple[str, dict[str, Any] | None]:
    message = json.loads(connection.recv(timeout=20))
    assert message.keys() == {"id", "data"}
    return message["id"], message["data"]


def told(connection: ClientConnection) -> list[tuple[str, Any]]:
    """Return what is said up to the next bookmark, ids with the number of clients; of a session
    that has ended, and of what is not known, ``None``."""
    found: list[tuple[str, Any]] = []
    while True:
        message = json.loads(connection.recv(timeout=20))
        if "revision" in message:
            assert message.keys() == {"revision"}
            found.append(("revision", message["revision"]))
            if message["revision"] is not None:
                return found
        else:
            assert message.keys() == {"id", "data"}
            found.append((message["id"], message["data"] and message["data"].get("clients")))


class Returning:
    """A client that keeps to the algorithm in docs/api.md, and comes now and then."""

    def __init__(self) -> None:
        # The number of clients of each session
        self.known: dict[str, Any] = {}
        # How often it was told to drop all that it knew
        self.dropped = 0
        self._since = ""

    def come_back(self, service: Service, token: str) -> dict[str, Any]:
        """Be told up to a bookmark, go, and return what is known then."""
        with follow(service, token, BOOKMARKS + self._since) as connection:
            for name, value in told(connection):
                if name == "revision":
                    self._since = f"&since={value}" if value else ""
                    if value is None:
                        self.known.clear()
                        self.dropped += 1
                elif value is None:
                    self.known.pop(name, None)
                else:
                    self.known[name] = value
        return self.known


def refused(service: Service, query: str, **options: Any) -> tuple[int, dict[str, str]]:
    """Return the status and the error of a connection that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        with connect(f"{service.live_url}{query}", **options):
            pass
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/json"
    error: dict[str, str] = json.loads(response.body or b"")["error"]
    return response.status_code, error


def first_id(service: Service, token: str) -> str | None:
    with follow(service, token) as connection:
        try:
            return str(json.loads(connection.recv(timeout=0.2))["id"])
        except TimeoutError:
            return None


def upgrade(service: Service, token: str, **headers: str) -> bytes:
    lines = {
        "Host": f"127.0.0.1:{service.live_port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET /api/list?token={token} HTTP/1.1\r\n{head}\r\n".encode()


def head_of_answer(service: Service, request: bytes) -> str:
    """Return the head of the answer to ``request``, however it goes on."""
    with socket.create_connection(("127.0.0.1", service.live_port), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
    return answer.partition(b"\r\n\r\n")[0].decode()


def raw_answer(service: Service, request: bytes) -> tuple[str, str]:
    """Return the head of the answer to ``request``, which is an error, and its message."""
    with socket.create_connection(("127.0.0.1", service.live_port), timeout=20) as connection:
        connection.sendall(request)
        answer = connection.recv(65536)
        while b"}}" not in answer:
            answer += connection.recv(65536)
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head, json.loads(body)["error"]["message"]
