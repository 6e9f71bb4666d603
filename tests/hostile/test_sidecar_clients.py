"""What clients of the sidecar can do to others, and to themselves, by being slow."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.crowd import Crowd, ask, dial, get, read_all, times
from tests.live.clients import follow, upgrade
from tests.support import Service, end, wait_for

HALF = b"GET /api/list?token=x HTTP/1.1\r\nHost: localhost\r\nUpgrade: webs"
FEW_FILES = 1024


@pytest.fixture
def sidecar(service: Service) -> Iterator[Service]:
    """A sidecar that may have few files open."""
    command = [sys.executable, "-m", "gunicorn", "-c", "python:fastx_list.live.server"]
    command += ["--bind", f"127.0.0.1:{service.live_port}", "fastx_list:create_live_app()"]
    limited = ["prlimit", f"--nofile={FEW_FILES}:{FEW_FILES}", *command]
    service.running["live"] = service.processes.start(limited, "live", service.environ)
    wait_for("the sidecar", lambda: answers(service.live_port))
    yield service
    assert "Traceback" not in service.processes.log("live")


def answers(port: int) -> bool:
    try:
        return ask(port, get("/health")).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@pytest.mark.parametrize("opening", [b"", HALF])
def test_who_never_finishes_a_handshake_keeps_nobody_out(sidecar: Service, opening: bytes) -> None:
    """Three times as many as the sidecar may have files open."""
    with Crowd(sidecar.live_port) as hostile:
        hostile.add(3 * FEW_FILES, opening)
        assert statistics.median(times(sidecar.live_port, "/health", 20)) < 1
        with follow(sidecar, sidecar.token("alice")):
            pass


def test_websockets_leave_room_for_other_requests(sidecar: Service) -> None:
    sidecar.environ["FASTX_LIST_MAX_SUBSCRIBERS_PER_LOGIN"] = "5000"
    end(sidecar.running["live"])
    sidecar.start_live()
    with Crowd(sidecar.live_port) as hostile:
        hostile.add(FEW_FILES // 2, upgrade(sidecar, sidecar.token("mallory")))
        assert answers(sidecar.live_port)


def test_a_request_that_comes_late_is_answered(sidecar: Service) -> None:
    """A client may have connected before it has anything to ask, or its first packet was lost."""
    with dial(sidecar.live_port) as sock, dial(sidecar.live_port) as handshake:
        handshake.sendall(upgrade(sidecar, sidecar.token("alice"))[:-2])
        time.sleep(3)  # it is the time that makes it late
        sock.sendall(get("/health"))
        assert read_all(sock).startswith(b"HTTP/1.1 200 ")
        handshake.sendall(b"\r\n")
        assert handshake.recv(12) == b"HTTP/1.1 101"


def test_who_is_too_late_is_told_so(service: Service, tmp_path: Path) -> None:
    settings = tmp_path / "settings.py"
    settings.write_text(
        "from fastx_list.live.server import *\n"
        "import fastx_list.live.worker\n"
        "fastx_list.live.worker.ARRIVAL_SECONDS = 1\n"
    )
    command = [sys.executable, "-m", "gunicorn", "-c", str(settings)]
    command += ["--bind", f"127.0.0.1:{service.live_port}", "fastx_list:create_live_app()"]
    service.processes.start(command, "live", service.environ)
    wait_for("the sidecar", lambda: answers(service.live_port))
    with Crowd(service.live_port) as hostile:
        late = [*hostile.add(1), *hostile.add(1, HALF), *hostile.add(1, HALF, slowly=True)]
        for sock in late:
            head, _, body = read_all(sock).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ") and b"application/json" in head
            assert json.loads(body)["error"]["name"] == "RequestTimeout"
    assert "Traceback" not in service.processes.log("live")


def test_a_head_without_end_is_refused(sidecar: Service) -> None:
    with dial(sidecar.live_port) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\n")
        with pytest.raises(OSError):  # sooner or later nobody takes it any more
            for number in range(300_000):  # more than the kernel takes meanwhile
                sock.sendall(b"X-%d: %s\r\n" % (number, b"x" * 200))
    assert answers(sidecar.live_port)


def test_who_hangs_does_not_hold_up_the_end(sidecar: Service) -> None:
    with Crowd(sidecar.live_port) as hostile:
        hostile.add(100)
        hostile.add(100, HALF, slowly=True)
        assert answers(sidecar.live_port)
        began = time.monotonic()
        sidecar.running["live"].terminate()
        sidecar.running["live"].wait(30)
        assert time.monotonic() - began < 8  # with 10 s of patience in all
