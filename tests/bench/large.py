"""Large lists: an administrator's page of 50 out of 50,000, beside Datasette on the same rows, and
polling it, beside a bare route.

Needs ``wrk`` (Debian: wrk) and ``datasette`` (PyPI; in this environment, or give its path with
``--datasette``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fastx_list import config
from fastx_list.model.session import Session
from fastx_list.store import Store, open_store
from fastx_list.tokens import Tokens
from tests.bench import common
from tests.bench.list import bare, datasette

PAGE = 50
# As a portal sorts: by each of these, from either end, at several pages. Datasette knows no params.
NAMES = ("started", "login", "command", "clients", "display")


@contextmanager
def product(
    directory: Path, count: int
) -> Iterator[tuple[common.Server, Store, dict[str, Session], str]]:
    """Run the list with ``count`` sessions; yields it, its store, what is in it, and an
    administrator's token."""
    directory.mkdir()
    sessions = common.fill(directory, count)
    settings = config.load(common.environment(directory))
    token = Tokens(settings).issue("root", 3600, admin=True)
    port = common.free_port()
    url = f"http://127.0.0.1:{port}/api/admin/session/{token}"
    store = open_store(settings.store)
    # One worker, so that each request finds the one that has read the store.
    environ = common.environment(directory, WEB_CONCURRENCY="1")
    with common.running(
        common.gunicorn("web", f"127.0.0.1:{port}"), environ, common.listens(port)
    ) as pid:
        yield common.Server(url, pid), store, sessions, token
    store.close()


def ask(url: str) -> tuple[float, Any]:
    """Return how many milliseconds the answer took, and what it says."""
    began = time.monotonic()
    with urllib.request.urlopen(url, timeout=60) as response:
        body = response.read()
    return (time.monotonic() - began) * 1000, json.loads(body)


def question(index: int, start: int) -> tuple[str, str]:
    """Return the same question in the words of the product and in those of Datasette."""
    name, reverse = NAMES[index % len(NAMES)], index // len(NAMES) % 2 == 1
    ours = f"sortBy={name}&sortReverse={str(reverse).lower()}&start={start}&limit={PAGE}"
    return ours, f"_sort{'_desc' if reverse else ''}={name}&_size={PAGE}&_shape=array"


def starts(options: argparse.Namespace, report: common.Report, directory: Path) -> None:
    """The first page after the start, which takes in that the worker reads the store."""
    directory.mkdir()
    common.fill(directory, options.first)
    environ = common.environment(directory, WEB_CONCURRENCY="1")
    token = Tokens(config.load(environ)).issue("root", 3600, admin=True)
    taken = []
    for _ in range(options.rounds):
        port = common.free_port()
        command = common.gunicorn("web", f"127.0.0.1:{port}")
        with common.running(command, environ, common.listens(port)):
            url = f"http://127.0.0.1:{port}/api/admin/session/{token}?limit={PAGE}"
            taken.append(ask(url)[0])
    print(f"a worker that starts, with {options.first} sessions in the store")
    first = report.figure("an administrator's first page", taken, "ms")
    report.target("an administrator's first page, ms", first, at_most=500)


