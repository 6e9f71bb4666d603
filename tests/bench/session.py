"""From what happens to a real session to its WebSocket message: its start, a first and a second
client, a client that leaves, its end.

The agent has the capabilities and the system calls of its unit, or with --without-rights what any
user has; the sessions are another user's. Each step comes at any moment of the agent's interval.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fastx_list.agent.x11 import socket_path
from tests.bench import common
from tests.chaos.vnc import FIRST_PORT, spare_display
from tests.system.units import SERVICES, confined

USER = "nobody"  # whose the sessions are
MAX_UNLUCKY = 10  # X servers that end early
MISSED_SECONDS = 5.0  # after which a message is not waited for any more
STEPS = ("start", "first client", "second client", "client leaves", "end")
# In seconds, with the unit's rights and without
MEDIAN, P95, MOST_WITHOUT = 0.10, 0.25, 1.2
WITHOUT = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]


class Unlucky(Exception):
    """An X server has ended early, since somebody else has its port, say."""


class Messages:
    """What a WebSocket is told, and when."""

    def __init__(self, connection: ClientConnection) -> None:
        self._queue: SimpleQueue[tuple[float, dict[str, Any]]] = SimpleQueue()
        threading.Thread(target=self._read, args=[connection], daemon=True).start()

    def _read(self, connection: ClientConnection) -> None:
        try:
            for text in connection:
                self._queue.put((time.monotonic(), json.loads(text)))
        except ConnectionClosed:
            pass

    def when(self, says: Callable[[dict[str, Any]], bool]) -> float | None:
        """Return when the first message came that ``says`` so; ``None`` if none did."""
        deadline = time.monotonic() + MISSED_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                at, message = self._queue.get(timeout=left)
            except Empty:
                break
            if says(message):
                return at
        return None


def until(what: str, is_so: Callable[[], bool]) -> float:
    """Return when it was seen to be so."""
    deadline = time.monotonic() + common.START_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise common.BenchmarkError(f"waited in vain for {what}")
        time.sleep(0.0005)
    return time.monotonic()


def view(port: int) -> socket.socket:
    """Connect to a server of RFB as a viewer does (RFC 6143)."""
    viewer = socket.create_connection(("127.0.0.1", port), common.START_SECONDS)
    viewer.recv(12)
    viewer.sendall(b"RFB 003.008\n")
    viewer.recv(64)
    viewer.sendall(b"\x01")  # no password
    viewer.recv(4)
    viewer.sendall(b"\x01")  # shared
    return viewer


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def desktop(display: int, port: int) -> Iterator[subprocess.Popen[bytes]]:
    server = [common.tool("Xtigervnc"), f":{display}", "-geometry", "320x200", "-AlwaysShared"]
    server += ["-SecurityTypes", "None", "-rfbport", str(port)]
    process = subprocess.Popen(
        server,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=USER if os.geteuid() == 0 else None,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for path in (socket_path(display), f"/tmp/.X{display}-lock"):
            Path(path).unlink(missing_ok=True)


def measure(messages: Messages, delays: dict[str, list[float | None]]) -> None:
    """Let one session live, and note how long each message took; ``None`` where none came. Raises
    :class:`Unlucky`."""
    display = spare_display()
    port = FIRST_PORT + display

    def note(step: str, began: float, says: Callable[[dict[str, Any]], bool]) -> None:
        at = messages.when(says)
        delays[step].append(None if at is None else at - began)
        time.sleep(random.uniform(0.1, 1.0))

    def has(clients: int) -> Callable[[dict[str, Any]], bool]:
        return lambda message: bool(message["data"]) and message["data"]["clients"] == clients

    with desktop(display, port) as process:
        name = ""

        def is_it(message: dict[str, Any]) -> bool:
            nonlocal name
            name = message["id"]
            return bool(message["data"]) and message["data"]["serverPid"] == process.pid

        note("start", until("an X server", lambda: os.path.exists(socket_path(display))), is_it)
        until("its port", lambda: process.poll() is not None or listens(port))
        if process.poll() is not None:
            delays["start"].pop()  # it may have ended before anybody could be told of it
            raise Unlucky
        began = time.monotonic()
        first = view(port)
        note("first client", began, has(1))
        began = time.monotonic()
        second = view(port)
        note("second client", began, has(2))
        began = time.monotonic()
        first.close()
        note("client leaves", began, has(1))
        process.terminate()
        ended = until("its end", lambda: process.poll() is not None)
        note("end", ended, lambda message: message["id"] == name and message["data"] is None)
        second.close()


def run(options: argparse.Namespace) -> int:
    report = common.Report("From what happens to a session to its message", options.quick)
    common.tool("Xtigervnc")
    port, delays = common.free_port(), {step: list[float | None]() for step in STEPS}
    is_root = os.geteuid() == 0
    with ExitStack() as stack:
        directory = stack.enter_context(common.work_dir())
        environ = common.environment(directory)
        stack.enter_context(
            common.running(
                common.gunicorn("live", f"127.0.0.1:{port}"), environ, common.listens(port)
            )
        )
        agent = [sys.executable, "-m", "fastx_list", "agent"]
        if is_root and options.without_rights:
            agent = WITHOUT + agent
        elif is_root:
            agent = confined(SERVICES["agent"]) + agent
        stack.enter_context(common.running(agent, environ, (directory / "sessions.db").exists))
        login = USER if is_root else pwd.getpwuid(os.geteuid()).pw_name
        token = common.issue(directory, login)
        connection = stack.enter_context(connect(f"ws://127.0.0.1:{port}/api/list?token={token}"))
        messages = Messages(connection)
        unlucky, rounds = 0, 3 if options.quick else options.rounds
        while len(delays["end"]) < rounds:
            if unlucky > MAX_UNLUCKY:
                raise common.BenchmarkError(f"{unlucky} X servers ended early")
            try:
                measure(messages, delays)
            except Unlucky:
                unlucky += 1
    most = MOST_WITHOUT if options.without_rights else P95
    for step, all_delays in delays.items():
        came = [each for each in all_delays if each is not None]
        report.target(f"{step}: messages that did not come", len(all_delays) - len(came), at_most=0)
        if options.without_rights:
            report.figure(f"{step} to its message", came, "s")
        else:
            report.target(
                f"{step} to its message: median, s", statistics.median(came), at_most=MEDIAN
            )
        report.target(f"{step}: 95 of 100 within, s", common.percentile(came, 95), at_most=most)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--rounds",
        type=common.whole(20, 1000),
        default=200,
        help="real X servers to start, one after the other (%(default)s)",
    )
    parser.add_argument(
        "--without-rights", action="store_true", help="the agent sees no more than any user does"
    )
    common.main(run, parser)
