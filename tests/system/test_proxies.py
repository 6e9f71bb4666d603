"""What comes through Apache, HAProxy and Caddy, with the files that are shipped for them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from fastx_list.config import load
from fastx_list.model.session import Session
from fastx_list.store import open_store
from tests.conftest import session
from tests.support import Answer, needs_root, wait_for
from tests.system.nginx_site import traces
from tests.system.proxies import FILES, HOST, STARTED, Proxy, proxies
from tests.system.refused import REFUSED, has_one_form, send

# What these refuse before their files are asked how, and so in words of their own
OWN_WORDS = {
    "apache2": set[str](),
    "haproxy": {
        "no request line",
        "no version",
        "a byte that is not ASCII",
        "two Hosts",
        "an unknown transfer coding",
        "two lengths",
        "a length that is no number",
        "a chunk without a length",
        "a chunk without its end",
        "too long a request line",
        "too long a header",
        "too many headers",
        "a header without a colon",
        "a blank in a header's name",
        "a handshake without a key",
    },
    "caddy": {
        "no request line",
        "no version",
        "a version that is none",
        "a malformed percent encoding",
        "no Host",
        "two Hosts",
        "a malformed Host",
        "an unknown expectation",
        "an unknown transfer coding",
        "two lengths",
        "a length that is no number",
        "a header without a colon",
        "a blank in a header's name",
        "a NUL in a header",
    },
}
JSON = {"Content-Type": "application/json"}
Observe = Callable[..., None]


@pytest.fixture(scope="module", params=list(STARTED))
def proxy(place: Path, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    needs_root()
    below = place / request.param
    below.mkdir()
    yield from proxies(below, request.param)


@pytest.fixture
def token(proxy: Proxy) -> Iterator[str]:
    """A token of alice, which is in no log at the end."""
    token = proxy.service.token("alice")
    yield token
    assert traces(proxy.logged(), [token]) == []


@pytest.fixture
def observe(proxy: Proxy) -> Iterator[Observe]:
    store = open_store(load(proxy.service.environ).store)

    def observe(*sessions: Session) -> None:
        store.observe("here", {session.id: session for session in sessions})

    yield observe
    observe()
    store.close()


def error(answer: Answer) -> dict[str, str]:
    assert answer.headers["Content-Type"] == "application/json", (answer.status, answer.body)
    assert answer.headers["Cache-Control"] == "no-store" and answer.json.keys() == {"error"}
    found: dict[str, str] = answer.json["error"]
    assert found.keys() == {"name", "message"}
    return found


def test_the_list_is_there(proxy: Proxy, token: str, observe: Observe) -> None:
    observe(session("a", clients=0), session("b", clients=1, command="x y,z"))
    listed = proxy.ask(f"/api/list/{token}?sortBy=id&filter%5B%5D=clients%3D%3D0")
    assert [each["id"] for each in listed.json] == ["a"]
    assert listed.headers["X-Total-Count"] == "1"
    again = {"If-None-Match": listed.headers["ETag"]}
    assert proxy.ask(f"/api/list/{token}?filter=clients==0", headers=again).status == 304
    body = json.dumps({"filter": 'command=="x y,z"', "token": token}).encode()
    assert [each["id"] for each in proxy.ask("/api/list/", "POST", body, JSON).json] == ["b"]
    body = json.dumps({"id": "a", "params": {"long": "x" * 7000}}).encode()
    named = proxy.ask(f"/api/params/{token}", "POST", body, JSON)
    assert named.json["params"] == {"long": "x" * 7000}
    assert proxy.ask("/").headers["Content-Type"].startswith("text/html")
    assert proxy.ask("/api/openapi.json").json["servers"] == [{"url": "/"}]


def test_a_websocket_follows_for_as_long_as_it_lasts(
    proxy: Proxy, token: str, observe: Observe
) -> None:
    observe(session("a"))
    for address in (f"/api/list?token={token}&filter[]=id==a", f"/api/list/{token}?filter=id==a"):
        with connect(f"wss://{HOST}:{proxy.port}{address}", ssl=proxy.tls) as follower:
            assert json.loads(follower.recv(timeout=60))["data"]["id"] == "a"
            observe(session("a", clients=3))
            assert json.loads(follower.recv(timeout=60))["data"]["clients"] == 3
            observe()
            assert json.loads(follower.recv(timeout=60)) == {"id": "a", "data": None}
            observe(session("a"))


def test_what_a_client_says_of_itself_is_not_believed(proxy: Proxy, token: str) -> None:
    """Its address is that which the proxy saw, and a page of another host is one, whatever it calls
    itself."""
    said = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=192.0.2.1",
    }
    answer = proxy.ask("/api/openapi.json", headers=said, source="127.0.0.9")
    assert answer.json["servers"] == [{"url": "/"}]
    wait_for("the line of the access log", lambda: "127.0.0.9 - - [" in proxy.processes.log("list"))
    assert "192.0.2.1" not in proxy.processes.log("list")
    url = f"wss://{HOST}:{proxy.port}/api/list?token={token}"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, ssl=proxy.tls, origin=Origin("https://evil.example"), additional_headers=said)
    assert refused.value.response.status_code == 403
    with connect(url, ssl=proxy.tls, origin=Origin(f"https://{HOST}")):
        pass


def test_errors_are_the_apis_and_say_nothing_of_guesses(proxy: Proxy, token: str) -> None:
    assert error(proxy.ask("/api/list/x"))["name"] == "AuthError"
    refused = proxy.ask("/api/list")
    assert error(refused)["name"] == "AuthError" and "X-Token-Guessed" not in refused.headers
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    wrong = proxy.ask(f"/api/list/{token}?filters=x")
    assert "filter=name==value1" in error(wrong)["message"]
    assert error(proxy.ask(f"/api/list/{token}/x%2Fy"))["name"] == "NotFound"
    for size in (65_537, 70_000):
        long = proxy.ask(f"/api/params/{token}", "POST", b"x" * size, JSON)
        assert long.status == 413 and error(long)["name"] == "PayloadTooLarge"
    compressed = proxy.ask(f"/api/list/{token}", "POST", b"x", {**JSON, "Content-Encoding": "gzip"})
    assert compressed.status == 415 and error(compressed)["name"] == "UnsupportedMediaType"


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_refusal_has_the_one_form_or_the_guide_says_otherwise(
    proxy: Proxy, token: str, wrong: str
) -> None:
    answer = send(REFUSED[wrong].replace(b"TOKEN", token.encode()), proxy.port, proxy.tls)
    if answer.status != 200 and not has_one_form(answer):
        assert wrong in OWN_WORDS[proxy.name], (answer.status, answer.body)
        assert answer.headers["Content-Type"] != "application/json"
        assert str(answer.status) in said_of(proxy.name)
    assert 400 <= answer.status < 500 or answer.status in (501, 505) or answer.json == []
    assert proxy.ask(f"/api/list/{token}").status == 200


def said_of(name: str) -> str:
    """Return what the guide says of refusals in a proxy's own words."""
    guide = (FILES.parent / "install.md").read_text(encoding="utf-8")
    said = re.search(rf"^- {name}: .*(?:\n  .*)*", guide, re.IGNORECASE | re.MULTILINE)
    return said[0] if said else ""


