"""What the list's worker does for several requests at once."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
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
