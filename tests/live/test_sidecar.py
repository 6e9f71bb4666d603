"""The sidecar as it runs: gunicorn's gevent worker, real sockets, a WebSocket client that is not
ours."""

from __future__ import annotations

import json
import select
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fastx_list.store import Store
from tests.conftest import session
from tests.support import Service, end, fetch, wait_for

Observe = Callable[..., None]


@pytest.fixture
def live(service: Service, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A running sidecar; ``@pytest.mark.settings(NAME=value)`` sets settings."""
    marker = request.node.get_closest_marker("settings")
    service.environ |= {
        f"FASTX_LIST_{name}": value for name, value in (marker.kwargs if marker else {}).items()
    }
    service.environ["FASTX_LIST_SERVER_ID"] = "here"
    service.start_live()
    yield service
    assert "Traceback" not in service.processes.log("live")


@pytest.fixture
def alice(live: Service) -> str:
    return live.token("alice")


def follow(service: Service, token: str, query: str = "", **options: Any) -> ClientConnection:
    connection: ClientConnection = connect(f"{service.live_url}?token={token}{query}", **options)
    return connection


def take(connection: ClientConnection) -> tuple[str, dict[str, Any] | None]:
    message = json.loads(connection.recv(timeout=20))
    assert message.keys() == {"id", "data"}
    return message["id"], message["data"]


def refused(service: Service, query: str, **options: Any) -> tuple[int, dict[str, str]]:
    """Return the status and the error of a connection that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        with connect(f"{service.live_url}{query}", **options):
            pass
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/json"
    error: dict[str, str] = json.loads(response.body or b"")["error"]
    return response.status_code, error


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
    wait_for("the snapshot", lambda: _first(live, alice) == "a")
    with follow(live, alice, "&snapshot=0") as connection:
        observe(session("a"), session("b"))
        assert take(connection)[0] == "b"


def _first(service: Service, token: str) -> str | None:
    with follow(service, token) as connection:
        try:
            return str(json.loads(connection.recv(timeout=0.2))["id"])
        except TimeoutError:
            return None


def test_a_filter_holds_for_snapshot_and_changes(
    live: Service, alice: str, observe: Observe
) -> None:
    observe(session("a", clients=0), session("b", clients=1))
    wait_for("the snapshot", lambda: _first(live, alice))
    with follow(live, alice, "&filter=clients%3D%3D1,2&filter=login%3D%3Dalice") as connection:
        assert take(connection)[0] == "b"
        observe(session("a", clients=1), session("b", clients=1))
        assert take(connection)[0] == "a"
        observe(session("a", clients=1), session("b", clients=0), session("c", clients=0))
        assert take(connection) == ("b", None)
        observe(session("a", clients=2))
        assert take(connection)[0] == "a"


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("", 401, "there is none"),
        ("?token=x", 401, "well-formed"),
        ("?token={good}&filter=x", 400, "filter: takes name==value1"),
        ("?token={good}&snapshot=perhaps", 400, "snapshot: takes true or false"),
        ("?token={expired}", 401, "expired"),
    ],
)
def test_it_is_refused_before_the_upgrade(
    live: Service, alice: str, query: str, status: int, word: str
) -> None:
    expired = jwt.encode(
        {"sub": "alice", "aud": "api", "exp": 1}, (live.state / "secret").read_text().strip()
    )
    answer, error = refused(live, query.format(good=alice, expired=expired))
    assert answer == status and word in error["message"]


def test_the_token_may_stand_in_a_header(live: Service, alice: str, observe: Observe) -> None:
    observe(session("a"))
    with connect(
        live.live_url, additional_headers={"Authorization": f"Bearer {alice}"}
    ) as connection:
        assert take(connection)[0] == "a"


@pytest.mark.settings(ALLOWED_ORIGINS="https://portal.example.org")
def test_pages_of_other_hosts_are_refused(live: Service, alice: str) -> None:
    answer, error = refused(live, f"?token={alice}", origin="https://evil.example.org")
    assert answer == 403 and error["name"] == "Forbidden" and "Origin" in error["message"]
    for origin in ("https://portal.example.org", "http://127.0.0.1:8000"):
        with follow(live, alice, origin=origin):
            pass


@pytest.mark.settings(MAX_SUBSCRIBERS_PER_LOGIN="2")
def test_one_login_has_only_so_many_connections(
    live: Service, alice: str, observe: Observe
) -> None:
    observe(session("a"))
    with follow(live, alice) as first, follow(live, alice) as second:
        assert take(first)[0] == take(second)[0] == "a"
        answer, error = refused(live, f"?token={alice}")
        assert answer == 429 and error["name"] == "TooManyRequests"
        with follow(live, live.token("bob")):
            pass
    wait_for("a place", lambda: _first(live, alice) == "a")


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


def test_a_body_that_never_comes_is_not_waited_for(
    live: Service, alice: str, observe: Observe
) -> None:
    observe(session("a"))
    for header in ({"Content-Length": "10"}, {"Transfer-Encoding": "chunked"}):
        for kind in (
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=b",
            "application/json",
        ):
            request = _upgrade(live, "", **header, **{"Content-Type": kind})
            assert "there is none" in _raw_answer(live, request)[1]
            with socket.create_connection(("127.0.0.1", live.live_port), timeout=20) as connection:
                connection.sendall(request.replace(b"?token=", f"?token={alice}".encode()))
                assert connection.recv(65536).startswith(b"HTTP/1.1 101")


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
        dead.sendall(_upgrade(live, alice))
        dead.settimeout(20)
        received = b""
        while chunk := dead.recv(4096):  # it never answers a ping, so this comes to an end
            received += chunk
        assert b"\x89\x00" in received
        observe(session("a"))
        assert take(living)[0] == "a"


