"""The sidecar goes on after an outage of the store and after mistakes of its own."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from fastx_list.store import Store
from tests.conftest import session
from tests.live.clients import Observe, first_id, follow, take, upgrade
from tests.support import Service, fetch, wait_for


def test_the_connection_outlives_an_outage_of_the_store(
    live: Service, alice: str, observe: Observe, store: Store
) -> None:
    observe(session("a"))
    with follow(live, alice) as connection:
        take(connection)
        store.close()
        database = live.state / "sessions.db"
        for file in live.state.glob("sessions.db*"):
            file.rename(file.with_name(file.name.replace("sessions.db", "away")))
        database.mkdir()
        wait_for("the outage to be noticed", lambda: "cannot be read" in live.processes.log("live"))
        database.rmdir()
        for file in live.state.glob("away*"):
            file.rename(file.with_name(file.name.replace("away", "sessions.db")))
        observe(session("b"))
        assert {take(connection)[0], take(connection)[0]} == {"a", "b"}


FORGETFUL = """
import os
from fastx_list import create_live_app
from fastx_list.replica.replica import Replica

live = create_live_app()
follow = Replica.follow

def stumble(replica, timeout):
    changes = follow(replica, timeout)
    if os.path.exists("mistake"):
        raise RuntimeError("it stumbles")
    return changes

Replica.follow = stumble
"""


def test_following_goes_on_after_a_mistake_and_whoever_may_have_missed_a_change_is_told(
    service: Service, observe: Observe, tmp_path: Path
) -> None:
    ready = f"http://127.0.0.1:{service.live_port}/ready"
    (tmp_path / "wsgi.py").write_text(FORGETFUL)
    service.cwd = tmp_path
    service.environ["FASTX_LIST_SERVER_ID"] = "here"
    service.start_live("wsgi:live")
    observe(session("a", clients=0), session("b"))
    token = service.token("alice")
    wait_for("the sessions", lambda: first_id(service, token))
    with follow(service, token) as connection:
        assert {take(connection)[0], take(connection)[0]} == {"a", "b"}
        mistake = tmp_path / "mistake"
        mistake.touch()
        observe(session("a", clients=1), session("b"))
        wait_for("what it says of it", lambda: fetch(ready).status == 503)
        assert fetch(ready.replace("ready", "health")).status == 200
        mistake.unlink()
        observe(session("a", clients=1), session("b", clients=2))
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                assert take(connection)[0] == "b"  # that of a came and went with the mistake
        assert (
            closed.value.rcvd is not None
            and closed.value.rcvd.code == 1001
            and "missed" in closed.value.rcvd.reason
        )
    wait_for("its end", lambda: fetch(ready).status == 200)
    with follow(service, token) as connection:
        assert {
            name: data and data["clients"] for name, data in (take(connection), take(connection))
        } == {"a": 1, "b": 2}
        observe(session("a", clients=1))
        assert take(connection) == ("b", None)
    assert "Traceback" in service.processes.log("live")


STUMBLING = """
from fastx_list import create_live_app
from fastx_list.live.connection import Connection

live = create_live_app()
tend = Connection.tend

def stumble(*arguments):
    Connection.tend = tend
    raise RuntimeError("it stumbles")

Connection.tend = stumble
"""


def test_connections_are_tended_also_after_a_mistake(service: Service, tmp_path: Path) -> None:
    (tmp_path / "wsgi.py").write_text(STUMBLING)
    service.cwd = tmp_path
    service.environ["FASTX_LIST_PING_INTERVAL"] = "0.5"
    service.start_live("wsgi:live")
    with socket.create_connection(("127.0.0.1", service.live_port), timeout=20) as connection:
        connection.sendall(upgrade(service, service.token("alice")))
        received = b""
        while b"\x89\x00" not in received:
            received += connection.recv(4096)
    assert "it stumbles" in service.processes.log("live")


def test_handshakes_wait_a_moment_for_a_store_that_was_never_read(service: Service) -> None:
    token = service.token("alice")
    database = service.state / "sessions.db"
    database.mkdir()
    service.start_live()
    wait_for("the outage to be noticed", lambda: "cannot be read" in service.processes.log("live"))
    address = ("127.0.0.1", service.live_port)
    with socket.create_connection(address, timeout=20) as patient:
        patient.sendall(upgrade(service, token))
        with socket.create_connection(address) as leaving:
            leaving.sendall(upgrade(service, token))
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        database.rmdir()
        assert patient.recv(12) == b"HTTP/1.1 101"
    assert "Traceback" not in service.processes.log("live")


def test_who_hangs_up_in_the_middle_of_a_request_is_no_mistake(live: Service, alice: str) -> None:
    with socket.create_connection(("127.0.0.1", live.live_port)) as leaving:
        leaving.sendall(upgrade(live, alice)[:-2])
        assert fetch(f"http://127.0.0.1:{live.live_port}/health").status == 200
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with follow(live, alice):
        pass