def pages(options: argparse.Namespace, report: common.Report, directory: Path) -> None:
    """Sorted pages, each over a list that has changed since the one before."""
    with ExitStack() as stack:
        ours, store, sessions, _ = stack.enter_context(
            product(directory / "product", options.sessions)
        )
        program = common.tool(options.datasette or "datasette")
        rows, _ = stack.enter_context(datasette(program, directory, sessions.values()))
        print(f"an administrator's list of {options.sessions}, a page of {PAGE}")
        ask(f"{ours.url}?limit={PAGE}")
        fresh = [ask(f"{ours.url}?{question(index, 0)[0]}")[0] for index in range(len(NAMES))]
        report.figure("a name that nobody had sorted by before", fresh, "ms")
        touched = iter(sessions.values())

        def change() -> None:
            session = next(touched)
            if store.set_params(session.id, session.login, {"touched": time.time()}) is None:
                raise common.BenchmarkError(f"session {session.id} is not there")

        def measured(ask_for: Callable[[int], str], changing: bool) -> Callable[[], float]:
            count = iter(range(10**9))

            def measure() -> float:
                if changing:
                    change()
                milliseconds, answer = ask(ask_for(next(count)))
                if len(answer) != PAGE:
                    raise common.BenchmarkError(f"this is no page of {PAGE}: {answer!r:.300}")
                return milliseconds

            return measure

        def theirs(index: int) -> str:
            return f"{rows.url.split('?')[0]}?{question(index, 0)[1]}"

        def page(index: int) -> str:
            return f"{ours.url}?{question(index, 0)[0]}"

        def deep(index: int) -> str:
            return f"{ours.url}?{question(index, options.sessions // 2 + index)[0]}"

        def filtered(index: int) -> str:
            return f"{page(index)}&filter=windowMode%3D%3Ddesktop"

        found = common.alternate(
            {
                "page": measured(page, True),
                "deep": measured(deep, True),
                "filtered": measured(filtered, True),
                "datasette": measured(theirs, False),
            },
            options.rounds * len(NAMES) * 2,
        )
        report.figure("a sorted page, after a change", found["page"], "ms")
        report.figure("  99 of 100 within", [common.percentile(found["page"], 99)], "ms")
        report.figure("a page from the middle, after a change", found["deep"], "ms")
        report.figure("a filtered and sorted page, after a change", found["filtered"], "ms")
        report.figure("Datasette, a sorted page, nothing changing", found["datasette"], "ms")
        report.target("a sorted page, ms", statistics.median(found["page"]), at_most=60)
        of_rows = report.figure(
            "Datasette : the list, of each round",
            common.ratios(found["datasette"], found["page"]),
            "times",
        )
        report.target("Datasette : a sorted page", of_rows, at_least=5)


def poll(options: argparse.Namespace, report: common.Report, directory: Path) -> None:
    """The page once more, with ``If-None-Match``, while nothing changes."""
    load = options.seconds, options.connections
    with ExitStack() as stack:
        ours, _, _, _ = stack.enter_context(product(directory / "polled", options.sessions))
        url = f"{ours.url}?sortBy=login&limit={PAGE}"
        with urllib.request.urlopen(url, timeout=60) as response:
            tag, body = response.headers["ETag"], response.read()
        script = directory / "poll.lua"
        script.write_text(f"wrk.headers['If-None-Match'] = '{tag}'\n")
        plain = stack.enter_context(bare(directory, body, workers=1))
        ours, plain = (
            common.Server(url, ours.pid),
            common.Server(f"{plain.url}?sortBy=login&limit={PAGE}", plain.pid),
        )
        for server in (ours, plain):
            common.wrk(server, 1, options.connections, script)
        found = common.alternate(
            {
                "ours": lambda: common.wrk(ours, *load, script),
                "bare": lambda: common.wrk(plain, *load, script),
            },
            options.rounds,
        )
        print("the same page, polled with If-None-Match")
        for name, loads in (
            ("the list, 304", found["ours"]),
            ("bare Flask route, the same bytes", found["bare"]),
        ):
            report.figure(name, [load.rate for load in loads], "requests/s")
        rates = common.ratios(
            [load.rate for load in found["ours"]], [load.rate for load in found["bare"]]
        )
        report.target(
            "the list : bare route",
            report.figure("the list : bare route, of each round", rates, "times"),
            at_least=0.9,
        )


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.sessions, options.first, options.rounds, options.seconds = 2000, 2000, 1, 1
    report = common.Report("Large lists", options.quick)
    with common.work_dir() as directory:
        starts(options, report, directory / "starts")
        if options.part == "starts":
            return report.status()
        pages(options, report, directory)
        poll(options, report, directory)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--sessions",
        type=common.whole(1000, 1_000_000),
        default=50_000,
        help="in the store (%(default)s)",
    )
    parser.add_argument(
        "--first",
        type=common.whole(1000, 1_000_000),
        default=100_000,
        help="in the store of a worker that starts (%(default)s)",
    )
    parser.add_argument("--part", choices=("all", "starts"), default="all", help="(%(default)s)")
    parser.add_argument("--rounds", type=common.whole(1, 100), default=5, help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=common.whole(1, 60), default=4, help="of load in each round (%(default)s)"
    )
    parser.add_argument(
        "--connections", type=common.whole(1, 1000), default=8, help="(%(default)s)"
    )
    parser.add_argument(
        "--datasette", metavar="PROGRAM", help="path of datasette, if it is installed elsewhere"
    )
    common.main(run, parser)
