"""What nginx in front costs: the list and a WebSocket's messages through the shipped site, beside
the same without it.

Needs ``wrk`` (Debian: wrk), ``nginx`` (Debian: nginx-light) and ``openssl``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from fastx_list import config
from fastx_list.model.session import Session
from fastx_list.store import open_store
from tests.bench import common
from tests.bench.list import rates, show
from tests.system.nginx import HOST, Nginx

ASKED = common.login_name(7)
MIN_RATIO = 1.0
MAX_MORE_MS = 5
MESSAGE_SECONDS = 10
LISTEN = "listen 443 ssl;"


def listens(port: int, path: Path | None = None) -> Callable[[], bool]:
    """Return a check whether anybody listens on ``port``, and at ``path`` where one is given."""
    return lambda: common.listens(port)() and (path is None or path.exists())


@contextmanager
def site(directory: Path) -> Iterator[tuple[Nginx, int, int]]:
    """Run nginx with the shipped site. Yields it, a port at which the same site is without TLS, and
    the pid."""
    nginx, plain = Nginx(directory), common.free_port()
    nginx.configure({LISTEN: f"listen 127.0.0.1:{plain}; listen 127.0.0.1:{nginx.port} ssl;"})
    with common.running(nginx.command(), common.environment(directory), listens(nginx.port)) as pid:
        yield nginx, plain, pid


def load(options: argparse.Namespace, report: common.Report, directory: Path) -> None:
    """The list under load, at its own port and through nginx, without and with TLS; connections are
    kept where they can be."""
    port, path = common.free_port(), directory / "list.sock"
    environ = common.environment(directory, WEB_CONCURRENCY="2", FASTX_LIST_TRUSTED_PROXIES="unix")
    asked = f"/api/list/{common.issue(directory, ASKED)}"
    with ExitStack() as stack:
        # Two of them, since a worker that waits at one address is quicker than one that waits at
        # two.
        alone, behind = (
            common.gunicorn("web", address) for address in (f"127.0.0.1:{port}", f"unix:{path}")
        )
        direct = stack.enter_context(common.running(alone, environ, listens(port)))
        stack.enter_context(common.running(behind, environ, path.exists))
        nginx, plain, pid = stack.enter_context(site(directory))
        servers = {
            "direct": common.Server(f"http://{HOST}:{port}{asked}", direct),
            "plain": common.Server(f"http://{HOST}:{plain}{asked}", pid),
            "tls": common.Server(f"https://{HOST}:{nginx.port}{asked}", pid),
        }
        for name in ("direct", "plain"):
            common.get(servers[name].url)  # once a worker of each has read the store
        for server in servers.values():
            common.wrk(server, 1, options.connections)
        found = common.alternate(
            {
                name: measure(server, options.seconds, options.connections)
                for name, server in servers.items()
            },
            options.rounds,
        )
    print(
        f"{common.PER_LOGIN} sessions an answer, {options.connections} connections; processor time"
        " of nginx is its own alone"
    )
    show(report, "the list at its own port", found["direct"])
    for name, what in (("plain", "through nginx, HTTP"), ("tls", "through nginx, HTTPS")):
        show(report, what, found[name])
        ratio = report.figure(
            "  : at its own port, of each round", rates(found[name], found["direct"]), "times"
        )
        report.target(f"{what} : at its own port", ratio, at_least=MIN_RATIO)


def measure(server: common.Server, seconds: int, connections: int) -> Callable[[], common.Load]:
    return lambda: common.wrk(server, seconds, connections)


def messages(options: argparse.Namespace, report: common.Report, directory: Path) -> None:
    """The same messages of one sidecar to two clients, one of them behind nginx."""
    port, path = common.free_port(), directory / "live.sock"
    environ = common.environment(directory, WEB_CONCURRENCY="1", FASTX_LIST_TRUSTED_PROXIES="unix")
    command = common.gunicorn("live", f"127.0.0.1:{port}", f"unix:{path}")
    question = f"/api/list?token={common.issue(directory, ASKED)}&snapshot=0"
    with common.running(command, environ, listens(port, path)), site(directory) as (nginx, _, _):
        direct, behind = asyncio.run(
            follow(
                directory,
                f"ws://{HOST}:{port}{question}",
                f"wss://{HOST}:{nginx.port}{question}",
                nginx,
                options.changes,
            )
        )
    print(f"{options.changes} changes, from the commit to the message")
    more = common.percentile([b - a for a, b in zip(direct, behind, strict=True)], 50)
    for what, times in (("at its own port", direct), ("through nginx, TLS", behind)):
        report.figure(f"a message {what}: median", [statistics.median(times)], "ms")
        report.figure("  99 of 100 within", [common.percentile(times, 99)], "ms")
    report.target("a message through nginx takes longer, median, by ms", more, at_most=MAX_MORE_MS)


async def follow(
    directory: Path, direct: str, behind: str, nginx: Nginx, changes: int
) -> tuple[Sequence[float], Sequence[float]]:
    """Return the milliseconds from each commit to its message, as one client and as the other saw
    it."""
    store = open_store(config.load(common.environment(directory)).store)
    sessions = {
        session.id: session for session in map(common.make_session, range(10 * common.PER_LOGIN))
    }
    mine = [session for session in sessions.values() if session.login == ASKED]
    pause = random.Random(1)
    times: tuple[list[float], list[float]] = ([], [])
    async with (
        connect(direct, proxy=None) as first,
        connect(behind, proxy=None, ssl=nginx.tls) as second,
    ):
        for count in range(changes):
            # So that changes come at any moment of the sidecar's waiting
            await asyncio.sleep(pause.uniform(0.005, 0.05))
            session: Session = replace(mine[count % len(mine)], clients=1000 + count)
            sessions[session.id] = session
            store.observe(common.SERVER_ID, sessions)
            committed = time.perf_counter()
            came = await asyncio.gather(
                *(arrival(client, 1000 + count) for client in (first, second))
            )
            for kept, moment in zip(times, came, strict=True):
                kept.append((moment - committed) * 1000)
    store.close()
    return times


async def arrival(client: ClientConnection, clients: int) -> float:
    """Return when the next message came, which has to say ``clients``."""
    message = json.loads(await asyncio.wait_for(client.recv(), MESSAGE_SECONDS))
    now = time.perf_counter()
    if message["data"]["clients"] != clients:
        raise common.BenchmarkError(f"another message was expected: {message!r:.200}")
    return now


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.rounds, options.seconds, options.changes = 1, 1, 20
    report = common.Report("Behind nginx", options.quick)
    with common.work_dir() as directory:
        directory.chmod(0o755)  # nginx's processes are another user's
        common.fill(directory, 10 * common.PER_LOGIN)
        load(options, report, directory)
        messages(options, report, directory)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=common.whole(1, 100), default=7, help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=common.whole(1, 60), default=4, help="of load in each round (%(default)s)"
    )
    parser.add_argument(
        "--connections", type=common.whole(1, 1000), default=8, help="(%(default)s)"
    )
    parser.add_argument(
        "--changes", type=common.whole(2, 100_000), default=300, help="(%(default)s)"
    )
    common.main(run, parser)
