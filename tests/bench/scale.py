"""Many machines on one Redis: what each part costs with 10 of them and with 100, and so how it
grows.

The machines' agents are simulated: one process asks and writes for all of them what real ones
would, at the times they would. Needs ``redis-server`` (Debian: redis-server).
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil

from fastx_list import config
from fastx_list.model.server import Server
from fastx_list.model.session import Session
from fastx_list.store import Lease, open_store
from fastx_list.tokens import Tokens
from tests.bench import common
from tests.redis_server import redis_server

SESSIONS = 100  # of each machine
# Seconds between an agent's questions, its heartbeats, and changes of its sessions
SCAN, BEAT, CHANGE = 1.0, 15.0, 10.0
POLLS = 20  # requests a second for the list meanwhile


class Cost(NamedTuple):
    """Share of a core in percent, and memory in MiB."""

    cpu: float
    memory: float


def simulate(url: str, machines: int) -> None:
    """Be the agents of so many machines, each with a connection of its own, until killed."""
    chance = random.Random(1)
    stores = [open_store(url) for _ in range(machines)]
    views: list[dict[str, Session]] = []
    leases = [Lease(f"agent{index}", "1", f"host{index}", 60) for index in range(machines)]
    due: list[tuple[float, int, str]] = []
    for index, store in enumerate(stores):
        made = (common.make_session(index * SESSIONS + number) for number in range(SESSIONS))
        views.append(
            {session.id: replace(session, server_id=f"machine{index:03}") for session in made}
        )
        store.observe(f"machine{index:03}", views[index], leases[index])
        for what, interval in (("scan", SCAN), ("beat", BEAT), ("change", CHANGE)):
            heapq.heappush(due, (time.monotonic() + chance.uniform(0, interval), index, what))
    print("ready", flush=True)
    while True:
        at, index, what = heapq.heappop(due)
        time.sleep(max(0.0, at - time.monotonic()))
        name, store = f"machine{index:03}", stores[index]
        if what == "scan":
            store.edition(name)
        elif what == "beat":
            store.heartbeat(
                Server(name, f"host{index}", cpu=chance.random() * 100, sessions=SESSIONS),
                leases[index],
            )
        else:
            changed = chance.choice(list(views[index].values()))
            views[index][changed.id] = replace(changed, clients=(changed.clients or 0) + 1)
            store.observe(name, views[index], leases[index])
        heapq.heappush(
            due, (at + {"scan": SCAN, "beat": BEAT, "change": CHANGE}[what], index, what)
        )


@contextmanager
def agents(url: str, machines: int, directory: Path) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.scale", "--simulate", url, "--machines", str(machines)],
        stdout=subprocess.PIPE,
        cwd=common.ROOT,
        env=common.environment(directory),
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise common.BenchmarkError("the agents could not be simulated")
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def measure(directory: Path, machines: int, seconds: float) -> dict[str, Cost]:
    """Return what each part costs while nothing but the usual happens."""
    directory.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(redis_server())
        environ = common.environment(directory, FASTX_LIST_STORE=server.url, WEB_CONCURRENCY="1")
        token = Tokens(config.load(environ)).issue("root", 3600, admin=True)
        parts = {
            "Redis": server.process.pid,
            "all agents": stack.enter_context(agents(server.url, machines, directory)),
        }
        port = common.free_port()
        for name, role in (("sidecar", "live"), ("list", "web")):
            port = common.free_port()
            parts[name] = stack.enter_context(
                common.running(
                    common.gunicorn(role, f"127.0.0.1:{port}"), environ, common.listens(port)
                )
            )
        url = f"http://127.0.0.1:{port}/api/admin/session/{token}?limit=50"
        common.get(url)
        before = {name: common.used(pid, children=True) for name, pid in parts.items()}
        began = time.monotonic()
        for count in range(round(seconds * POLLS)):
            time.sleep(max(0.0, began + count / POLLS - time.monotonic()))
            common.get(url)
        took = time.monotonic() - began
        return {
            name: Cost((common.used(pid, children=True) - before[name]) / took * 100, memory(pid))
            for name, pid in parts.items()
        }


def memory(pid: int) -> float:
    process = psutil.Process(pid)
    return float(
        sum(each.memory_full_info().pss for each in [process, *process.children()]) / 2**20
    )


def run(options: argparse.Namespace) -> int:
    if options.simulate:
        simulate(options.simulate, options.machines)
    if options.quick:
        options.seconds, options.rounds = 2, 1
    report = common.Report("Many machines", options.quick)
    with common.work_dir() as directory:
        for machines in (10, options.machines):
            found = [
                measure(directory / f"{machines}-{round_}", machines, options.seconds)
                for round_ in range(options.rounds)
            ]
            print(
                f"{machines} machines with {SESSIONS} sessions each, {POLLS} requests a second for"
                " an administrator's page"
            )
            for name in found[0]:
                report.figure(f"{name}, of a core", [each[name].cpu for each in found], "%")
                report.figure("  memory", [each[name].memory for each in found], "MiB")
            each_agent = statistics.median(each["all agents"].cpu for each in found) / machines
            report.figure("an agent's asking and writing, of a core", [each_agent], "%")
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument("--machines", type=common.whole(1, 1000), default=100, help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=common.whole(1, 600), default=20, help="of each round (%(default)s)"
    )
    parser.add_argument("--rounds", type=common.whole(1, 100), default=3, help="(%(default)s)")
    parser.add_argument("--simulate", metavar="URL", help=argparse.SUPPRESS)
    common.main(run, parser)
