"""A worker that is late does not take that for the silence of its clients."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.hostile.crowd import Crowd, ask, get
from tests.live.clients import upgrade
from tests.support import Service, wait_for

FILES = 512  # that a worker may have open
PATIENCE = 2  # seconds in which a request has to arrive


class Late(NamedTuple):
    """A server with one worker, and what its clients ask."""

    kind: str
    port: int
    room: int  # for how many clients it waits
    request: bytes
    answer: bytes


def start(service: Service, late: Late, directory: Path) -> int:
    """Start it, and return the pid of its worker."""
    factory = {"web": "create_app", "live": "create_live_app"}[late.kind]
    module = {"web": "fastx_list.web.client", "live": "fastx_list.live.worker"}[late.kind]
    settings = directory / f"{late.kind}.py"
    settings.write_text(
        f"from fastx_list.{late.kind}.server import *\n"
        f"import {module}\n"
        f"{module}.ARRIVAL_SECONDS = {PATIENCE}\n"
    )
    command = ["prlimit", f"--nofile={FILES}:{FILES}", sys.executable, "-m", "gunicorn"]
    command += ["-c", str(settings), "--bind", f"127.0.0.1:{late.port}", f"fastx_list:{factory}()"]
    master = service.processes.start(command, late.kind, service.environ)
    wait_for(f"a {late.kind} server", lambda: answers(late.port))
    children = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text(encoding="ascii")
    return int(children)


def answers(port: int) -> bool:
    try:
        return ask(port, get("/health")).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def test_who_has_sent_a_request_to_a_worker_that_was_stopped_is_answered(
    service: Service, tmp_path: Path
) -> None:
    """Stopped for longer than a request may take to arrive, with more clients than it has room
    for: what it has not read is none the less there."""
    service.environ |= {"WEB_CONCURRENCY": "1", "FASTX_LIST_MAX_SUBSCRIBERS_PER_LOGIN": "1000"}
    alice = service.token("alice")
    path = f"/api/list/{alice}"
    list_ = Late("web", service.list_port, FILES - 82, get(path), b"HTTP/1.1 200")
    sidecar = Late("live", service.live_port, FILES - 182, upgrade(service, alice), b"HTTP/1.1 101")
    workers = [start(service, late, tmp_path) for late in (list_, sidecar)]
    with Crowd(list_.port) as web, Crowd(sidecar.port) as live:
        crowds = [(web, list_), (live, sidecar)]
        slow = [(crowd.add(late.room, late.request[:-2]), late) for crowd, late in crowds]
        assert answers(list_.port) and answers(sidecar.port)  # so they have accepted all before
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            for socks, _ in slow:
                for sock in socks:
                    sock.sendall(b"\r\n")
            for crowd, _ in crowds:
                crowd.add(60)
            quick = [(crowd.add(40, late.request), late) for crowd, late in crowds]
            time.sleep(PATIENCE + 0.5)  # it is the time that makes it late
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        for socks, late in slow + quick:
            assert {sock.recv(12) for sock in socks} == {late.answer}
    assert "Traceback" not in service.processes.log("live") + service.processes.log("web")
