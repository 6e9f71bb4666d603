"""The HTTP list under load, beside a bare Flask route of the same bytes and beside Datasette on the
same rows.

Needs ``wrk`` (Debian: wrk) and ``datasette`` (PyPI; in this environment, or give its path with
``--datasette``).
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastx_list.model.session import MEMBERS, Session, encode
from tests.bench import common

ASKED = common.login_name(7)
# Datasette's column names have no case, and the published list has this one twice.
COLUMNS = sorted(MEMBERS.keys() - {"disconnectTImeout"})
ORDERS = ("started", "command", "display", "clients", "id", "name")


@dataclass(frozen=True)
class Product(common.Server):
    """The list, running on a store of its own."""

    sessions: dict[str, Session]
    first_answer: float  # seconds, with the sessions read from the store


@contextmanager
def product(directory: Path, count: int, **environ: str) -> Iterator[Product]:
    directory.mkdir()
    sessions = common.fill(directory, count, **environ)
    port = common.free_port()
    url = f"http://127.0.0.1:{port}/api/list/{common.issue(directory, ASKED)}"
    command = common.gunicorn("web", f"127.0.0.1:{port}")
    with common.running(
        command, common.environment(directory, WEB_CONCURRENCY="2", **environ), common.listens(port)
    ) as pid:
        began = time.monotonic()
        common.get(url)
        yield Product(url, pid, sessions, time.monotonic() - began)


@contextmanager
def bare(directory: Path, body: bytes, workers: int = 2) -> Iterator[common.Server]:
    """Run the same gunicorn with a route that returns ``body``, at a path as long as the
    product's."""
    (directory / "body").write_bytes(body)
    port = common.free_port()
    environ = common.environment(
        directory, WEB_CONCURRENCY=str(workers), BENCH_BODY=str(directory / "body")
    )
    with common.running(
        common.gunicorn("web", f"127.0.0.1:{port}", application="tests.bench.bare:create_app()"),
        environ,
        common.listens(port),
    ) as pid:
        yield common.Server(
            f"http://127.0.0.1:{port}/api/list/{common.issue(directory, ASKED)}", pid
        )


@contextmanager
def datasette(
    program: str, directory: Path, sessions: Iterable[Session]
) -> Iterator[list[common.Server]]:
    """Run Datasette with the sessions in a plain table, and in one with an index made for the
    question."""
    path = directory / "bench.db"
    with sqlite3.connect(path) as db:
        rows = [_row(session) for session in sessions]
        for table in ("session", "indexed"):
            db.execute(f"CREATE TABLE {table} ({', '.join(COLUMNS)}, PRIMARY KEY (id))")
            db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(COLUMNS))})", rows)
        db.execute("CREATE INDEX by_login ON indexed (login, started)")
    db.close()
    port = common.free_port()
    command = [program, "serve", str(path), "--host", "127.0.0.1", "--port", str(port)]
    with common.running(command, common.environment(directory), common.listens(port)) as pid:
        question = f"login={ASKED}&_sort=started&_size=20&_shape=array"
        yield [
            common.Server(f"http://127.0.0.1:{port}/bench/{table}.json?{question}", pid)
            for table in ("session", "indexed")
        ]


def _row(session: Session) -> list[Any]:
    members = json.loads(encode(session, session.params))
    return [json.dumps(members[name]) if name == "params" else members[name] for name in COLUMNS]


def check_same(expected: Iterable[Session], *servers: common.Server) -> None:
    """See that every answer holds the sessions of the asked login, with the same facts, oldest
    first."""
    wanted = sorted(
        (session for session in expected if session.login == ASKED),
        key=lambda session: (session.started, session.id),
    )
    facts = [_row(session) for session in wanted]
    for server in servers:
        answer = json.loads(common.get(server.url))
        for members in answer:
            if isinstance(members["params"], dict):
                members["params"] = json.dumps(members["params"])
        if not facts or [[members[name] for name in COLUMNS] for members in answer] != facts:
            raise common.BenchmarkError(f"this is not the list of {ASKED}: {answer!r:.1000}")


def write_script(path: Path, url: str, question: str) -> Path:
    """Write a script for wrk that asks another question each time; in ``question``, Lua's ``n``
    counts the requests."""
    target = "/" + url.split("/", 3)[3]
    path.write_text(
        f"local n, orders = 0, {{{', '.join(map(repr, ORDERS))}}}\n"
        "request = function()\n"
        "  n = n + 1\n"
        f"  return wrk.format('GET', '{target}?' .. {question})\n"
        "end\n"
    )
    return path


def show(report: common.Report, name: str, loads: Sequence[common.Load]) -> None:
    report.figure(name, [load.rate for load in loads], "requests/s")
    report.figure("  processor time of the server for each", [load.cost for load in loads], "µs")


def rates(over: Sequence[common.Load], under: Sequence[common.Load]) -> list[float]:
    """Return the quotients of requests per second of each round."""
    return common.ratios([load.rate for load in over], [load.rate for load in under])


