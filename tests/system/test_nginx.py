"""Behind a real nginx with the files of docs/deploy: the list, its WebSockets, its page, and what
if something is away."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from fastx_list.config import load
from fastx_list.model.session import Session
from fastx_list.store import open_store
from tests.conftest import session
from tests.support import Answer, Service, end, fetch, wait_for
from tests.system.nginx import HOST
from tests.system.nginx_site import Site, traces
from tests.system.test_life import Feed
from tests.system.traffic import Client, Traffic, follow, refusal
from tests.system.units import unit

JSON = {"Content-Type": "application/json"}
SIDECAR = "server unix:/run/fastx-list/live.sock max_fails=0;"


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Site]:
    site = Site(place)
    try:
        site.start_all()
        yield site
    finally:
        site.stop()
    # Once more, since the last lines come after the last answer
    assert traces(site.logged(), site.tokens) == []
    assert "Traceback" not in (said := site.logged()), said[said.index("Traceback") :][:5000]


@pytest.fixture
def issued() -> list[str]:
    """The tokens of a test, none of which may be in any log at its end."""
    return []


@pytest.fixture
def token(site: Site, issued: list[str]) -> Callable[..., str]:
    def token(login: str = "alice", **more: Any) -> str:
        issued.append(site.service.token(login, **more))
        site.tokens.append(issued[-1])
        return issued[-1]

    return token


@pytest.fixture(autouse=True)
def _no_token_is_logged(site: Site, issued: list[str]) -> Iterator[None]:
    yield
    assert traces(site.logged(), issued) == []
    assert (site.logs / "fastx-list.error.log").read_text() == ""


@pytest.fixture
def observe(site: Site) -> Iterator[Callable[..., None]]:
    """Makes these the sessions of another server than the agent's."""
    store = open_store(load(site.service.environ).store)

    def observe(*sessions: Session) -> None:
        store.observe("here", {session.id: session for session in sessions})

    yield observe
    observe()
    store.close()


Observe = Callable[..., None]
Token = Callable[..., str]


def is_error(answer: Answer, status: int, name: str) -> None:
    assert answer.status == status, answer.body
    assert (
        answer.headers["Content-Type"] == "application/json"
        and answer.headers["Cache-Control"] == "no-store"
    )
    assert (
        answer.json["error"].keys() == {"name", "message"} and answer.json["error"]["name"] == name
    )


def test_the_list_is_there_over_http_1_and_2_and_below_a_path(
    site: Site, token: Token, observe: Observe
) -> None:
    observe(session("a", command="xterm"))
    mine = token()
    for url in (site.url, site.portal_url):
        for version in ("1.1", "2"):
            question = f"{url}/api/list/{mine}?limit=5&filter=command%3D%3Dxterm"
            body, said = site.curl(
                f"--http{version}", question, "-w", "\n%{http_code} %{http_version}"
            ).rsplit("\n", 1)
            assert said == f"200 {version}" and [each["id"] for each in json.loads(body)] == ["a"]
    assert site.ask("/", port=site.portal_port).body == b"the portal"
    assert site.ask("/fastx", port=site.portal_port).headers["Location"] == "/fastx/"
    answer = site.send(
        b"GET /api/list?x HTTP/1.1\r\nHost: localhost\r\n\r\n", port=site.plain_port, tls=False
    )
    assert answer.status == 308 and answer.headers["Location"] == "https://localhost/api/list?x"


def test_params_are_set_and_arrive_over_the_websocket(
    site: Site, token: Token, observe: Observe
) -> None:
    observe(session("a"))
    mine = token()
    body = json.dumps({"id": "a", "params": {"name": "Thesis", "long": "x" * 7000}})
    with follow(site, mine) as connection, follow(site, mine, site.portal_live_url) as below:
        feed, other = Feed(connection), Feed(below)
        feed.one(params={})
        for version in ("1.1", "2"):
            sent = [
                "-H",
                "Content-Type: application/json",
                "-d",
                body,
                f"{site.url}/api/params/{mine}",
            ]
            assert json.loads(site.curl(f"--http{version}", *sent))["params"]["name"] == "Thesis"
        assert feed.one(params={"name": "Thesis", "long": "x" * 7000}) == other.one(
            params={"name": "Thesis", "long": "x" * 7000}
        )
        assert connection.extensions == []
    with follow(
        site, token("root", admin=True), site.live_url.replace("api/list", "api/admin/session")
    ) as connection:
        everybody = Feed(connection)  # whatever else there is on this machine

        def alice_is_there() -> bool:
            everybody.take()
            return "a" in everybody.state

        wait_for("the session of alice", alice_is_there)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(ignore_https_errors=True)  # the certificate is the test's own
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if "Content Security Policy" in message.text else None
        ),
    )
    yield page
    context.close()
    assert complaints == []


