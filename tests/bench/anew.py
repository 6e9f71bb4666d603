"""Everybody reads the store anew, as an older copy of it was restored: how long the longest answer
of a list and of a sidecar takes meanwhile."""

from __future__ import annotations

import argparse
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path

from fastx_list import config
from fastx_list.model.server import Server
from fastx_list.store import Lease, open_store
from tests.bench import common, peers

LEASE = Lease("one", "1", "host", 3600)
PAUSE = 0.002  # seconds between two questions
AFTER_SECONDS = 3.0  # that are asked on, as all are told of very much
MOST_MILLISECONDS = 250


def run(options: argparse.Namespace) -> int:
    report = common.Report("A store that is read anew", options.quick)
    count = 2000 if options.quick else options.sessions
    with common.work_dir() as directory, ExitStack() as stack:
        sessions = common.fill(directory, count)
        environ = common.environment(directory, WEB_CONCURRENCY="1")
        server_id = next(iter(sessions.values())).server_id
        store = stack.enter_context(closing(open_store(config.load(environ).store)))

        def write() -> None:
            edition = store.observe(server_id, sessions, LEASE)
            store.heartbeat(Server(server_id, "host"), LEASE, edition)

        write()
        ports = common.free_port(), common.free_port()
        command = common.gunicorn("web", f"127.0.0.1:{ports[0]}")
        stack.enter_context(common.running(command, environ, common.listens(ports[0])))
        stack.enter_context(peers.sidecar(directory, ports[1], WEB_CONCURRENCY="1"))
        token = common.issue(directory, common.login_name(0))
        urls = {
            "the list": f"http://127.0.0.1:{ports[0]}/api/list/{token}",
            "the sidecar": f"http://127.0.0.1:{ports[1]}/health",
        }
        for url in urls.values():
            common.get(url)
        time.sleep(AFTER_SECONDS)
        longest = {name: list[float]() for name in urls}
        for _ in range(options.rounds):
            kept = Path(directory) / "kept.db"
            database = Path(directory) / "sessions.db"
            kept.unlink(missing_ok=True)
            _copy(database, kept)
            write()
            time.sleep(1)  # until it was read
            _copy(kept, database)
            write()
            taken: dict[str, list[float]] = {name: [] for name in urls}
            end = time.monotonic() + AFTER_SECONDS
            while time.monotonic() < end:
                for name, url in urls.items():
                    began = time.monotonic()
                    common.get(url)
                    taken[name].append((time.monotonic() - began) * 1000)
                time.sleep(PAUSE)
            for name, values in taken.items():
                longest[name].append(max(values))
        print(f"{count} sessions are read anew")
        for name, values in longest.items():
            found = report.figure(f"{name}: the longest answer", values, "ms")
            report.target(f"{name}, ms", found, at_most=MOST_MILLISECONDS)
    return report.status()


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as there, closing(sqlite3.connect(target)) as here:
        there.backup(here)


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--sessions",
        type=common.whole(1000, 1_000_000),
        default=50_000,
        help="in the store (%(default)s)",
    )
    parser.add_argument("--rounds", type=common.whole(1, 100), default=5, help="(%(default)s)")
    common.main(run, parser)
