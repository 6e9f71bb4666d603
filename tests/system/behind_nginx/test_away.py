"""Restarts and reloads under traffic, and what is said while a service is away."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import ClassVar

import pytest

from tests.conftest import session
from tests.support import end, wait_for
from tests.system.behind_nginx.common import JSON, Observe, Token, is_error
from tests.system.feed import Feed
from tests.system.nginx_site import Site
from tests.system.traffic import Client, Traffic, follow, refusal


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
            client = stack.enter_context(Client(site, mine)) if name == "live" else None
            traffic = stack.enter_context(Traffic(site, mine, known if name == "list" else ""))
            traffic.more()
            before = site.workers(name)
            if way == "restart":
                site.restart(name)
            else:
                site.service.running[name].send_signal(signal.SIGHUP)
                wait_for(
                    "other processes",
                    lambda: not before & (now := site.workers(name)) and len(now) == len(before),
                )
            traffic.more()
            if client:
                client.is_back()
                body = json.dumps({"id": known, "params": {"way": way}}).encode()
                assert site.ask(f"/api/params/{mine}", "POST", body, JSON).status == 200
                # The former processes are gone, so it is a new one that says so
                client.hears(id=known, params={"way": way})
                assert client.goodbyes <= len(before)


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


class Ending(BaseHTTPRequestHandler):
    """Answers the first request of a connection, and ends it without a word at the second, or at
    the first of one to ``/code``."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []
    count = 0

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(f"{self.command} {self.path} {self.headers['Connection']}")
        self.count += 1
        if self.count > 1 or self.path == "/code":
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    do_POST = do_GET

    def address_string(self) -> str:
        return ""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def ending(site: Site) -> Iterator[list[str]]:
    """Put such a server in place of the list; yields what it is asked."""
    path = site.place / "ending.sock"
    Ending.seen = []
    with ThreadingUnixStreamServer(str(path), Ending) as server:
        server.daemon_threads = True
        path.chmod(0o666)
        threading.Thread(target=server.serve_forever).start()
        try:
            site.reload(**{"/run/fastx-list/list.sock": str(path)})
            yield Ending.seen
        finally:
            site.reload()
            server.shutdown()
    path.unlink()


@pytest.mark.parametrize("path", ["/api/list", "/api/params"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_may_be_sent_twice_is_when_its_connection_ends(
    site: Site, path: str, method: str
) -> None:
    body = b"{}" if method == "POST" else None
    with ending(site) as seen:
        for _ in range(6):  # so that each process of nginx has a connection
            assert site.ask(path, method, body, JSON).status == 200
    assert len(seen) > 6 and set(seen) == {f"{method} {path} keep-alive"}


def test_a_code_is_sent_once_and_over_a_connection_of_its_own(site: Site) -> None:
    with ending(site) as seen:
        for prefix, port in (("", site.port), ("/fastx", site.portal_port)):
            assert site.ask(f"{prefix}/api/list", port=port).status == 200
            assert site.ask(f"{prefix}/code", "POST", b"{}", JSON, port=port).status == 502
    assert [each for each in seen if "code" in each] == ["POST /code close"] * 2