def test_the_page_is_live_below_a_path(
    site: Site, page: Page, token: Token, observe: Observe
) -> None:
    page.goto(f"{site.portal_url}/#token={token()}")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    observe(session("a", command="xterm"))
    expect(page.locator("#rows")).to_contain_text("xterm")
    assert page.url == f"{site.portal_url}/"


def test_the_page_is_live_and_says_when_the_sidecar_is_away(
    site: Site, page: Page, token: Token, observe: Observe
) -> None:
    page.goto(f"{site.url}/#token={token()}")
    connection, rows = page.locator("#connection"), expect(page.locator("#rows"))
    expect(connection).to_have_attribute("data-state", "live")
    observe(session("a", command="xterm"))
    rows.to_contain_text("xterm")
    end(site.service.running["live"])
    expect(connection).not_to_have_attribute("data-state", "live")
    observe(session("b", command="came while it was away"))
    site.start("live")
    expect(connection).to_have_attribute("data-state", "live", timeout=30_000)
    rows.to_contain_text("came while it was away")
    rows.not_to_contain_text("xterm")
    observe()
    rows.not_to_contain_text("came")


def test_nginx_reloads_under_traffic(site: Site, token: Token, observe: Observe) -> None:
    mine = token()
    with Traffic(site, mine) as traffic, follow(site, mine) as before:
        traffic.more()
        for _ in range(2):
            site.reload()
            traffic.more()
        observe(session("a"))
        Feed(before).one(id="a")  # the socket was not cut
        with follow(site, mine) as after:
            Feed(after).one(id="a")
        traffic.more()


@pytest.fixture
def job(site: Site) -> Iterator[Path]:
    """A session of alice's that the agent finds."""
    spool = site.service.state / "spool"
    spool.mkdir(exist_ok=True)
    file = spool / "job.json"
    file.write_text('{"login": "alice", "command": "matlab", "started": 1700000000000}')
    yield file
    file.unlink(missing_ok=True)


@pytest.mark.parametrize("way", ["restart", "reload"])
def test_services_restart_under_traffic(site: Site, token: Token, job: Path, way: str) -> None:
    mine = token()
    with follow(site, mine) as connection:
        known = Feed(connection).one(command="matlab")["id"]
    for name in ("list", "live"):
        with ExitStack() as stack:
            client = Client(site, mine, stack) if name == "live" else None
            traffic = stack.enter_context(Traffic(site, mine))
            traffic.more()
            if way == "restart":
                site.restart(name)
            else:
                before = site.workers(name)
                site.service.running[name].send_signal(signal.SIGHUP)
                wait_for(
                    "other processes",
                    lambda: not before & (now := site.workers(name)) and len(now) == len(before),
                )
            traffic.more()
            if client:
                client.join()
                assert client.problems == [] and client.feed
                body = json.dumps({"id": known, "params": {"way": way}}).encode()
                assert site.ask(f"/api/params/{mine}", "POST", body, JSON).status == 200
                # So it is the new process that it is connected to
                client.feed.one(params={"way": way})


def test_the_agent_restarts_under_traffic(site: Site, token: Token, job: Path) -> None:
    mine = token()
    with Traffic(site, mine) as traffic, follow(site, mine) as connection:
        feed = Feed(connection)
        known = feed.one(command="matlab")["id"]
        traffic.more()
        site.restart("agent")
        traffic.more()
        assert {each["id"] for each in site.ask(f"/api/list/{mine}").json} == {known}
        job.unlink()
        wait_for("the end of the session", feed.is_empty)
        assert {message["id"] for message in feed.messages} == {known}


