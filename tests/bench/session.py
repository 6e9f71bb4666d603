"""From the start of a real session to its WebSocket message, and from a client's coming to its
message.

What decides is the agent's interval: a session that starts right after a look waits for the next.
So it is the figure beside which the others stand; the rest is what the product adds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

from websockets.sync.client import ClientConnection, connect

from fastx_list.agent.process import login_of
from tests.bench import common

FIRST_DISPLAY = 7000
MAX_P95 = 1.2  # seconds at the default interval of 1 s


def await_pid(connection: ClientConnection, pid: int) -> float:
    """Return when the first message about the session of server process ``pid`` came."""
    while True:
        message = json.loads(connection.recv(timeout=20))
        if message["data"] and message["data"]["serverPid"] == pid:
            return time.monotonic()


def run(options: argparse.Namespace) -> int:
    report = common.Report("From a session's start to its message", options.quick)
    server = common.tool("Xtigervnc")
    port, delays = common.free_port(), []
    with ExitStack() as stack:
        directory = stack.enter_context(common.work_dir())
        environ = common.environment(directory)
        stack.enter_context(
            common.running(
                common.gunicorn("live", f"127.0.0.1:{port}"), environ, common.listens(port)
            )
        )
        agent = [sys.executable, "-m", "fastx_list", "agent"]
        stack.enter_context(common.running(agent, environ, (directory / "sessions.db").exists))
        token = common.issue(directory, login_of(os.geteuid()))
        connection = stack.enter_context(connect(f"ws://127.0.0.1:{port}/api/list?token={token}"))
        for number in range(3 if options.quick else options.sessions):
            # At any moment of the agent's interval, so that the wait for its next look is fair
            time.sleep(random.random())
            began = time.monotonic()
            with subprocess.Popen(
                [
                    server,
                    f":{FIRST_DISPLAY + number}",
                    "-geometry",
                    "320x200",
                    "-SecurityTypes",
                    "None",
                    "-rfbport",
                    str(common.free_port()),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                delays.append(await_pid(connection, process.pid) - began)
                process.terminate()
    report.figure("the agent's interval", [1.0], "s")
    report.figure("start of a session to its message: median", [statistics.median(delays)], "s")
    report.target(
        "start of a session to its message: 95 of 100 within, s",
        common.percentile(delays, 95),
        at_most=MAX_P95,
    )
    return 1 if report.missed and not report.smoke else 0


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    count = common.whole(20, 1000)
    parser.add_argument(
        "--sessions",
        type=count,
        default=60,
        help="real X servers to start, one after the other (%(default)s)",
    )
    common.main(run, parser)
