"""What the list's worker does for several requests at once."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from select import EPOLLET, EPOLLEXCLUSIVE, EPOLLIN, epoll
from types import SimpleNamespace

import pytest

from fastx_list.api.arrival import Patience
from fastx_list.web.client import Client
from tests.hostile.crowd import dial, read_all
from tests.support import Service, fetch, wait_for

REQUESTS = 8
SETTINGS = """
import fastx_list.web.worker
from fastx_list.store.sqlite_reader import Reader
from fastx_list.web.server import *

fastx_list.web.worker.TURN_SECONDS = 20.0  # between the looks that it takes for nobody
changes = Reader.changes

def noted(*arguments):
    print("looked", flush=True)
    return changes(*arguments)

Reader.changes = noted
"""


@pytest.mark.parametrize("size", [3, 100])
def test_what_came_with_a_connection_is_read_first(size: int) -> None:
    theirs, ours = socket.socketpair()
    with theirs, ours:
        client = Client(SimpleNamespace(patience=Patience()), ours, "")  # type: ignore[arg-type]
        assert not client.take_in()
        theirs.sendall(b"GET /")
        assert client.take_in()
        theirs.sendall(b" HTTP/1.1")
        data = b""
        while len(data) < len(b"GET / HTTP/1.1"):
            data += client.recv(size)
        assert data == b"GET / HTTP/1.1"
        with pytest.raises(BlockingIOError):
            client.recv(size, socket.MSG_DONTWAIT)
        theirs.close()
        assert not client.take_in()
        assert client.recv(size) == b""


@pytest.mark.parametrize("is_waited_for", [False, True])
def test_one_look_at_the_store_is_for_all_requests_that_came_before_it(
    service: Service, tmp_path: Path, is_waited_for: bool
) -> None:
    settings = tmp_path / "settings.py"
    settings.write_text(SETTINGS)
    command = [sys.executable, "-m", "gunicorn", "-c", str(settings), "-w", "1"]
    command += ["--bind", f"127.0.0.1:{service.list_port}", "fastx_list:create_app()"]
    master = service.processes.start(command, "list", service.environ)
    path = f"/api/list/{service.token('alice')}"
    wait_for("the list", lambda: _answers(f"{service.url}{path}"))
    [worker] = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
    others = _open(worker)
    if not is_waited_for:
        os.kill(int(worker), signal.SIGSTOP)
    socks = [dial(service.list_port) for _ in range(REQUESTS)]
    if is_waited_for:
        wait_for("the connections", lambda: len(_open(worker) - others) == REQUESTS)
        os.kill(int(worker), signal.SIGSTOP)
    stat = Path(f"/proc/{worker}/stat")
    wait_for("its stop", lambda: stat.read_text().rpartition(") ")[2].startswith("T"))
    for sock in socks:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    before = service.processes.log("list").count("looked")
    os.kill(int(worker), signal.SIGCONT)
    for sock in socks:
        with sock:
            assert read_all(sock).startswith(b"HTTP/1.1 200 ")
    assert service.processes.log("list").count("looked") - before <= 2


class Sleeper:
    """Is woken for connections, as a worker is, and takes none, as one that is stopped just then.

    The kernel wakes one of those that wait, the first or the last that came.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.woken = 0
        self._end, self._until = socket.socketpair()
        self._epoll = epoll()
        self._epoll.register(listener.fileno(), EPOLLIN | EPOLLEXCLUSIVE | EPOLLET)
        self._epoll.register(self._until.fileno(), EPOLLIN)
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _wait(self) -> None:
        while self._until.fileno() not in dict(self._epoll.poll()):
            self.woken += 1

    def close(self) -> None:
        self._end.close()
        self._thread.join()
        self._until.close()
        self._epoll.close()


def test_a_connection_is_taken_though_another_worker_was_woken_for_it(
    service: Service, free_listener: socket.socket
) -> None:
    command = [sys.executable, "-m", "gunicorn", "-c", "python:fastx_list.web.server", "-w", "1"]
    command += ["--bind", f"fd://{free_listener.fileno()}", "fastx_list:create_app()"]
    first = Sleeper(free_listener)
    service.processes.start(command, "list", service.environ, pass_fds=[free_listener.fileno()])
    service.list_port = free_listener.getsockname()[1]
    wait_for("the list", lambda: _answers(f"{service.url}/health"))
    last = Sleeper(free_listener)
    with closing(first), closing(last):
        first.start()
        last.start()
        for _ in range(REQUESTS):
            assert fetch(f"{service.url}/health").status == 200
        assert first.woken + last.woken > 0


@pytest.fixture
def free_listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def _open(pid: str) -> set[str]:
    """Return what a process has open."""
    found = set[str]()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has been closed meanwhile
            found.add(os.readlink(file))
    return found


def _answers(url: str) -> bool:
    try:
        fetch(url)
    except OSError:
        return False
    return True
