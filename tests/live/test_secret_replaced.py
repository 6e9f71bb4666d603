from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support import Service, wait_for


def is_refused(live: Service, token: str) -> bool:
    try:
        with connect(f"{live.live_url}?token={token}"):
            return False
    except InvalidStatus as refused:
        return refused.response.status_code == 401


def exchange_secret(live: Service) -> None:
    (live.state / "new").write_text("n" * 64)
    (live.state / "new").chmod(0o600)
    (live.state / "new").rename(live.state / "secret")


def test_when_the_secret_is_replaced_connections_of_the_former_one_end_and_stay_out(
    live: Service, alice: str
) -> None:
    with connect(f"{live.live_url}?token={alice}") as connection:
        exchange_secret(live)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=30)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
    wait_for("the other worker", lambda: is_refused(live, alice))
    with connect(f"{live.live_url}?token={live.token('alice')}"):
        pass


def test_who_comes_with_a_token_of_the_new_secret_is_not_sent_away(
    live: Service, alice: str
) -> None:
    with ExitStack() as stack:

        def connected(token: str) -> ClientConnection:
            return stack.enter_context(connect(f"{live.live_url}?token={token}"))

        former = [connected(alice) for _ in range(8)]
        exchange_secret(live)
        bob = live.token("bob")
        later: list[ClientConnection] = []
        while len(later) < 8:
            with suppress(InvalidStatus):  # as long as a worker has not looked
                later.append(connected(bob))
        for connection in former:
            with pytest.raises(ConnectionClosed):
                while True:
                    connection.recv(timeout=30)
        for connection in later:
            assert connection.ping().wait(30)