def compare(options: argparse.Namespace, report: common.Report, directory: Path) -> None:
    """The same list from the product, from a bare route and from Datasette; then with questions
    nobody asked before."""
    load = options.seconds, options.connections
    with ExitStack() as stack:
        ours = stack.enter_context(product(directory / "product", options.sessions))
        answer = common.get(ours.url)
        plain = stack.enter_context(bare(directory, answer))
        program = common.tool(options.datasette or "datasette")
        rows, indexed = stack.enter_context(datasette(program, directory, ours.sessions.values()))
        check_same(ours.sessions.values(), ours, plain, rows, indexed)
        for server in (ours, plain, rows, indexed):
            common.wrk(server, 1, options.connections)
        found = common.alternate(
            {
                "ours": lambda: common.wrk(ours, *load),
                "bare": lambda: common.wrk(plain, *load),
                "rows": lambda: common.wrk(rows, *load),
                "indexed": lambda: common.wrk(indexed, *load),
            },
            options.rounds,
        )
        print(
            f"{options.sessions} sessions, {len(answer)} bytes an answer, {options.connections}"
            " connections"
        )
        show(report, "the list", found["ours"])
        show(report, "bare Flask route, the same bytes", found["bare"])
        show(report, "Datasette, the same rows", found["rows"])
        show(report, "Datasette, with an index for this question", found["indexed"])
        of_bare = report.figure(
            "the list : bare route, of each round", rates(found["ours"], found["bare"]), "times"
        )
        of_rows = report.figure(
            "the list : Datasette, of each round", rates(found["ours"], found["rows"]), "times"
        )
        report.figure(
            "the list : Datasette with the index, of each round",
            rates(found["ours"], found["indexed"]),
            "times",
        )
        report.target("the list : bare route", of_bare, at_least=1.3)
        report.target("the list : Datasette", of_rows, at_least=15)

        # A limit that was never asked before makes every question a new one, and still takes in all
        # sessions of the login. The bare route is asked the same, which wrk has to make up, too.
        question = (
            "'sortBy=' .. orders[n % #orders + 1] .. '&sortReverse=' .. n % 2 .. '&start=' .. n % 5"
            " .. '&limit=' .. 20 + n"
        )
        asked = {
            f"{name} {what}": (
                server,
                write_script(directory / f"{name}-{what}.lua", server.url, text),
            )
            for what, text in (("buster", "'_=' .. n"), ("other", question))
            for name, server in (("ours", ours), ("bare", plain))
        }
        found = common.alternate(
            {
                name: partial(common.wrk, server, *load, script)
                for name, (server, script) in asked.items()
            },
            options.rounds,
        )
        print("a varying question")
        for what, name in (
            ("buster", "a cache-buster each time"),
            ("other", "another sortBy, start and limit each time"),
        ):
            show(report, name, found[f"ours {what}"])
            show(report, "  bare Flask route, asked the same", found[f"bare {what}"])
            of_bare = report.figure(
                "  : bare route, of each round",
                rates(found[f"ours {what}"], found[f"bare {what}"]),
                "times",
            )
        report.target("a new question each time : bare route", of_bare, at_least=1.0)


def grow(options: argparse.Namespace, report: common.Report, directory: Path) -> None:
    """The same list with few and with many sessions of other people in the store."""
    load = options.seconds, options.connections
    with (
        product(directory / "few", options.few) as few,
        product(directory / "many", options.many) as many,
    ):
        check_same(few.sessions.values(), few, many)
        for server in (few, many):
            common.wrk(server, 2, options.connections)
        found = common.alternate(
            {"few": lambda: common.wrk(few, *load), "many": lambda: common.wrk(many, *load)},
            options.rounds,
        )
        print(f"{options.few} sessions in the store against {options.many}")
        for count, server, loads in (
            (options.few, few, found["few"]),
            (options.many, many, found["many"]),
        ):
            report.figure(f"first answer with {count} sessions", [server.first_answer * 1000], "ms")
            show(report, f"the list with {count} sessions", loads)
        report.target(
            "time per request, many : few",
            statistics.median(rates(found["few"], found["many"])),
            at_most=1.1,
        )


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.sessions, options.few, options.many, options.rounds, options.seconds = (
            1000,
            200,
            2000,
            1,
            1,
        )
    report = common.Report("The HTTP list", options.quick)
    with common.work_dir() as directory:
        if options.part != "grow":
            compare(options, report, directory)
        if options.part != "compare":
            grow(options, report, directory)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--sessions",
        type=common.whole(200, 1_000_000),
        default=10_000,
        help="in the store (%(default)s)",
    )
    parser.add_argument(
        "--few",
        type=common.whole(200, 1_000_000),
        default=1000,
        help="sessions in the small store (%(default)s)",
    )
    parser.add_argument(
        "--many",
        type=common.whole(200, 1_000_000),
        default=100_000,
        help="in the large store (%(default)s)",
    )
    parser.add_argument("--rounds", type=common.whole(1, 100), default=7, help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=common.whole(1, 60), default=4, help="of load in each round (%(default)s)"
    )
    parser.add_argument(
        "--connections", type=common.whole(1, 1000), default=8, help="(%(default)s)"
    )
    parser.add_argument(
        "--datasette", metavar="PROGRAM", help="path of datasette, if it is installed elsewhere"
    )
    parser.add_argument(
        "--part", choices=("all", "compare", "grow"), default="all", help="(%(default)s)"
    )
    common.main(run, parser)
