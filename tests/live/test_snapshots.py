"""How a sidecar sends what there is, in the test's own process."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import gevent
import pytest

from fastx_list import create_live_app
from fastx_list.live.sidecar import AT_ONCE, EXTENSION, Live
from fastx_list.tokens import Claims
from tests.conftest import session
from tests.live.clients import Observe


@pytest.fixture
def live(environ: dict[str, str], observe: Observe) -> Iterator[Live]:
    """A sidecar with more sessions of alice than are sent at once."""
    observe(*(session(f"s{number}") for number in range(AT_ONCE + 1)))
    app = create_live_app(environ)
    service = app.extensions["fastx-list"]
    service.replica.refresh()
    yield app.extensions[EXTENSION]
    service.store.close()


def test_who_leaves_while_others_of_the_login_are_sent_theirs_is_forgotten(live: Live) -> None:
    def serve(name: str, sock: socket.socket) -> None:
        claims = Claims("alice", 2**40, name, False)
        live.serve(sock.detach(), b"", claims, (), "alice", True, None)

    def leave() -> None:
        [waiting] = [each for each in live.connections if each.claims.jti == "waits"]
        waiting.drop()

    (first, one), (second, other) = socket.socketpair(), socket.socketpair()
    with one, other:
        # They have their turns in this order, and the first gives way before it has sent all.
        steps: list[gevent.Greenlet[..., None]] = [
            gevent.spawn(serve, "is sent", first),
            gevent.spawn(serve, "waits", second),
            gevent.spawn(leave),
        ]
        gevent.joinall(steps, raise_error=True)
        [stayed] = live.connections
        assert other.recv(1) == b"" and one.recv(1)
        stayed.drop()
    assert (
        not live.of_login("alice") and not live.bus._followed
    )  # there is nobody to be told any more
