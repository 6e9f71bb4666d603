"""A proxy may ask again over the same connection, and each answer belongs to its question."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fastx_list.config import load
from fastx_list.store import open_store
from fastx_list.tokens import Tokens
from tests.conftest import session
from tests.hostile.crowd import dial, read_all
from tests.support import WAIT_SECONDS, Answer, Service, standing, wait_for

KEPT = "Host: localhost\r\nConnection: keep-alive\r\n"
SETTINGS = """
import fastx_list.web.client
from fastx_list.web.server import *

fastx_list.web.client.ARRIVAL_SECONDS = 1.0
"""


class Proxy:
    """Asks over one connection as a proxy does."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_SECONDS)
        self.sock.connect(str(path))

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, line: str, more: str = KEPT, body: bytes = b"") -> None:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        kind = "Content-Type: application/json\r\n" if body else ""
        self.sock.sendall(f"{line} HTTP/1.1\r\n{more}{kind}{length}\r\n".encode() + body)

    def answer(self, method: str = "GET") -> Answer:
        response = http.client.HTTPResponse(self.sock, method=method)
        response.begin()
        return Answer(response.status, response.headers, response.read())

    def ask(self, line: str, more: str = KEPT, body: bytes = b"") -> Answer:
        self.send(line, more, body)
        return self.answer(line.partition(" ")[0])

    def ids(self, token: str, way: str = "GET") -> list[str]:
        """Return whose sessions are answered, after it was seen that the connection stays."""
        body = json.dumps({"token": token}).encode() if way == "POST" else b""
        answer = self.ask(f"{way} /api/list{'' if body else '/' + token}", body=body)
        assert answer.status == 200 and answer.headers["Connection"] == "keep-alive"
        return [each["id"] for each in answer.json]

    def is_closed(self) -> bool:
        """Wait for the end of the connection; whether nothing came before it."""
        return self.sock.recv(65536) == b""


