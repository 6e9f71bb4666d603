"""Who asks the wrong process is told where the right one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient

from fastx_list import create_app, create_live_app
from tests.answers import Issue, error

Ask = Callable[..., FlaskClient]
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.fixture
def of(environ: dict[str, str]) -> Iterator[Ask]:
    """Makes a client of the list or of the sidecar, with these settings."""
    apps = []

    def make(live: bool, **settings: str) -> FlaskClient:
        more = {f"FASTX_LIST_{name}": value for name, value in settings.items()}
        apps.append((create_live_app if live else create_app)({**environ, **more}))
        return apps[-1].test_client()

    yield make
    for app in apps:
        app.extensions["fastx-list"].store.close()


@pytest.mark.parametrize(
    ("host", "there"),
    [
        ("list.example:8000", "ws://list.example:8001/"),
        ("[::1]:8000", "ws://[::1]:8001/"),
        ("[", "a port of its own"),
    ],
)
def test_a_handshake_is_told_by_the_list_where_the_sidecar_is(
    of: Ask, token: Issue, host: str, there: str
) -> None:
    client, good = of(live=False, LIVE_PORT="8001"), token("alice")
    client.get(f"/api/list/{good}")  # so that it is a known one
    for path in ("/api/list", f"/api/list?token={good}", f"/api/list/{good}", "/api/list/"):
        answer = client.get(path, headers={**HANDSHAKE, "Host": host})
        message = error(answer, 400, "ValidationError")
        assert "takes no WebSockets; the sidecar does, at " in message and there in message
        assert good not in answer.text and message.endswith("/api/list") is (host != "[")
    answer = client.get("/api/admin/session", headers={**HANDSHAKE, "Host": "here"})
    assert "ws://here:8001/api/admin/session" in error(answer, 400, "ValidationError")
    answer = client.get("/api/list", headers=HANDSHAKE, base_url="https://here")
    assert "wss://here:8001/api/list" in error(answer, 400, "ValidationError")


def test_a_request_is_told_by_the_sidecar_where_the_list_is(of: Ask, token: Issue) -> None:
    client, good = of(live=True, LIST_PORT="8000"), token("alice")
    there = "the list over HTTP is another process, at http://localhost:8000/api/list"
    for path in ("/api/list", f"/api/list/{good}", f"/api/list/{good}/", "/api/list?limit=1"):
        assert error(client.get(path), 400, "ValidationError").endswith(f"only; {there}")
    for path in (f"/api/params/{good}", "/", "/docs", "/api/lost"):
        assert error(client.post(path), 404, "NotFound").endswith(f"address; {there}")
    for path in ("/api/list", f"/api/list/{good}", "/health"):
        answer = client.post(path, json={"token": good})
        assert error(answer, 405, "MethodNotAllowed").endswith(f"method; {there}")
        assert "GET" in answer.headers["Allow"]
    for answer in (client.get("/api/admin/server/x"), client.get("/api/admin/server")):
        assert "http://localhost:8000/api/admin/server" in error(answer, 400, "ValidationError")


def test_a_handshake_at_a_wrong_address_is_told_where_the_right_one_is(
    of: Ask, token: Issue
) -> None:
    there = "this address takes no WebSockets; the sidecar does, at ws://localhost:8001"
    good, live_port = token("alice"), {"LIVE_PORT": "8001"}
    client = of(live=False, **live_port)
    for path in ("/ws", f"/ws/{good}", "/api/lists"):
        message = error(client.get(path, headers=HANDSHAKE), 404, "NotFound")
        assert message == f"{there}/api/list"
    for path in (f"/api/params/{good}", "/api/params"):
        answer = client.get(path, headers=HANDSHAKE)
        assert error(answer, 405, "MethodNotAllowed") == f"{there}/api/list"
        assert "POST" in answer.headers["Allow"]
    assert "WebSocket" not in error(client.get("/ws"), 404, "NotFound")
    answer = client.get("/api/params")
    assert "WebSocket" not in error(answer, 405, "MethodNotAllowed")
    assert "POST" in answer.headers["Allow"]

    client, where = of(live=True, LIST_PORT="8000"), "a WebSocket is a GET of /api/list?token=…"
    for path in ("/ws", f"/api/params/{good}", "/"):
        message = error(client.get(path, headers=HANDSHAKE), 404, "NotFound")
        assert message == f"there is nothing at this address; {where}"
    message = error(client.get(f"/api/admin/server/{good}/x", headers=HANDSHAKE), 404, "NotFound")
    assert message.endswith("a WebSocket is a GET of /api/admin/server?token=…")
    message = error(client.get("/health", headers=HANDSHAKE), 400, "ValidationError")
    assert message == f"this address takes no WebSockets; {where}"
    for method in ("POST", "PUT"):
        answer = client.open(f"/api/list/{good}", method=method, headers=HANDSHAKE)
        message = error(answer, 405, "MethodNotAllowed")
        assert message == f"this address does not take that method; {where}"


def test_where_it_is_not_known_it_is_said_that_there_is_another(of: Ask) -> None:
    answer = of(live=False).get("/api/list", headers=HANDSHAKE)
    assert error(answer, 400, "ValidationError").endswith("the sidecar does, at a port of its own")
    answer = of(live=True).get("/api/list")
    assert error(answer, 400, "ValidationError").endswith("process, at a port of its own")