@contextmanager
def dead(site: Site, name: str, timeout: str) -> Iterator[Callable[[], Iterator[int]]]:
    """Take a service away for a while. Yields what goes through the ways of being away, each with
    the status that is due."""

    def ways() -> Iterator[int]:
        site.reload(**{timeout: "proxy_read_timeout 1s;"})
        yield 504  # its socket is held, but nobody answers
        site.reload()
        site.close(name)
        yield 502  # the socket is nobody's
        (site.place / f"{name}.sock").unlink()
        yield 502  # there is none

    end(site.service.running[name])
    try:
        yield ways
    finally:
        site.listen(name)
        site.start(name)


def test_a_dead_sidecar_costs_the_list_nothing(site: Site, token: Token) -> None:
    mine = token()
    with dead(site, "live", "proxy_read_timeout 90s;") as ways:
        for status in ways():
            for url in (site.live_url, site.portal_live_url):
                is_error(refusal(site, mine, url), status, "Unavailable")
            site.await_line(f'/live.sock" upstream_status="{status}"')
            assert site.ask(f"/api/list/{mine}").status == 200
    with follow(site, mine, open_timeout=60):
        pass


def test_a_dead_list_is_said_in_json(site: Site, token: Token) -> None:
    mine = token()
    with dead(site, "list", "proxy_read_timeout 60s;") as ways:
        for status in ways():
            is_error(site.ask(f"/api/list/{mine}"), status, "Unavailable")
            is_error(
                site.ask(f"/fastx/api/list?token={mine}", port=site.portal_port),
                status,
                "Unavailable",
            )
            site.await_line(f'/list.sock" upstream_status="{status}"')
            with follow(site, mine):
                pass
    assert site.ask(f"/api/list/{mine}").status == 200


def test_bad_tokens_are_limited_and_good_ones_of_the_same_address_are_not(
    site: Site, token: Token, issued: list[str]
) -> None:
    good, bad = token(), token(ttl=-10)
    issued.append(bad)
    body = b'{"id": "a", "params": {}}'

    def refused(address: str) -> Answer:
        return site.ask(f"/api/params/{bad}", "POST", body, JSON, source=address)

    # The application's own words arrive, whatever the request, until there are too many.
    is_error(refused("127.0.0.2"), 401, "AuthError")
    assert "expired" in refused("127.0.0.2").json["error"]["message"]
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
                expected |= {"upgrade": "websocket", "connection": "upgrade"} if more else {}
                got = {
                    name.lower(): value for name, value in sent if name.lower() != "accept-encoding"
                }
                assert got == expected and len(got) == len(sent) - 1
    site.ask(f"/api/list/{mine}", headers=forged, source="127.0.0.7")
    wait_for("the line", lambda: "127.0.0.7 - - [" in site.service.processes.log("list"))
    assert "192.0.2.1" not in site.service.processes.log("list")


def test_a_request_past_nginx_is_not_believed(site: Site, service: Service) -> None:
    assert unit("fastx-list.service", "Environment")[0].endswith("FASTX_LIST_TRUSTED_PROXIES=unix")
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


def test_two_sidecars_share_the_work(site: Site, token: Token, observe: Observe) -> None:
    mine = token()
    site.listen("live-2")
    site.start("live", "live-2")
    site.await_up("live-2")
    site.reload(**{SIDECAR: f"{SIDECAR} {SIDECAR.replace('live.sock', 'live-2.sock')}"})
    try:
        with ExitStack() as stack:
            feeds = [Feed(stack.enter_context(follow(site, mine))) for _ in range(6)]
            observe(session("a"))
            for feed in feeds:
                feed.one(id="a")
        end(site.service.running["live"])
        site.close("live")
        several(site, mine)  # the second alone
        site.listen("live")
        site.start("live")
        site.await_up("live")
        end(site.service.running["live-2"])
        site.close("live-2")
        several(site, mine)  # the first alone
    finally:
        site.reload()


def several(site: Site, token: str) -> None:
    for _ in range(6):
        with follow(site, token) as connection:
            Feed(connection).one(id="a")