class Served:
    """A list with one worker, at a socket for proxies, one for users of this machine, and a
    port."""

    def __init__(self, service: Service, place: Path) -> None:
        self.service, self.path, self.local = service, place / "list.sock", place / "local.sock"
        service.environ |= {
            "FASTX_LIST_TRUSTED_PROXIES": "unix",
            "FASTX_LIST_LOCAL_SOCKET": str(self.local),
            "WEB_CONCURRENCY": "1",
        }
        settings = place / "settings.py"
        settings.write_text(SETTINGS)
        addresses = f"unix:{self.path}", f"unix:{self.local}", f"127.0.0.1:{service.list_port}"
        binds = [part for address in addresses for part in ("--bind", address)]
        command = [sys.executable, "-m", "gunicorn", "-c", str(settings), *binds]
        self.master = service.processes.start(
            [*command, "fastx_list:create_app()"], "list", service.environ
        )
        wait_for("the list", self.path.exists)
        self.alice, self.bob = service.token("alice"), service.token("bob")
        store = open_store(load(service.environ).store)
        store.observe("here", {name: session(name, name) for name in ("alice", "bob")})
        store.close()

    def worker(self) -> int:
        pid = self.master.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def open_connections(self) -> float:
        with Proxy(self.path) as proxy:
            text = proxy.ask("GET /metrics").body.decode()
        lines = [line for line in text.splitlines() if "open_connections" in line.split("{")[0]]
        return float(lines[-1].split()[-1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("kept")
    with standing(place) as service:
        yield Served(service, place)
        assert "Traceback" not in service.processes.log("list")


def test_two_users_of_one_connection_get_their_own_each(served: Served) -> None:
    with Proxy(served.path) as proxy:
        for way in ("GET", "POST", "GET"):
            assert proxy.ids(served.alice, way) == ["alice"]
            assert proxy.ids(served.bob, way) == ["bob"]
            refused = proxy.ask("GET /api/list")  # as nobody
            assert refused.status == 401 and refused.headers["Connection"] == "keep-alive"
            body = b'{"id": "alice", "params": {"name": "mine"}}'
            assert proxy.ask(f"POST /api/params/{served.bob}", body=body).status == 404


def test_an_answer_without_a_body_is_the_end_of_it(served: Served) -> None:
    with Proxy(served.path) as proxy:
        tag = proxy.ask(f"GET /api/list/{served.alice}").headers["ETag"]
        again = proxy.ask(f"GET /api/list/{served.alice}", f"{KEPT}If-None-Match: {tag}\r\n")
        assert again.status == 304 and again.body == b""
        assert proxy.ids(served.bob) == ["bob"]


def test_who_waits_to_be_told_that_a_body_may_come_is_told_so(served: Served) -> None:
    body = json.dumps({"token": served.alice}).encode()
    with Proxy(served.path) as proxy:
        expects = f"{KEPT}Expect: 100-continue\r\nContent-Type: application/json\r\n"
        proxy.send("POST /api/list", f"{expects}Content-Length: {len(body)}\r\n")
        assert proxy.sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        proxy.sock.sendall(body)
        assert [each["id"] for each in proxy.answer().json] == ["alice"]
        assert proxy.ids(served.bob) == ["bob"]


SMUGGLED = "GET /api/list/{bob} HTTP/1.1\r\n" + KEPT + "\r\n"
JSON = "Content-Type: application/json\r\n"
ENDS = {
    "another version": "GET /api/list/{alice} HTTP/1.0\r\n" + KEPT + "\r\n",
    "asked to": "GET /api/list/{alice} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "not asked to stay": "GET /api/list/{alice} HTTP/1.1\r\nHost: x\r\n\r\n",
    "asked for both": "GET /api/list/{alice} HTTP/1.1\r\n" + KEPT + "Connection: close\r\n\r\n",
    "no body but a length": "HEAD /api/list/{alice} HTTP/1.1\r\n" + KEPT + "\r\n",
    "a tunnel": "CONNECT localhost:1 HTTP/1.1\r\n" + KEPT + "\r\n",
    "chunks": "POST /api/list HTTP/1.1\r\n" + KEPT + JSON + "Transfer-Encoding: chunked\r\n\r\n"
    '2\r\n{{}}\r\n0\r\n\r\n' + SMUGGLED,
    "two lengths": "POST /api/list/{alice} HTTP/1.1\r\n" + KEPT + JSON + "Content-Length: 2\r\n"
    "Content-Length: 3\r\n\r\n{{}}" + SMUGGLED,
    "a length and chunks": "POST /api/list/{alice} HTTP/1.1\r\n" + KEPT + JSON
    + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "more than its length": "POST /api/list/{alice} HTTP/1.1\r\n" + KEPT + JSON
    + "Content-Length: 2\r\n\r\n{{}}" + SMUGGLED,
    "a GET with a body": "GET /api/list/{alice} HTTP/1.1\r\n" + KEPT
    + "Content-Length: 600\r\n\r\n" + SMUGGLED,
    "a body that nobody reads": "POST /api/list/x HTTP/1.1\r\n" + KEPT + JSON
    + "Content-Length: 600\r\n\r\n" + SMUGGLED,
    "a body that is too long": "POST /api/list/{alice} HTTP/1.1\r\n" + KEPT + JSON
    + "Content-Length: 99999\r\n\r\n" + SMUGGLED,
    "lines that end otherwise": "GET /api/list/{alice} HTTP/1.1\nHost: x\n\n" + SMUGGLED,
    "two at once": "GET /api/list/{alice} HTTP/1.1\r\n" + KEPT + "\r\n" + SMUGGLED,
    "a space before the colon": "GET /api/list/{alice} HTTP/1.1\r\n" + KEPT
    + "Content-Length : 200\r\n\r\n" + SMUGGLED,
}  # fmt: skip


@pytest.mark.parametrize("request_", ENDS.values(), ids=list(ENDS))
@pytest.mark.parametrize("is_second", [False, True])
def test_the_connection_ends_where_a_next_request_could_be_mistaken(
    served: Served, request_: str, is_second: bool
) -> None:
    with Proxy(served.path) as proxy:
        if is_second:
            assert proxy.ids(served.bob) == ["bob"]
        proxy.sock.sendall(request_.format(alice=served.alice, bob=served.bob).encode())
        answers = read_all(proxy.sock)
    assert answers.count(b"HTTP/1.1 ") + answers.count(b"HTTP/1.0 ") == 1
    assert b"\r\nConnection: close\r\n" in answers and b'"bob"' not in answers


def test_what_follows_a_body_that_is_too_short_is_a_part_of_it(served: Served) -> None:
    smuggled = SMUGGLED.format(bob=served.bob).encode()
    with Proxy(served.path) as proxy:
        more = f"{KEPT}{JSON}Content-Length: {2 + len(smuggled)}\r\n"
        proxy.send(f"POST /api/list/{served.alice}", more)
        proxy.sock.sendall(b"{}" + smuggled)
        assert proxy.answer().status == 400
        assert proxy.ids(served.alice) == ["alice"]


@pytest.mark.parametrize("where", ["port", "local"])
def test_nobody_but_a_proxy_has_the_connection_kept(served: Served, where: str) -> None:
    asked = f"GET /api/list/{served.alice} HTTP/1.1\r\n{KEPT}\r\n".encode()
    with ExitStack() as stack:
        sock = (
            stack.enter_context(dial(served.service.list_port))
            if where == "port"
            else stack.enter_context(Proxy(served.local)).sock
        )
        sock.sendall(asked)
        assert b"\r\nConnection: close\r\n" in read_all(sock)


def test_an_idle_connection_is_never_too_late_but_its_next_request_may_be(served: Served) -> None:
    """Each request has the time that a first one has, from when it begins."""
    with Proxy(served.path) as idle, Proxy(served.path) as slow:
        assert idle.ids(served.alice) == ["alice"] and slow.ids(served.alice) == ["alice"]
        with dial(served.service.list_port) as late:  # which begins when they have ended
            assert read_all(late).startswith(b"HTTP/1.1 408 ")
        slow.sock.sendall(b"GET /api/list/")
        assert slow.answer().status == 408 and slow.is_closed()
        assert idle.ids(served.bob) == ["bob"]


def test_idle_connections_are_open_and_make_room_for_others(served: Served) -> None:
    before = served.open_connections()
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(served.path)) for _ in range(60)]
        for proxy in proxies:
            assert proxy.ids(served.alice) == ["alice"]
        assert served.open_connections() == before + len(proxies)
        worker = served.worker()
        files = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        opened = len(list(Path(f"/proc/{worker}/fd").iterdir()))
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (opened, files[1]))
        try:
            for number in range(20):
                with Proxy(served.path) as other:
                    assert other.ids(served.bob) == ["bob"], number
            assert proxies[0].is_closed()
            assert proxies[-1].ids(served.bob) == ["bob"]
        finally:
            resource.prlimit(worker, resource.RLIMIT_NOFILE, files)
    wait_for("their end", lambda: served.open_connections() == before)


