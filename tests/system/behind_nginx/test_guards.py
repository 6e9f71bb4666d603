"""What nginx keeps out, writes down, and says of who asks."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingUnixStreamServer
from urllib.parse import quote

import pytest

from tests.support import Answer, Service, fetch, wait_for
from tests.system.behind_nginx.common import JSON, Token, is_error
from tests.system.nginx import HOST
from tests.system.nginx_site import Site
from tests.system.proxies import FILES
from tests.system.refused import REFUSED, has_one_form
from tests.system.traffic import follow, refusal


def test_bad_tokens_are_limited_and_good_ones_of_the_same_address_are_not(
    site: Site, token: Token, issued: list[str]
) -> None:
    good, bad = token(), f"{token()}x"
    issued.append(bad)
    body = b'{"id": "a", "params": {}}'

    def refused(address: str) -> Answer:
        return site.ask(f"/api/params/{bad}", "POST", body, JSON, source=address)

    # The application's own words arrive, whatever the request, until there are too many.
    is_error(refused("127.0.0.2"), 401, "AuthError")
    assert "signature" in refused("127.0.0.2").json["error"]["message"]
    assert refused("127.0.0.2").headers.get_all("WWW-Authenticate") == ["Bearer"]
    handshake = refusal(site, bad, local_addr=("127.0.0.2", 0))
    is_error(handshake, 401, "AuthError")
    answers = [refused("127.0.0.2") for _ in range(40)]
    assert {answer.status for answer in answers} == {401, 429}
    is_error(answers[-1], 429, "TooManyRequests")
    for url in (site.live_url, site.portal_live_url):
        is_error(refusal(site, bad, url, local_addr=("127.0.0.2", 0)), 429, "TooManyRequests")
    for _ in range(40):
        assert site.ask(f"/api/list/{good}", source="127.0.0.2").status == 200
    with follow(site, good, local_addr=("127.0.0.2", 0)):
        pass
    is_error(refused("127.0.0.3"), 401, "AuthError")  # other addresses notice nothing
    site.await_line('"POST /api/params/[token] HTTP/1.1" 429 ', "limit=REJECTED")


def test_what_nginx_itself_refuses_has_the_one_form_of_an_error(site: Site, token: Token) -> None:
    mine = token()
    api = f"/api/list/{mine}"
    for request, status, name in (
        ("nonsense", 400, "ValidationError"),
        (f"GET {api} nonsense", 400, "ValidationError"),
        (f"GET {api}%zz HTTP/1.1\r\nHost: localhost", 400, "ValidationError"),
        (f"GET {api} HTTP/1.1", 400, "ValidationError"),
        (f"TRACE {api} HTTP/1.1\r\nHost: localhost", 405, "MethodNotAllowed"),
        (
            f"POST {api} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000",
            413,
            "PayloadTooLarge",
        ),
        (f"GET {api}?{'x' * 9000} HTTP/1.1\r\nHost: localhost", 414, "ValidationError"),
        (f"GET {api}?{'x' * 20_000} HTTP/1.1\r\nHost: localhost", 414, "ValidationError"),
        (f"GET {api} HTTP/1.1\r\nHost: localhost\r\nX-A: {'x' * 9000}", 431, "ValidationError"),
        (f"GET {api} HTTP/1.1\r\nHost: localhost\r\nX-A: {'x' * 20_000}", 431, "ValidationError"),
        (
            f"POST {api} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip",
            501,
            "ValidationError",
        ),
        (f"GET {api} HTTP/7.0\r\nHost: localhost", 505, "ValidationError"),
    ):
        is_error(site.send(f"{request}\r\n\r\n".encode()), status, name)
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    head = f"POST {api} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    is_error(site.send(head + 3 * chunk + b"0\r\n\r\n"), 413, "PayloadTooLarge")
    is_error(
        site.send(f"GET {api} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), tls=False),
        400,
        "ValidationError",
    )
    below = (
        f"POST /fastx{api} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000\r\n\r\n".encode()
    )
    is_error(site.send(below, port=site.portal_port), 413, "PayloadTooLarge")
    said = site.curl(
        "--http2", "-w", "\n%{http_code}", "-H", f"X-A: {'x' * 9000}", f"{site.url}{api}"
    )
    assert said.endswith("\n431") and json.loads(said[:-4])["error"]["name"] == "ValidationError"


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_refusal_has_the_one_form_of_an_error_whatever_is_wrong(
    site: Site, token: Token, wrong: str
) -> None:
    answer = site.send(REFUSED[wrong].replace(b"TOKEN", token().encode()))
    assert answer.json == [] if answer.status == 200 else has_one_form(answer), answer


def test_no_log_holds_a_token_however_it_is_sent(site: Site, token: Token) -> None:
    mine = token()
    obscure = "".join(f"%{byte:02x}" for byte in mine.encode())
    paths = [
        f"/api/list/{mine}",
        f"/api/list/{mine}/",
        f"/api/list/{mine}?limit=1",
        f"//api//list//{mine}",
        f"/api/./list/{mine}",
        f"/x/../api/list/{mine}",
        f"/api%2Flist%2F{mine}",
        f"/api/list/{obscure}",
        f"/%61pi/list/{obscure}",
        f"/API/LIST/{mine}",
        f"/api/list/{mine.lower()}",
        f"/api/list;{mine}",
        f"/{mine}",
        f"/static/{mine}",
        f"/static/{obscure}",
        f"/health/{mine}",
        f"/api/list?token={mine}",
        f"/api/list?%74oken={mine}",
        f"/api/list?TOKEN={mine}",
        f"/api/list?sortBy={mine}",
        f"/api/list?limit=1&token={obscure}",
        f"/?{mine}",
        f"/?{mine}={mine}",
        f"/api/list#{mine}",
        f"/api/admin/session/{mine}",
        f"/api/params/{mine}",
        f"/api/list/{mine}\u00e9",
        quote(f'/api/list/"\\{mine}'),
        f"/api/list/{mine}" + "x" * 9000,
        f"/api/list/{mine}" + "x" * 20_000,
    ]
    headers = (
        f"Host: localhost\r\nReferer: https://localhost/api/list/{mine}\r\nUser-Agent:"
        f" {mine}\r\nAuthorization: Bearer {mine}\r\nCookie: token={mine}\r\nX-Forwarded-For:"
        f" {mine}\r\nConnection: close"
    )
    for prefix, port, tls in (
        ("", site.port, True),
        ("/fastx", site.portal_port, True),
        ("", site.plain_port, False),
    ):
        whole = [f"https://localhost{prefix}/api/list/{mine}", f"/%66astx/api/list/{mine}"]
        for target in [*(prefix + path for path in paths), *whole]:
            for head in (
                f"GET {target} HTTP/1.1\r\n{headers}",
                f"GET {target}",
                f"GET {target} HTTP/1.1\r\nHost: {'x' * 20_000}",
            ):
                site.send(f"{head}\r\n\r\n".encode("latin-1"), port=port, tls=tls)
    for logged in (
        '"GET /api/list/[token] HTTP/1.1"',
        '"GET /api/list/[token]?limit=1 HTTP/1.1"',
        '"GET /api/list?- HTTP/1.1"',
        '"GET /fastx/api/params/[token] HTTP/1.1"',
        '"GET - HTTP/1.1"',
    ):
        site.await_line(logged)
    site.ask("/static/page.js?sortBy=started&limit=5")
    site.await_line('"GET /static/page.js?sortBy=started&limit=5 HTTP/1.1" 200')


class Echo(BaseHTTPRequestHandler):
    """Answers with the request's headers."""

    def do_GET(self) -> None:
        body = json.dumps([self.path, self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return ""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def echoes(site: Site) -> Iterator[None]:
    """Put a server that says what it is sent in place of list and sidecar."""
    path = site.place / "echo.sock"
    with ThreadingUnixStreamServer(str(path), Echo) as server:
        path.chmod(0o666)
        threading.Thread(target=server.serve_forever).start()
        try:
            site.reload(
                **{"/run/fastx-list/list.sock": str(path), "/run/fastx-list/live.sock": str(path)}
            )
            yield
        finally:
            site.reload()
            server.shutdown()
    path.unlink()


def test_what_a_client_claims_about_itself_is_replaced(site: Site, token: Token) -> None:
    mine = token()
    forged = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=evil",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Port": "1",
        "X_Forwarded_For": "192.0.2.1",
        "Script_Name": "/evil",
    }
    raw = "/api/list/a%2Fb%3F%20c?x=%0d%0a%26"
    with echoes(site):
        for prefix, port in (("", site.port), ("/fastx", site.portal_port)):
            for more in ({}, {"Upgrade": "WebSocket", "Connection": "Upgrade"}):
                path, sent = site.ask(
                    prefix + raw, headers={**forged, **more}, port=port, source="127.0.0.7"
                ).json
                assert path == raw  # byte for byte
                expected = {
                    "host": f"localhost:{port}",
                    "x-forwarded-for": "127.0.0.7",
                    "x-forwarded-proto": "https",
                }
                expected |= {"x-forwarded-prefix": prefix} if prefix else {}
                expected |= {"upgrade": "websocket"} if more else {}
                expected["connection"] = "upgrade" if more else "keep-alive"
                got = {
                    name.lower(): value for name, value in sent if name.lower() != "accept-encoding"
                }
                assert got == expected and len(got) == len(sent) - 1
    site.ask(f"/api/list/{mine}", headers=forged, source="127.0.0.7")
    wait_for("the line", lambda: "127.0.0.7 - - [" in site.service.processes.log("list"))
    assert "192.0.2.1" not in site.service.processes.log("list")


def test_a_request_past_nginx_is_not_believed(site: Site, service: Service) -> None:
    shipped = (FILES / "fastx-list.conf").read_text(encoding="utf-8")
    assert "FASTX_LIST_TRUSTED_PROXIES=unix" in shipped.splitlines()
    service.environ["FASTX_LIST_TRUSTED_PROXIES"] = "unix"
    service.start_list()
    answer = fetch(
        f"{service.url}/",
        headers={"X-Forwarded-Host": "evil.example", "X-Forwarded-For": "192.0.2.1"},
    )
    assert "evil.example" not in answer.headers[
        "Content-Security-Policy"
    ] and "192.0.2.1" not in service.processes.log("list")
    answer = site.ask("/", headers={"X-Forwarded-Host": "evil.example"})
    assert f"wss://localhost:{site.port}" in answer.headers["Content-Security-Policy"]


def test_only_pages_of_this_host_open_websockets(site: Site, token: Token) -> None:
    mine = token()
    below = site.portal_live_url
    for url, origin in (("", site.url), (below, f"https://{HOST}:{site.portal_port}")):
        with follow(site, mine, url, origin=origin):
            pass
        is_error(refusal(site, mine, url, origin="https://evil.example"), 403, "Forbidden")


def test_a_slow_sender_keeps_nobody_waiting(site: Site, token: Token) -> None:
    mine = token()
    head = (
        f"POST /api/list/{mine} HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
        " application/json\r\nContent-Length: 50\r\n\r\n{"
    )
    with ExitStack() as stack:
        for _ in range(8):
            plain = stack.enter_context(socket.create_connection((HOST, site.port), timeout=60))
            slow = stack.enter_context(site.tls.wrap_socket(plain, server_hostname=HOST))
            slow.sendall(head.encode())
        began = time.monotonic()
        assert site.ask(f"/api/list/{mine}").status == 200
        assert time.monotonic() - began < 10  # the application would wait for them for 30 s


def test_no_worker_waits_for_nginx_to_have_read_an_answer(
    site: Site, token: Token, issued: list[str]
) -> None:
    issued.append(f"{token()}x")
    long = b'{"filter": "' + b"x" * 60_000 + b'"}'
    for _ in range(5):  # its bytes are left unread, and yet the answer arrives
        is_error(
            site.ask(f"/api/list/{issued[-1]}", "POST", long, JSON, source="127.0.0.8"),
            401,
            "AuthError",
        )
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{site.place}/list.sock")
        connection.settimeout(60)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while connection.recv(4096):
            pass
        with pytest.raises(BrokenPipeError):  # as opposed to one that is only half closed
            connection.send(b"x")
