"""From a commit in one process to the message at a WebSocket client of the sidecar, beside a bare
gevent echo."""

from __future__ import annotations

import argparse
import random
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from fastx_list import config
from fastx_list.model.session import Session
from fastx_list.store import Store, open_store
from tests.bench import common

TARGET_MS = 50
MESSAGE_SECONDS = 10


@contextmanager
def sidecar(directory: Path, **more: str) -> Iterator[ClientConnection]:
    """Run the sidecar, and connect to it as the login of the first sessions."""
    port = common.free_port()
    command = common.gunicorn("live", f"127.0.0.1:{port}")
    environ = common.environment(directory, WEB_CONCURRENCY="1", **more)
    token = common.issue(directory, common.login_name(0))
    with common.running(command, environ, common.listens(port)):
        time.sleep(1)  # it reads its store before it lets anyone in
        with connect(
            f"ws://127.0.0.1:{port}/api/list?token={token}&snapshot=0", proxy=None
        ) as client:
            yield client


@contextmanager
def echo() -> Iterator[socket.socket]:
    port = common.free_port()
    command = [sys.executable, "-m", "tests.bench.bare", str(port)]
    with common.running(command, common.environment(Path("/")), common.listens(port)):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield client


class Writer:
    """Changes one session at a time, as an agent or a portal does. ``call`` says how long each
    change took to commit."""

    def __init__(
        self, store: Store, sessions: dict[str, Session], client: ClientConnection
    ) -> None:
        self._store, self._sessions, self._client = store, sessions, client
        self._mine = [
            session for session in sessions.values() if session.login == common.login_name(0)
        ]
        self._count = 0
        self.call: dict[str, list[float]] = {"observe": [], "set_params": []}

    def observe(self) -> float:
        """Return the milliseconds from the commit of a server's view, in which one session is new,
        to its message."""
        self._count += 1
        session = self._mine[self._count % len(self._mine)]
        session = self._sessions[session.id] = replace(session, clients=1000 + self._count)
        began = time.perf_counter()
        self._store.observe(common.SERVER_ID, self._sessions)
        return self._await("observe", began, f'"clients":{session.clients}')

    def set_params(self) -> float:
        """Return the milliseconds from the commit of new params to the message."""
        self._count += 1
        session = self._mine[self._count % len(self._mine)]
        began = time.perf_counter()
        self._store.set_params(session.id, session.login, {"count": self._count})
        return self._await("set_params", began, f'"count":{self._count}')

    def _await(self, what: str, began: float, sign: str) -> float:
        committed = time.perf_counter()
        message = self._client.recv(timeout=MESSAGE_SECONDS)
        now = time.perf_counter()
        if sign not in str(message).replace(" ", ""):
            raise common.BenchmarkError(f"another message was expected: {sign}")
        self.call[what].append((committed - began) * 1000)
        return (now - committed) * 1000


def round_trip(client: socket.socket, data: bytes) -> float:
    """Return the milliseconds that ``data`` takes through the echo and back."""
    began = time.perf_counter()
    client.sendall(data)
    left = len(data)
    while left:
        left -= len(client.recv(left))
    return (time.perf_counter() - began) * 1000


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.sessions, options.changes = 200, 20
    report = common.Report("From a commit to the WebSocket", options.quick)
    with common.work_dir() as directory:
        sessions = common.fill(directory, options.sessions)
        store = open_store(config.load(common.environment(directory)).store)
        body = b"x" * 600
        with sidecar(directory) as client, echo() as bare:
            writer = Writer(store, sessions, client)
            pause = random.Random(1)

            def rested(measure: str) -> float:
                # So that changes come at any moment of the sidecar's waiting
                time.sleep(pause.uniform(0.005, 0.05))
                return (
                    round_trip(bare, body)
                    if measure == "echo"
                    else float(getattr(writer, measure)())
                )

            names = ("observe", "set_params", "echo")
            found = common.alternate(
                {name: partial(rested, name) for name in names}, options.changes
            )
        store.close()
    print(f"{options.sessions} sessions in the store, {options.changes} changes of each kind")
    for name, what in (
        ("observe", "a server's view"),
        ("set_params", "params"),
        ("echo", "bare gevent echo, 600 bytes"),
    ):
        median = report.figure(f"{what}: median", [common.percentile(found[name], 50)], "ms")
        report.figure(f"{what}: 99 of 100 within", [common.percentile(found[name], 99)], "ms")
        if name != "echo":
            report.figure(
                "  the commit itself, before that: median",
                [common.percentile(writer.call[name], 50)],
                "ms",
            )
            report.target(f"{what}: median", median, at_most=TARGET_MS)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--sessions",
        type=common.whole(20, 1_000_000),
        default=10_000,
        help="in the store (%(default)s)",
    )
    parser.add_argument(
        "--changes", type=common.whole(2, 100_000), default=300, help="of each kind (%(default)s)"
    )
    common.main(run, parser)
