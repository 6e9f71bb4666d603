"""The socket on which users of this machine need no token."""

from __future__ import annotations

import json
import os
import pwd
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest

from fastx_list.api import local
from fastx_list.api.local import MAX_ASKED, Names
from fastx_list.endpoint import Endpoint
from fastx_list.errors import Unavailable
from tests.answers import Observe
from tests.conftest import session
from tests.support import Answer, Service, fetch, let_others_in, needs_root, wait_for

DAEMON, NOBODY, NAMELESS = 1, 65534, 54321
Ask = Callable[..., Answer]


@pytest.fixture
def sockets(tmp_path: Path) -> Path:
    let_others_in(tmp_path)
    (tmp_path / "run").mkdir(0o755)
    return tmp_path / "run"


@pytest.fixture
def ask(service: Service, sockets: Path, observe: Observe) -> Iterator[Ask]:
    """Asks the list as a user with this id connects to one of its sockets."""
    needs_root()
    observe(session("a", "daemon"), session("b", "bob"), session("c", "root"))
    service.environ |= {
        "FASTX_LIST_LOCAL_SOCKET": f"{sockets}/local.sock",
        "FASTX_LIST_TRUSTED_PROXIES": "unix",
        "FASTX_LIST_METRICS_FROM": "unix",
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "python:fastx_list.web.server"]
    for name in ("local", "list"):
        command += ["--bind", f"unix:{sockets}/{name}.sock"]
    command += ["--bind", f"127.0.0.1:{service.list_port}", "fastx_list:create_app()"]
    service.processes.start(command, "list", service.environ)
    wait_for("the list", lambda: (sockets / "list.sock").exists() and service._answers(
        service.list_port))  # fmt: skip

    def ask(uid: int, path: str = "/api/list", *, at: str = "local", **headers: str) -> Answer:
        was = os.geteuid()
        os.seteuid(uid)
        try:
            sock = Endpoint(f"unix:{sockets}/{at}.sock").connect(10)
        finally:
            os.seteuid(was)
        # What the process becomes after it has connected is no matter: it is root from here on
        connection = HTTPConnection("localhost")
        connection.sock = sock
        connection.request(
            "GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    yield ask
    assert "Traceback" not in service.processes.log("list")


def _ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [each["id"] for each in answer.json]


def _why(answer: Answer, status: int = 401) -> str:
    assert answer.status == status, answer.body
    return str(answer.json["error"]["message"])


def test_who_asks_there_is_who_the_kernel_says(ask: Ask, service: Service) -> None:
    assert _ids(ask(DAEMON)) == ["a"] and _ids(ask(0)) == ["c"]
    assert len(_ids(ask(DAEMON, "/api/history"))) == 1
    assert _ids(ask(0, "/api/admin/session")) == ["a", "b", "c"]
    for path in ("/api/admin/session", "/api/admin/server", "/api/admin/history"):
        assert "for administrators: run it as root" in _why(ask(DAEMON, path), 403)
    assert "id 54321 has no name" in _why(ask(NAMELESS))
    assert "not one of this machine's" in _why(ask(NOBODY))
    # Who sends a token asks for whom that says, and a wrong one is refused
    bob, admin = service.token("bob"), service.token("bob", admin=True)
    assert _ids(ask(DAEMON, Authorization=f"Bearer {bob}")) == ["b"]
    assert len(_ids(ask(DAEMON, f"/api/admin/session/{admin}"))) == 3
    assert "well-formed" in _why(ask(0, "/api/list/x"))
    # A user is no proxy, and is not told what is for who may open our own sockets
    assert ask(0, "/metrics").status == 200 and ask(DAEMON, "/metrics").status == 404
    assert "version" in ask(0, "/health?more").json
    assert ask(DAEMON, "/health?more").json == {"status": "ok"}


def test_over_no_other_socket_does_anything_stand_for_a_token(ask: Ask, service: Service) -> None:
    assert "there is none" in _why(ask(0, at="list"))
    assert "there is none" in _why(fetch(f"{service.url}/api/list"))
    for name in ("X_Local_Uid", "Local_Uid", "Gunicorn_Socket", "X_Remote_User", "Remote_User"):
        assert "there is none" in _why(ask(0, at="list", **{name: "0"}))
        assert _ids(ask(DAEMON, **{name: "0"})) == ["a"]


def test_what_a_proxy_passes_on_there_is_refused(ask: Ask) -> None:
    for name in ("X_Forwarded_For", "X_Real_IP", "Forwarded", "Via", "Sec_Fetch_Site", "Origin"):
        assert "a proxy passes on" in _why(ask(0, **{name: "192.0.2.1"}))
        assert "a proxy passes on" in _why(ask(0, "/api/admin/session", **{name: ""}))


def test_a_site_whose_name_leads_there_is_told_nothing(ask: Ask, service: Service) -> None:
    for host in ("list.example.org", "127.0.0.1.example.org:8000", "1.2.x", "a.b."):
        assert "ask for http://localhost" in _why(ask(DAEMON, Host=host))
        bob = service.token("bob")
        assert _ids(ask(DAEMON, Host=host, Authorization=f"Bearer {bob}")) == ["b"]
    for host in ("localhost:8000", "localhost.", "127.0.0.1:80", "[::ffff:1.2.3.4]:80", "%2Fa.b"):
        assert _ids(ask(DAEMON, Host=host)) == ["a"]


def test_who_is_refused_before_all_of_their_body_has_come_can_send_the_rest(
    ask: Ask, sockets: Path
) -> None:
    """A proxy that cannot may say 502 in place of the answer."""
    with Endpoint(f"unix:{sockets}/list.sock").connect(10) as proxy:
        proxy.sendall(
            b"POST /api/list/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 2\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
        )
        answer = b""
        while piece := proxy.recv(65536):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 4")
        proxy.sendall(b"x")
        proxy.sendall(b"x")


def test_a_connection_stays_of_who_has_made_it(ask: Ask, sockets: Path) -> None:
    """Also in another user's process, as after su(1), or when it is handed on."""
    os.seteuid(DAEMON)
    try:
        sock = Endpoint(f"unix:{sockets}/local.sock").connect(10)
    finally:
        os.seteuid(0)
    here, there = socket.socketpair()
    with here, there, sock:
        socket.send_fds(here, [b"x"], [sock.fileno()])
        _, [fd], _, _ = socket.recv_fds(there, 1, 1)
        with socket.socket(fileno=fd) as handed_on:
            handed_on.settimeout(10)
            handed_on.sendall(b"GET /api/list HTTP/1.0\r\n\r\n")
            body = handed_on.makefile("rb").read().partition(b"\r\n\r\n")[2]
    assert [each["login"] for each in json.loads(body)] == ["daemon"]


def test_name_services_that_hang_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    released, asked = threading.Event(), []
    answer = pwd.getpwuid

    def hang(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        released.wait(30)
        return answer(0)

    monkeypatch.setattr(pwd, "getpwuid", hang)
    names = Names()
    for uid in [7] * 50 + list(range(200)):
        with pytest.raises(Unavailable, match="name services"):
            names.of(uid)
    assert len(asked) <= MAX_ASKED
    released.set()

    def told(uid: int) -> str | None:
        try:
            return names.of(uid)
        except Unavailable:
            return None

    assert wait_for("an answer", lambda: told(0)) == "root"
    monkeypatch.undo()
    monkeypatch.setattr(local, "SOON_SECONDS", 0.0)
    assert wait_for("another", lambda: told(DAEMON)) == answer(DAEMON).pw_name


def test_name_services_that_hang_for_some_answer_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only those of a directory are away, and root is in a file."""
    released = threading.Event()
    answer = pwd.getpwuid

    def hang(uid: int) -> pwd.struct_passwd:
        if uid >= 1000:
            released.wait(60)
        return answer(0)

    monkeypatch.setattr(pwd, "getpwuid", hang)
    names = Names()
    try:
        for uid in range(1000, 1000 + MAX_ASKED // 2):
            with pytest.raises(Unavailable):
                names.of(uid)
        monkeypatch.setattr(local, "SHORT_SECONDS", 30.0)
        assert names.of(0) == "root"
    finally:
        released.set()


def test_who_opens_very_many_connections_costs_no_other_user_theirs(
    service: Service, sockets: Path
) -> None:
    needs_root()
    path = f"{sockets}/local.sock"
    command = ["prlimit", "--nofile=128", sys.executable, "-m", "gunicorn"]
    command += ["-c", "python:fastx_list.web.server", "--workers", "1", "--bind", f"unix:{path}"]
    service.environ["FASTX_LIST_LOCAL_SOCKET"] = path
    service.processes.start([*command, "fastx_list:create_app()"], "list", service.environ)
    wait_for("the list", Path(path).exists)

    def connect(uid: int) -> socket.socket:
        os.seteuid(uid)
        try:
            return Endpoint(f"unix:{path}").connect(10)
        finally:
            os.seteuid(0)

    with connect(0) as first, ExitStack() as flood:
        first.sendall(b"GET /api/list HTTP/1.1\r\n")
        others = [flood.enter_context(connect(DAEMON)) for _ in range(60)]
        assert others[0].recv(100).startswith(b"HTTP/1.1 408 ")
        first.sendall(b"Host: localhost\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")