def _upgrade(service: Service, token: str, **headers: str) -> bytes:
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


def test_compression_is_not_negotiated(live: Service, alice: str) -> None:
    with follow(live, alice, compression="deflate") as connection:
        assert (
            connection.response is not None
            and "Sec-WebSocket-Extensions" not in connection.response.headers
        )


def _raw_answer(service: Service, request: bytes) -> tuple[str, str]:
    """Return the head of the answer to ``request``, which is an error, and its message."""
    with socket.create_connection(("127.0.0.1", service.live_port), timeout=20) as connection:
        connection.sendall(request)
        answer = connection.recv(65536)
        while b"}}" not in answer:
            answer += connection.recv(65536)
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head, json.loads(body)["error"]["message"]


def test_a_wrong_handshake_is_refused(live: Service, alice: str) -> None:
    here = f"http://127.0.0.1:{live.live_port}"
    for headers, status, word in (
        ({"Sec-WebSocket-Version": "8"}, 426, "Sec-WebSocket-Version: takes 13"),
        ({"Sec-WebSocket-Version": ""}, 426, "Sec-WebSocket-Version: takes 13"),
        ({"Sec-WebSocket-Key": "short"}, 400, "Sec-WebSocket-Key"),
        ({"Origin": "http://["}, 403, "Origin"),
        ({"Origin": here, "Host": "[x"}, 403, "Origin"),
        ({"Origin": "null"}, 403, "Origin"),
        ({"Origin": "null", "Host": ":80"}, 403, "Origin"),
    ):
        head, message = _raw_answer(live, _upgrade(live, alice, **headers))
        assert head.startswith(f"HTTP/1.1 {status}") and word in message
        # RFC 6455 section 4.4 and RFC 9110 section 15.5.22: who speaks another version is told
        # which one is understood.
        for header in ("Sec-WebSocket-Version: 13", "Upgrade: websocket", "Connection: upgrade"):
            assert (header in head) == (status == 426)


def test_a_request_without_an_upgrade_is_told_where_it_is(live: Service, alice: str) -> None:
    answer = fetch(f"http://127.0.0.1:{live.live_port}/api/list?token={alice}")
    assert answer.status == 400 and "WebSocket" in answer.json["error"]["message"]
    assert fetch(f"http://127.0.0.1:{live.live_port}/nothing").json["error"]["name"] == "NotFound"


def test_a_slow_reader_gets_the_last_state_and_costs_the_others_nothing(
    live: Service, alice: str, observe: Observe, store: Store
) -> None:
    with (
        socket.create_connection(("127.0.0.1", live.live_port)) as slow,
        follow(live, alice) as quick,
    ):
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(_upgrade(live, alice))
        observe(session("a", params={"text": "x" * 8000}))
        for count in range(1, 2001):
            store.set_params("a", "alice", {"n": count})
        deadline = time.monotonic() + 20
        while (data := take(quick)[1]) is not None and data["params"].get("n") != 2000:
            assert time.monotonic() < deadline
        slow.settimeout(20)
        received = slow.recv(65536)
        while b'"n":2000}' not in received[-9000:]:
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
    assert seen == sorted(set(seen)) and seen[-1] == 2000 and len(seen) < 2001


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


def test_a_handshake_waits_a_moment_for_the_store_to_be_read_for_the_first_time(
    service: Service, observe: Observe
) -> None:
    database = service.state / "sessions.db"
    database.mkdir(parents=True)
    service.start_live()
    request = _upgrade(service, service.token("alice"))
    head, message = _raw_answer(service, request)
    assert head.startswith("HTTP/1.1 503") and "cannot be read yet" in message
    with socket.create_connection(("127.0.0.1", service.live_port), timeout=20) as early:
        early.sendall(request)
        # So that one has had its turn, too
        assert fetch(f"http://127.0.0.1:{service.live_port}/ready").status == 503
        assert not select.select([early], [], [], 0)[0]
        database.rmdir()
        assert early.recv(65536).startswith(b"HTTP/1.1 101")


def test_following_goes_on_after_a_mistake_and_whoever_may_have_missed_a_change_is_told(
    service: Service, observe: Observe
) -> None:
    ready = f"http://127.0.0.1:{service.live_port}/ready"
    service.environ["FASTX_LIST_SERVER_ID"] = "here"
    service.start_live()
    observe(session("a", clients=0), session("b"))
    token = service.token("alice")
    wait_for("the sessions", lambda: _first(service, token))
    with follow(service, token) as connection:
        assert {take(connection)[0], take(connection)[0]} == {"a", "b"}
        with (
            closing(sqlite3.connect(service.state / "sessions.db", timeout=20)) as database,
            database,
        ):
            [(text, revision)] = database.execute(
                "SELECT text, (SELECT revision FROM meta) FROM session WHERE id = 'b'"
            )
            put = "UPDATE session SET text = ?, revision = ? WHERE id = ?"
            text = text.replace('"id":"b"', '"id":"a"').replace('"clients":null', '"clients":1')
            database.execute(put, (text, revision + 1, "a"))
            database.execute(put, (b"no text", revision + 2, "b"))  # which nobody is prepared for
            database.execute("UPDATE meta SET revision = revision + 2")
        wait_for("what it says of it", lambda: fetch(ready).status == 503)
        assert fetch(ready.replace("ready", "health")).status == 200
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
        connection.sendall(_upgrade(service, service.token("alice")))
        received = b""
        while b"\x89\x00" not in received:
            received += connection.recv(4096)
    assert "it stumbles" in service.processes.log("live")


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