def test_plain_http_leads_to_https(proxy: Proxy) -> None:
    with socket.create_connection((HOST, proxy.plain_port), timeout=60) as plain:
        plain.sendall(b"GET /docs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = plain.recv(65536).decode()
    assert answer.split()[1] in ("301", "308") and "ocation: https://localhost" in answer


def test_it_says_when_a_service_is_away_and_logs_no_token(
    proxy: Proxy, token: str, observe: Observe
) -> None:
    observe(session("a"))
    url = f"wss://{HOST}:{proxy.port}/api/list?token={token}"
    for name in ("list", "live"):
        proxy.end(name)
    away = proxy.ask(f"/api/list/{token}?limit=1", headers={"Referer": f"https://x/{token}"})
    assert away.status in (502, 503) and error(away)["name"] == "Unavailable"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, ssl=proxy.tls)
    assert refused.value.response.status_code in (502, 503)
    for name in ("list", "live"):
        proxy.serve(name)
    wait_for("the list", lambda: proxy.ask(f"/api/list/{token}").status == 200)
    wait_for("the sidecar", lambda: follows(proxy, url))


def follows(proxy: Proxy, url: str) -> bool:
    try:
        with connect(url, ssl=proxy.tls) as follower:
            return bool(json.loads(follower.recv(timeout=60))["id"] == "a")
    except InvalidStatus:
        return False
