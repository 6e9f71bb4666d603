"""Redis as the store: the list beside the same one on SQLite, and from a change on one machine to a
subscriber on another.

The change is beside a bare publish and subscribe on the same Redis. Needs ``redis-server`` and
``wrk`` (Debian: the same).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from websockets.sync.client import ClientConnection

from fastx_list.model.session import Session
from fastx_list.store import Lease, Store, open_store
from tests.bench import common
from tests.bench.list import check_same, product, rates, show
from tests.bench.store import MESSAGE_SECONDS, sidecar
from tests.redis_server import RedisServer, redis_server

PER_MACHINE = 100
LEASE = Lease("bench", "1", "bench", 3600)
MIN_RATIO = 0.85
MAX_P99_MS = 25


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    common.tool("redis-server")
    with redis_server() as server:
        yield server


def throughput(options: argparse.Namespace, report: common.Report, directory: Path) -> None:
    """The same list of the same sessions on either store."""
    load = options.seconds, options.connections
    with running_redis() as server, product(directory / "sqlite", options.sessions) as sqlite:
        with product(directory / "redis", options.sessions, FASTX_LIST_STORE=server.url) as redis:
            check_same(sqlite.sessions.values(), sqlite, redis)
            for each in (sqlite, redis):
                common.wrk(each, 2, options.connections)
            found = common.alternate(
                {
                    "sqlite": lambda: common.wrk(sqlite, *load),
                    "redis": lambda: common.wrk(redis, *load),
                },
                options.rounds,
            )
    print(f"{options.sessions} sessions, {options.connections} connections")
    show(report, "the list on SQLite", found["sqlite"])
    show(report, "the list on Redis", found["redis"])
    of_sqlite = report.figure(
        "on Redis : on SQLite, of each round", rates(found["redis"], found["sqlite"]), "times"
    )
    report.target("on Redis : on SQLite", of_sqlite, at_least=MIN_RATIO)


def machine_of(index: int) -> str:
    return f"machine{index // PER_MACHINE:04}"


def fill(store: Store, count: int) -> dict[str, dict[str, Session]]:
    """Put ``count`` sessions of several machines into ``store``; return them by machine."""
    machines: dict[str, dict[str, Session]] = {}
    for index in range(count):
        session = replace(common.make_session(index), server_id=machine_of(index))
        machines.setdefault(session.server_id, {})[session.id] = session
    for name, sessions in machines.items():
        store.observe(name, sessions, LEASE)
    return machines


class Agent:
    """Changes one session at a time on one machine, and awaits the message on another. Times are in
    milliseconds."""

    def __init__(
        self, store: Store, sessions: dict[str, Session], client: ClientConnection
    ) -> None:
        self._store, self._sessions, self._client = store, sessions, client
        self._mine = [
            session.id for session in sessions.values() if session.login == common.login_name(0)
        ]
        self._count = 0

    def change(self) -> float:
        """Return how long it takes from before the change is written until its message is there."""
        self._count += 1
        name = self._mine[self._count % len(self._mine)]
        self._sessions[name] = replace(self._sessions[name], clients=1000 + self._count)
        began = time.perf_counter()
        self._store.observe(machine_of(0), self._sessions, LEASE)
        message = json.loads(self._client.recv(timeout=MESSAGE_SECONDS))
        now = time.perf_counter()
        if message["id"] != name or message["data"]["clients"] != 1000 + self._count:
            raise common.BenchmarkError(f"another message was expected: {message}")
        return (now - began) * 1000


class Bare:
    """A publisher and a subscriber of a channel."""

    def __init__(self, server: RedisServer) -> None:
        client: Any = Redis(port=server.port)  # half of it has no types
        self._publisher, self._subscriber = client, client.pubsub(ignore_subscribe_messages=True)
        self._subscriber.subscribe("bare")
        self._subscriber.get_message(timeout=MESSAGE_SECONDS)
        self._body = b"x" * 600

    def change(self) -> float:
        began = time.perf_counter()
        self._publisher.publish("bare", self._body)
        while self._subscriber.get_message(timeout=MESSAGE_SECONDS) is None:
            pass
        return (time.perf_counter() - began) * 1000


def delay(options: argparse.Namespace, report: common.Report, directory: Path) -> None:
    """From an agent's write to a WebSocket of a sidecar elsewhere."""
    pause = random.Random(1)

    def rested(measure: Callable[[], float]) -> float:
        time.sleep(pause.uniform(0.002, 0.03))
        return measure()

    with running_redis() as server:
        store = open_store(server.url)
        machines = fill(store, options.sessions)
        with sidecar(directory, FASTX_LIST_STORE=server.url) as client:
            agent, bare = Agent(store, machines[machine_of(0)], client), Bare(server)
            found = common.alternate(
                {"ours": partial(rested, agent.change), "bare": partial(rested, bare.change)},
                options.changes,
            )
        store.close()
    print(f"{options.sessions} sessions of {len(machines)} machines, {options.changes} changes")
    names = {
        "ours": "a change on one machine to a subscriber on another",
        "bare": "bare publish/subscribe, 600 bytes",
    }
    for name, what in names.items():
        report.figure(f"{what}: median", [common.percentile(found[name], 50)], "ms")
        p99 = report.figure("  99 of 100 within", [common.percentile(found[name], 99)], "ms")
        if name == "ours":
            report.target("99 of 100 changes within, ms", p99, at_most=MAX_P99_MS)


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.sessions, options.rounds, options.seconds, options.changes = 1000, 1, 1, 20
    report = common.Report("Redis as the store", options.quick)
    with common.work_dir() as directory:
        if options.part != "delay":
            throughput(options, report, directory)
        if options.part != "throughput":
            delay(options, report, directory)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--sessions",
        type=common.whole(200, 1_000_000),
        default=10_000,
        help="in the store (%(default)s)",
    )
    parser.add_argument("--rounds", type=common.whole(1, 100), default=7, help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=common.whole(1, 60), default=4, help="of load in each round (%(default)s)"
    )
    parser.add_argument(
        "--connections", type=common.whole(1, 1000), default=8, help="(%(default)s)"
    )
    parser.add_argument(
        "--changes", type=common.whole(2, 100_000), default=1000, help="(%(default)s)"
    )
    parser.add_argument(
        "--part", choices=("all", "throughput", "delay"), default="all", help="(%(default)s)"
    )
    common.main(run, parser)
