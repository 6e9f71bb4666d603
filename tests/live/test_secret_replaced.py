from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support import Service, wait_for


def is_refused(live: Service, token: str) -> bool:
    try:
        with connect(f"{live.live_url}?token={token}"):
            return False
    except InvalidStatus as refused:
        return refused.response.status_code == 401


def test_when_the_secret_is_replaced_connections_of_the_former_one_end_and_stay_out(
    live: Service, alice: str
) -> None:
    with connect(f"{live.live_url}?token={alice}") as connection:
        secret = live.state / "secret"
        (live.state / "new").write_text("n" * 64)
        (live.state / "new").chmod(0o600)
        (live.state / "new").rename(secret)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=30)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
    wait_for("the other worker", lambda: is_refused(live, alice))
    with connect(f"{live.live_url}?token={live.token('alice')}"):
        pass
