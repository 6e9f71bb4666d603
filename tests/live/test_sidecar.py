"""The sidecar as it runs: gunicorn's gevent worker, real sockets, a WebSocket client that is not
ours."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from fastx_list.store import Store
from tests.conftest import session
from tests.live.clients import Observe, first_id, follow, refused, take, upgrade
from tests.support import Service, end, fetch, wait_for


def test_a_snapshot_comes_first_then_every_change(
    live: Service, alice: str, observe: Observe, store: Store
) -> None:
    observe(session("a", clients=0), session("b", "bob"))
    with follow(live, alice) as connection:
        name, data = take(connection)
        assert (name, data and data["clients"], data and data["login"]) == ("a", 0, "alice")
        observe(session("a", clients=1), session("b", "bob", clients=5), session("c"))
        assert [take(connection)[0], take(connection)[0]] == ["a", "c"]
        store.set_params("a", "alice", {"name": "Thesis"})
        name, data = take(connection)
        assert (
            name == "a"
            and data is not None
            and data["params"] == {"name": "Thesis"}
            and data["clients"] == 1
        )
        observe(session("c"))
        assert take(connection) == ("a", None)


def test_the_snapshot_can_be_left_out(live: Service, alice: str, observe: Observe) -> None:
    observe(session("a"))
    wait_for("the snapshot", lambda: first_id(live, alice) == "a")
    with follow(live, alice, "&snapshot=0") as connection:
        observe(session("a"), session("b"))
        assert take(connection)[0] == "b"


def test_a_filter_holds_for_snapshot_and_changes(
    live: Service, alice: str, observe: Observe
) -> None:
    observe(session("a", clients=0), session("b", clients=1))
    wait_for("the snapshot", lambda: first_id(live, alice))
    with follow(live, alice, "&filter=clients%3D%3D1,2&filter=login%3D%3Dalice") as connection:
        assert take(connection)[0] == "b"
        observe(session("a", clients=1), session("b", clients=1))
        assert take(connection)[0] == "a"
        observe(session("a", clients=1), session("b", clients=0), session("c", clients=0))
        assert take(connection) == ("b", None)
        observe(session("a", clients=2))
        assert take(connection)[0] == "a"


def test_a_token_that_expires_or_is_revoked_ends_the_connection(
    live: Service, alice: str, observe: Observe
) -> None:
    observe(session("a"))
    short = live.token("alice", ttl=3)
    with (
        follow(live, alice) as revoked,
        follow(live, short) as expired,
        follow(live, live.token("alice")) as untouched,
    ):
        for connection in (revoked, expired, untouched):
            take(connection)
        live.run("token", "revoke", alice)
        for connection, reason in ((revoked, "revoked"), (expired, "expired")):
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(timeout=20)
            assert (
                closed.value.rcvd is not None
                and closed.value.rcvd.code == 4401
                and reason in closed.value.rcvd.reason
            )
        observe()
        assert take(untouched) == ("a", None)
    assert refused(live, f"?token={alice}")[0] == 401


def test_a_shutdown_says_goodbye(live: Service, alice: str, observe: Observe) -> None:
    observe(session("a"))
    with follow(live, alice) as connection:
        take(connection)
        live.running["live"].send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
    assert live.running["live"].wait(20) == 0


ENDLESS = """
import gevent
from fastx_list import create_live_app

live = create_live_app()

@live.get("/endless")
def endless():
    print("waiting", flush=True)
    gevent.sleep(3600)
"""


def test_a_shutdown_says_goodbye_also_while_a_request_does_not_end(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "wsgi.py").write_text(ENDLESS)
    service.cwd = tmp_path
    service.start_live("wsgi:live")
    with (
        follow(service, service.token("alice")) as connection,
        socket.create_connection(("127.0.0.1", service.live_port)) as other,
    ):
        other.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for("it", lambda: "waiting" in service.processes.log("live"))
        service.running["live"].send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
    assert service.running["live"].wait(20) == 0


def test_a_message_of_a_kibibyte_is_ignored_and_a_longer_one_ends_the_connection(
    live: Service, alice: str, observe: Observe
) -> None:
    with follow(live, alice) as connection:
        connection.send("x" * 1024)
        connection.send(b"y" * 1024)
        observe(session("a"))
        assert take(connection)[0] == "a"
        connection.send("x" * 1025)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


@pytest.mark.settings(PING_INTERVAL="0.5")
def test_a_dead_peer_is_found_and_a_living_one_is_kept(
    live: Service, alice: str, observe: Observe
) -> None:
    with (
        follow(live, alice) as living,
        socket.create_connection(("127.0.0.1", live.live_port)) as dead,
    ):
        dead.sendall(upgrade(live, alice))
        dead.settimeout(20)
        received = b""
        while chunk := dead.recv(4096):  # it never answers a ping, so this comes to an end
            received += chunk
        assert b"\x89\x00" in received
        observe(session("a"))
        assert take(living)[0] == "a"


def test_a_slow_reader_gets_the_last_state_and_costs_the_others_nothing(
    live: Service, alice: str, observe: Observe, store: Store
) -> None:
    with (
        socket.create_connection(("127.0.0.1", live.live_port)) as slow,
        follow(live, alice) as quick,
    ):
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.sendall(upgrade(live, alice))
        observe(session("a", params={"text": "x" * 8000}))
        for count in range(1, 501):
            store.set_params("a", "alice", {"n": count})
        deadline = time.monotonic() + 20
        while (data := take(quick)[1]) is not None and data["params"].get("n") != 500:
            assert time.monotonic() < deadline
        slow.settimeout(20)
        received = slow.recv(65536)
        while b'"n":500}' not in received[-9000:]:
            received += slow.recv(65536)
    head, _, frames = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    seen = []
    while frames:
        if frames[:2] == b"\x89\x00":  # a ping
            frames = frames[2:]
            continue
        # Whole text frames of 126 to 65,535 bytes, and nothing else
        assert frames[0] == 0x81 and frames[1] == 126
        length = int.from_bytes(frames[2:4], "big")
        seen.append(json.loads(frames[4 : 4 + length])["data"]["params"].get("n", 0))
        frames = frames[4 + length :]
    assert seen == sorted(set(seen)) and seen[-1] == 500 and len(seen) < 501


def test_no_token_reaches_a_log(live: Service, alice: str) -> None:
    live.start_list()
    fetch(f"{live.url}/api/list/{alice}?token={alice}")
    fetch(f"{live.url}/api/list/{alice}/x", headers={"Referer": f"http://x/{alice}"})
    fetch(f"http://127.0.0.1:{live.live_port}/api/list?token={alice}")
    fetch(f"http://127.0.0.1:{live.live_port}/?token={alice}")
    with follow(live, alice):
        pass
    wait_for("the sidecar's log", lambda: "/?token=[token]" in live.processes.log("live"))
    logs = live.processes.log("list") + live.processes.log("live")
    assert "/api/list/[token]?token=[token]" in logs
    for part in alice.split("."):
        assert part not in logs


def test_two_masters_share_a_directory(live: Service) -> None:
    """Neither a control socket nor a pid file is in the way of a second one."""
    live.start_list()
    other = Service(live.state, live.processes)
    other.start_list()
    other.start_live()
    for running in (live, other):
        assert fetch(f"{running.url}/health").status == 200
    for process in other.running.values():
        end(process)
    assert fetch(f"{live.url}/health").status == 200
