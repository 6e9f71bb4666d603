from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support import Service


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
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{live.live_url}?token={alice}")
    assert refused.value.response.status_code == 401
    with connect(f"{live.live_url}?token={live.token('alice')}"):
        pass
