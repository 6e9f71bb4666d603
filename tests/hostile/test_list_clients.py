"""What clients of the list can do to others by being slow."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import session
from tests.hostile.crowd import Crowd, ask, check_not_slower, dial, get, read_all, times
from tests.support import Service, end, free_port, let_others_in, wait_for
from tests.system.nginx import Nginx

BODY = "POST /api/list/{} HTTP/1.1\r\nHost: localhost\r\n"
LISTEN = "listen 443 ssl;"


@pytest.fixture
def list_(service: Service) -> Iterator[Service]:
    """The list, with two workers."""
    service.environ |= {"FASTX_LIST_SERVER_ID": "here"}
    service.start_list()
    yield service
    assert "Traceback" not in service.processes.log("list")


@contextmanager
def behind_nginx(service: Service, place: Path) -> Iterator[int]:
    """Run a list behind nginx; yields a port at which its site is without TLS."""
    let_others_in(place.parent)  # nginx's own user
    place.mkdir()
    place.chmod(0o755)
    nginx, port = Nginx(place), free_port()
    nginx.configure({LISTEN: f"listen 127.0.0.1:{port};"})
    command = [sys.executable, "-m", "gunicorn", "-c", "python:fastx_list.web.server"]
    command += ["--bind", f"unix:{place}/list.sock", "fastx_list:create_app()"]
    behind = service.processes.start(
        command, "behind", {**service.environ, "FASTX_LIST_TRUSTED_PROXIES": "unix"}
    )
    proxy = service.processes.start(nginx.command(), "nginx")
    wait_for("the list", lambda: (place / "list.sock").exists())
    (place / "list.sock").chmod(0o777)
    wait_for("nginx", lambda: _listens(port))
    yield port
    end(proxy)
    end(behind)


def _listens(port: int) -> bool:
    try:
        return ask(port, get("/health")).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def crowd(hostile: Crowd, token: str) -> None:
    """Let 500 come who say nothing, 100 slow bodies, and 100 half-sent requests."""
    hostile.add(500)
    length = "Content-Length: 5000\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n"
    hostile.add(50, (BODY.format(token) + length).encode(), slowly=True)
    hostile.add(25, (BODY.format("") + length).encode(), slowly=True)
    chunks = "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n1000\r\n"
    hostile.add(25, (BODY.format(token) + chunks).encode(), slowly=True)
    hostile.add(50, BODY.format(token).encode() + b"X-Slow: ", slowly=True)
    hostile.add(50, b"GET /api/list/")


def test_others_are_served_as_if_nobody_was_slow(list_: Service) -> None:
    path = f"/api/list/{list_.token('alice')}"
    before = times(list_.list_port, path)
    with Crowd(list_.list_port) as hostile:
        crowd(hostile, list_.token("mallory"))
        check_not_slower(before, times(list_.list_port, path))


def test_others_are_served_as_if_nobody_was_slow_through_nginx(
    service: Service, tmp_path: Path
) -> None:
    path = f"/api/list/{service.token('alice')}"
    with behind_nginx(service, tmp_path / "nginx") as port:
        before = times(port, path)
        with Crowd(port) as hostile:
            crowd(hostile, service.token("mallory"))
            check_not_slower(before, times(port, path))


def test_who_takes_the_answer_and_stays_costs_others_nothing(list_: Service) -> None:
    path = f"/api/list/{list_.token('alice')}"
    before = times(list_.list_port, path)
    with Crowd(list_.list_port) as hostile:
        hostile.add(100, get(f"/api/list/{list_.token('mallory')}"))
        check_not_slower(before, times(list_.list_port, path))


def test_who_does_not_read_costs_others_nothing_and_may_still_read(
    list_: Service, observe: Callable[..., None]
) -> None:
    observe(*(session(f"s{number}", "mallory", params={"x": "y" * 8000}) for number in range(900)))
    path = f"/api/list/{list_.token('alice')}"
    before = times(list_.list_port, path)
    with Crowd(list_.list_port) as hostile:
        slow = hostile.add(10, get(f"/api/list/{list_.token('mallory')}"))
        check_not_slower(before, times(list_.list_port, path))
        for sock in slow:
            head, _, body = read_all(sock).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ") and len(json.loads(body)) == 900


@pytest.mark.parametrize(
    "head",
    [
        "POST /api/list/{}.x HTTP/1.1\r\n",
        "POST /api/params/{}.x HTTP/1.1\r\n",
        "POST /api/admin/session/{}.x HTTP/1.1\r\n",
        "POST /api/list?token={}.x HTTP/1.1\r\n",
        "POST /api/list HTTP/1.1\r\nX-FASTX-TOKEN: {}.x\r\n",
        "POST /api/list HTTP/1.1\r\nAuthorization: Bearer {}.x\r\n",
    ],
)
@pytest.mark.parametrize("body", ["Content-Length: 9", "Transfer-Encoding: chunked"])
def test_a_bad_token_is_refused_before_its_body_has_come(
    list_: Service, head: str, body: str
) -> None:
    request = head.format(list_.token("alice")) + f"Host: localhost\r\n{body}\r\n\r\n"
    assert ask(list_.list_port, request.encode()).startswith(b"HTTP/1.1 401 ")


def test_a_request_in_pieces_is_answered(list_: Service) -> None:
    alice = list_.token("alice")
    whole = get(f"/api/list/{alice}")
    form = f"token={alice}&limit=1".encode()
    posted = (
        b"POST /api/list HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(form), form)
    )
    for request in (whole, posted):
        with dial(list_.list_port) as sock:
            for number in range(0, len(request), 7):
                sock.sendall(request[number : number + 7])
                time.sleep(0.001)  # so that it comes in more than one piece
            assert read_all(sock).startswith(b"HTTP/1.1 200 ")


def test_who_is_too_late_is_told_so(service: Service, tmp_path: Path) -> None:
    settings = tmp_path / "settings.py"
    settings.write_text(
        "from fastx_list.web.server import *\n"
        "import fastx_list.web.client\n"
        "fastx_list.web.client.ARRIVAL_SECONDS = 1\n"
    )
    command = [sys.executable, "-m", "gunicorn", "-c", str(settings), "fastx_list:create_app()"]
    bind = f"127.0.0.1:{service.list_port}"
    service.processes.start([*command, "--bind", bind], "list", service.environ)
    wait_for("the list", lambda: _listens(service.list_port))
    alice = service.token("alice")
    with Crowd(service.list_port) as hostile:
        late = hostile.add(1)
        late += hostile.add(1, b"GET /api/list/", slowly=True)
        late += hostile.add(1, BODY.format(alice).encode() + b"Content-Length: 99\r\n\r\nx")
        chunked = b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n9\r\nx"
        late += hostile.add(1, BODY.format(alice).encode() + chunked)
        for sock in late:
            head, _, body = read_all(sock).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ") and b"application/json" in head
            assert json.loads(body)["error"]["name"] == "RequestTimeout"
    assert "Traceback" not in service.processes.log("list")


def test_more_than_there_are_files_for_keep_nobody_else_out(service: Service) -> None:
    service.environ |= {"WEB_CONCURRENCY": "1"}
    service.start_list()
    path = f"/api/list/{service.token('alice')}"
    worker = wait_for("its worker", lambda: _children(service.running["list"].pid))[0]
    before = times(service.list_port, path)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (1024, 1024))
    with Crowd(service.list_port) as hostile:
        hostile.add(3000)
        check_not_slower(before, times(service.list_port, path))
    assert _children(service.running["list"].pid) == [worker]
    assert "Traceback" not in service.processes.log("list")


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_who_hangs_does_not_hold_up_the_end_and_who_asks_is_answered(
    list_: Service, how: signal.Signals
) -> None:
    alice = list_.token("alice")
    master = list_.running["list"].pid
    workers = wait_for("two workers", lambda: _two(master))
    with Crowd(list_.list_port) as hostile:
        crowd(hostile, list_.token("mallory"))
        times(list_.list_port, f"/api/list/{alice}", 20)
        with dial(list_.list_port) as sock:
            sock.sendall(get(f"/api/list/{alice}")[:-1])
            times(list_.list_port, f"/api/list/{alice}", 20)  # it is with a worker by now
            began = time.monotonic()
            os.kill(master, how)
            sock.sendall(b"\n")
            assert read_all(sock).startswith(b"HTTP/1.1 200 ")
        wait_for("the workers' end", lambda: not set(workers) & set(_alive(master)))
        assert time.monotonic() - began < 8  # with 10 s of patience in all


def _two(master: int) -> list[int]:
    found = _children(master)
    return found if len(found) == 2 else []


def _alive(master: int) -> list[int]:
    try:
        return _children(master)
    except OSError:
        return []
