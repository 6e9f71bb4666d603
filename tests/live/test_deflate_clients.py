"""Clients that people have, with compression, on a running sidecar."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from fastx_list.live.sidecar import AT_ONCE
from fastx_list.model.session import Session
from tests.conftest import session
from tests.live.clients import Observe, first_id, follow
from tests.support import Service, end, program, wait_for

MANY = 3 * AT_ONCE
NODE = """
const socket = new (require("/usr/share/nodejs/ws"))(process.argv[1]);
socket.on("upgrade", (answer) => console.log(answer.headers["sec-websocket-extensions"]));
socket.on("message", (data) => console.log(String(data)));
"""

Receive = Callable[[], str]
Client = Callable[[Service, str], AbstractContextManager[Receive]]


def of_websockets(**offer: Any) -> Client:
    """Return websockets for Python, which offers this."""

    @contextmanager
    def connect(service: Service, token: str) -> Iterator[Receive]:
        offers = [ClientPerMessageDeflateFactory(**offer)]
        with follow(service, token, extensions=offers, compression=None) as connection:
            [extension] = connection.protocol.extensions
            assert extension.name == "permessage-deflate"
            yield lambda: str(connection.recv(timeout=20))

    return connect


@contextmanager
def of_node(service: Service, token: str) -> Iterator[Receive]:
    """Connect with ws for Node."""
    node = program("node", "node-ws")
    process = subprocess.Popen(
        [node, "-e", NODE, f"{service.live_url}?token={token}"], stdout=subprocess.PIPE
    )
    with process:
        lines = process.stdout
        assert lines is not None and lines.readline().startswith(b"permessage-deflate;")
        yield lambda: lines.readline().decode()
        end(process)


CLIENTS: dict[str, Client] = {
    "websockets": of_websockets(client_max_window_bits=True),
    "a window of 4 KiB": of_websockets(server_max_window_bits=12, client_max_window_bits=12),
    "a window of 512 bytes": of_websockets(server_max_window_bits=9),
    "no context": of_websockets(server_no_context_takeover=True),
    "ws for Node": of_node,
}


def sessions(clients: int) -> list[Session]:
    return [session(f"s{number}", clients=clients + number % 3) for number in range(MANY)]


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_a_client_that_inflates_has_the_list_and_every_change(
    live: Service, alice: str, observe: Observe, client: Client
) -> None:
    observe(*sessions(0))
    wait_for("the first", lambda: first_id(live, alice))
    with follow(live, alice, compression=None) as plain, client(live, alice) as receive:
        for clients in (0, 1):
            observe(*sessions(clients))
            there = dict(_message(str(plain.recv(timeout=20))) for _ in range(MANY))
            assert dict(_message(receive()) for _ in range(MANY)) == there
        observe(*sessions(1)[1:])
        assert _message(receive()) == ("s0", None)


def _message(text: str) -> tuple[str, Any]:
    message = json.loads(text)
    return message["id"], message["data"]
