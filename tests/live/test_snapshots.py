"""How a sidecar sends what there is, in the test's own process."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import gevent
import pytest
from websockets.exceptions import ProtocolError

from fastx_list import create_live_app
from fastx_list.live.deflate import Deflate
from fastx_list.live.sidecar import AT_ONCE, EXTENSION, Live
from fastx_list.live.start import Asked
from fastx_list.replica.topics import Everything, Topic
from fastx_list.tokens import Claims
from tests.conftest import session
from tests.live.clients import Observe
from tests.live.inflating import Inflating
from tests.live.wire import messages, parse


@pytest.fixture
def live(environ: dict[str, str], observe: Observe) -> Iterator[Live]:
    """A sidecar with more sessions of alice than are sent at once."""
    observe(*(session(f"s{number}") for number in range(AT_ONCE + 1)))
    app = create_live_app(environ)
    service = app.extensions["fastx-list"]
    service.replica.refresh()
    yield app.extensions[EXTENSION]
    service.store.close()


@pytest.mark.parametrize(
    ("topic", "agreed", "refers"),
    [
        ("alice", Deflate(None, True), True),
        ("alice", Deflate(None, False), False),
        # Who has several logins' sessions could otherwise be told on by how long the frames are
        (Everything.SESSIONS, Deflate(None, True), False),
    ],
)
def test_messages_refer_to_each_other_within_one_login_and_if_the_client_agreed(
    live: Live, topic: Topic, agreed: Deflate, refers: bool
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        claims = Claims("alice", 2**40, "jti", True)
        ours.setblocking(False)
        live.serve(ours, b"", claims, (), topic, Asked(), agreed)
        data = theirs.recv(1 << 20)
        assert len(messages(parse(data, [Inflating()]))) == AT_ONCE + 1
        if refers:
            with pytest.raises(ProtocolError):
                parse(data, [Inflating(keeps_context=False)])
        else:
            assert len(messages(parse(data, [Inflating(9, keeps_context=False)]))) == AT_ONCE + 1
        for each in list(live.connections):
            each.drop()


def test_who_leaves_while_others_of_the_login_are_sent_theirs_is_forgotten(live: Live) -> None:
    def serve(name: str, sock: socket.socket) -> None:
        claims = Claims("alice", 2**40, name, False)
        sock.setblocking(False)
        live.serve(sock, b"", claims, (), "alice", Asked(), None)

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


@pytest.mark.parametrize("login", ["alice", "bob"])
def test_nothing_is_kept_of_a_client_that_hangs_up_while_it_is_answered(
    live: Live, login: str
) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    claims, asked = Claims(login, 2**40, None, False), Asked(bookmarks=True)
    ours.setblocking(False)
    live.serve(ours, b"answer", claims, (), login, asked, None)
    assert (live.connections, live._bookmarks, live.of_login(login)) == (set(), {}, 0)
