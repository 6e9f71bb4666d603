"""The servers that the live benchmarks put side by side: the sidecar, and what an engineer would
otherwise pick."""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from websockets.sync.client import connect

from fastx_list import config
from fastx_list.live.frames import session_frame
from fastx_list.model.params import merge_params
from fastx_list.model.session import encode
from fastx_list.store import open_store
from tests.bench import common

SESSIONS = 20  # of the one login
SETTLE_SECONDS = 15.0
SETTLE_PAUSE = 1.0
IDLE = 0.1  # of a processor
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

Publish = Callable[[int], int]
PublishText = Callable[[str, str], None]


@dataclass(frozen=True)
class Peer:
    """A server that runs: process ``pid`` and its children.

    ``publish`` sends message number so-and-so to all, and returns when that began (ns): for a
    server that is asked to send, the moment of asking; for the sidecar, the moment the change was
    in the store. A client gets ``first`` messages at once.
    """

    port: int
    target: str
    pid: int
    publish: Publish
    first: int = 0


def patch(number: int) -> dict[str, object]:
    """Return the params by which a message is known; they bring it to 560 bytes or so."""
    return {"seq": number, "note": "what a portal keeps of a session"}


@contextmanager
def sidecar(directory: Path, port: int, **settings: str) -> Iterator[int]:
    """Run the sidecar on the store in ``directory``. Yields its pid."""
    settings = {
        "WEB_CONCURRENCY": "1",
        "FASTX_LIST_MAX_SUBSCRIBERS_PER_LOGIN": "100000",
        **settings,
    }
    environ = common.environment(directory, **settings)
    with common.running(
        common.gunicorn("live", f"127.0.0.1:{port}"), environ, common.listens(port)
    ) as pid:
        # It reads its store before it lets anyone in, and one worker may be later than the other
        used = 0.0
        while common.used(pid, children=True) - used > IDLE * SETTLE_PAUSE:
            used = common.used(pid, children=True)
            time.sleep(SETTLE_PAUSE)
        yield pid


@contextmanager
def http_list(directory: Path) -> Iterator[str]:
    """Run the list over HTTP on the store in ``directory``. Yields its address, which a token
    completes."""
    port = common.free_port()
    command = common.gunicorn("web", f"127.0.0.1:{port}")
    with common.running(
        command, common.environment(directory, WEB_CONCURRENCY="2"), common.listens(port)
    ):
        yield f"http://127.0.0.1:{port}/api/list/"


@contextmanager
def ours(directory: Path, workers: int = 1) -> Iterator[Peer]:
    sessions = list(common.fill(directory, SESSIONS).values())
    store = open_store(config.load(common.environment(directory)).store)
    port = common.free_port()
    target = f"/api/list?token={common.issue(directory, common.login_name(0))}"

    def publish(number: int) -> int:
        session = sessions[number % SESSIONS]
        store.set_params(session.id, session.login, patch(number))
        return time.time_ns()

    try:
        with sidecar(directory, port, WEB_CONCURRENCY=str(workers)) as pid:
            yield Peer(port, target, pid, publish, SESSIONS)
    finally:
        store.close()


def message(number: int) -> str:
    """Return the text of the message that the sidecar sends for the same number."""
    session = common.make_session(number % SESSIONS)
    frame = session_frame(
        session.id, encode(session, merge_params(session.params, patch(number))).encode()
    )
    # Without its header; it is more than 125 bytes long and less than 64 KiB
    return frame[4:].decode()


@dataclass(frozen=True)
class Broadcast:
    """A server that is told over a WebSocket what to send: ``publish`` takes a login and a
    message."""

    port: int
    pid: int
    publish: PublishText

    def peer(self) -> Peer:
        def publish(number: int) -> int:
            began = time.time_ns()
            self.publish("all", message(number))
            return began

        return Peer(self.port, "/all", self.pid, publish)


@contextmanager
def _told_what_to_send(
    command: Sequence[str], environ: dict[str, str], port: int
) -> Iterator[Broadcast]:
    with common.running(command, environ, common.listens(port)) as pid:
        with connect(f"ws://127.0.0.1:{port}/publish", proxy=None) as publisher:
            yield Broadcast(port, pid, lambda login, text: publisher.send(f"{login}\n{text}"))


@contextmanager
def broadcast(directory: Path, compression: str) -> Iterator[Broadcast]:
    """Run :mod:`tests.bench.broadcast`; ``compression`` is ``deflate`` or ``none``."""
    port = common.free_port()
    command = [sys.executable, "-m", "tests.bench.broadcast", str(port), compression]
    with _told_what_to_send(command, common.environment(directory), port) as server:
        yield server


@contextmanager
def websockets(directory: Path) -> Iterator[Peer]:
    with broadcast(directory, "deflate") as server:
        yield server.peer()


@contextmanager
def websockets_plain(directory: Path) -> Iterator[Peer]:
    with broadcast(directory, "none") as server:
        yield server.peer()


@contextmanager
def flask_sock(directory: Path) -> Iterator[Peer]:
    port = common.free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--worker-class",
        "gevent",
        "--worker-connections",
        "20000",
        "--backlog",
        "4096",
        "--no-control-socket",
        "--config",
        os.devnull,
        "--bind",
        f"127.0.0.1:{port}",
        "tests.bench.bare_live:create_app()",
    ]
    with _told_what_to_send(command, common.environment(directory), port) as server:
        yield server.peer()


@contextmanager
def nchan(directory: Path, workers: int = 1) -> Iterator[Peer]:
    if not NCHAN_MODULE.exists():
        raise common.BenchmarkError(
            "Nchan is not installed; docs/performance.md says what the benchmarks need"
        )
    port = common.free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"  {kind}_temp_path {directory}/{kind};" for kind in kinds)
    (directory / "nginx.conf").write_text(f"""
load_module {NCHAN_MODULE};
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
pid {directory}/pid;
error_log stderr;
worker_processes {workers};
events {{ worker_connections 19000; }}
http {{
  access_log off;
{temporary}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    nchan_channel_id all;
    location = /all {{ nchan_subscriber websocket; nchan_subscriber_first_message newest; }}
    location = /publish {{ nchan_publisher http; nchan_message_buffer_length 20; }}
  }}
}}
""")
    command = [
        common.tool("nginx"),
        "-p",
        str(directory),
        "-e",
        "stderr",
        "-c",
        str(directory / "nginx.conf"),
    ]
    with common.running(command, common.environment(directory), common.listens(port)) as pid:
        publisher = http.client.HTTPConnection("127.0.0.1", port)

        def publish(number: int) -> int:
            body = message(number)
            began = time.time_ns()
            publisher.request("POST", "/publish", body, {"Content-Type": "text/plain"})
            answer = publisher.getresponse()
            answer.read()
            if answer.status >= 300:
                raise common.BenchmarkError(
                    f"Nchan does not publish: {answer.status} {answer.reason}"
                )
            return began

        yield Peer(port, "/all", pid, publish)
        publisher.close()


def memory(pid: int) -> int:
    """Return the bytes of memory of process ``pid`` and its children; what they share counts once
    (PSS)."""
    process = psutil.Process(pid)
    return sum(
        int(each.memory_full_info().pss) for each in [process, *process.children(recursive=True)]
    )


def settled_memory(pid: int) -> int:
    """Return what ``memory`` says once it no longer changes."""
    found = memory(pid)
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(1)
        before, found = found, memory(pid)
        if abs(found - before) <= found / 500:
            break
    return found