@contextmanager
def asking(served: Served, count: int) -> Iterator[tuple[list[int], list[str]]]:
    """Ask over kept connections all the time. Yields how often each was answered, and what was
    neither answered nor refused as it was sent."""
    answered, lost, over = [0] * count, list[str](), threading.Event()
    codes = Tokens(load(served.service.environ))

    def requests(number: int) -> Iterator[tuple[str, bytes, int]]:
        while not over.is_set():
            yield f"GET /api/list/{served.alice}", b"", 200
            params = {"id": "alice", "params": {"by": str(number)}}
            yield f"POST /api/params/{served.alice}", json.dumps(params).encode(), 200
            yield "POST /code", json.dumps({"code": codes.issue_code("bob", 60)}).encode(), 200

    def run(number: int) -> None:
        proxy = Proxy(served.path)
        for line, body, status in requests(number):
            while True:
                try:
                    proxy.send(line, body=body)
                except (BrokenPipeError, ConnectionResetError):  # nobody has it: asked anew
                    proxy.sock.close()
                    proxy = Proxy(served.path)
                    continue
                break
            try:
                answer = proxy.answer()
                if answer.status != status:
                    lost.append(f"{line.split('/')[1:3]}: {answer.status} {answer.body!r}")
                closes = answer.headers["Connection"] == "close"
            except (OSError, http.client.HTTPException) as error:
                lost.append(f"{line.split('/')[1:3]}: {error!r}")
                closes = True
            answered[number] += 1
            if closes:
                proxy.sock.close()
                proxy = Proxy(served.path)
        proxy.sock.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answered, lost
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_what_could_be_sent_to_a_worker_that_ends_is_answered(served: Served) -> None:
    """Nobody has to ask twice, without knowing if it was heard the first time."""
    with asking(served, 6) as (answered, lost):

        def more() -> None:
            before = list(answered)
            wait_for("answers", lambda: lost or all(map(int.__gt__, answered, before)))

        for _ in range(4):
            more()
            worker = served.worker()
            os.kill(served.master.pid, signal.SIGHUP)
            wait_for("another worker", _is_gone(worker))
        more()
        assert lost == []


def _is_gone(pid: int) -> Callable[[], bool]:
    return lambda: not Path(f"/proc/{pid}").exists()
