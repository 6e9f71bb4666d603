"""10,000 clients that connect all at once, as after a restart: is everyone served, how soon, and
does the list go on answering?

Beside websockets' ``broadcast`` server and Nchan (Debian: libnginx-mod-nchan), which have no list
to send at first.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench import common, peers
from tests.bench.crowd import MAX_CLIENTS, Crowd
from tests.bench.fanout import SERVERS

NAMES = ("ours", "ours-2", "websockets-plain", "nchan")
MAX_OF_WEBSOCKETS = 1.0
MAX_OF_ONE_WORKER = 0.6
LIST_EVERY_SECONDS = 0.05
QUIET_SECONDS = 2.0
WARM_UP = 20  # requests, so that each worker has answered one


class Storm(NamedTuple):
    """How one storm went: seconds until half, 99 of 100 and all were served, failures, and
    microseconds of the server's processor time for each client, and milliseconds of each list
    meanwhile."""

    p50: float
    p99: float
    all: float
    failed: int
    overflows: int
    cost: float
    quiet: list[float]
    lists: list[float]


@contextmanager
def asking(url: str) -> Iterator[list[float]]:
    """Ask for the list now and then while the block runs; fills in how many milliseconds each
    answer took."""
    taken: list[float] = []
    over = threading.Event()
    problems: list[Exception] = []

    def ask() -> None:
        while not over.wait(LIST_EVERY_SECONDS):
            began = time.perf_counter()
            try:
                common.get(url)
            except OSError as error:
                problems.append(error)
                return
            taken.append((time.perf_counter() - began) * 1000)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()
    if problems or not taken:
        raise common.BenchmarkError(f"the list did not answer: {problems}")


def overflows() -> int:
    """Return how many connections this machine's kernel has turned away because a backlog was full;
    they try again."""
    names, values = (
        line.split()[1:] for line in Path("/proc/net/netstat").read_text().splitlines()[:2]
    )
    return int(dict(zip(names, values, strict=True))["ListenOverflows"])


def storm(name: str, options: argparse.Namespace) -> Storm:
    with ExitStack() as stack:
        directory = stack.enter_context(common.work_dir())
        peer = stack.enter_context(SERVERS[name][1](directory))
        crowd = stack.enter_context(Crowd())
        quiet: list[float] = []
        beside: AbstractContextManager[list[float]] = nullcontext([])
        if name == "ours":
            url = stack.enter_context(peers.http_list(directory)) + common.issue(
                directory, common.login_name(0)
            )
            for _ in range(WARM_UP):
                common.get(url)
            with asking(url) as quiet:
                time.sleep(QUIET_SECONDS)
            beside = asking(url)
        before, used = overflows(), common.used(peer.pid, children=True)
        with beside as lists:
            connected = crowd.connect(
                peer.port,
                [peer.target] * options.connections,
                at_once=options.connections,
                first=peer.first,
            )
        for reason, count in connected.failed.items():
            print(f"  {SERVERS[name][0]}, not served: {count} times {reason}")
        seconds = [*connected.seconds, *[float("inf")] * connected.failed.total()]
        return Storm(
            statistics.median(seconds),
            common.percentile(seconds, 99),
            max(seconds),
            connected.failed.total(),
            overflows() - before,
            (common.used(peer.pid, children=True) - used) / options.connections * 1e6,
            quiet,
            lists,
        )


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.connections, options.rounds = 300, 1
    report = common.Report("A storm of WebSockets", options.quick)
    found = common.alternate(
        {name: partial(storm, name, options) for name in NAMES}, options.rounds
    )
    print(
        f"{options.connections} connections at once; the sidecar sends each of them"
        f" {peers.SESSIONS} sessions"
    )
    for name, storms in found.items():
        print(SERVERS[name][0])
        report.figure("half of them are served within", [each.p50 for each in storms], "s")
        report.figure("99 of 100", [each.p99 for each in storms], "s")
        report.figure("all", [each.all for each in storms], "s")
        report.figure("processor time of the server", [each.cost for each in storms], "µs a client")
        report.figure(
            "connections that the backlog turned away at first",
            [each.overflows for each in storms],
            "",
        )
    print("the list over HTTP, asked 20 times a second meanwhile")
    storms = found["ours"]
    for what, lists in (
        ("before", [each.quiet for each in storms]),
        ("in the storm", [each.lists for each in storms]),
    ):
        report.figure(f"{what}: median", [statistics.median(taken) for taken in lists], "ms")
        report.figure(f"{what}: the slowest answer", [max(taken) for taken in lists], "ms")
    report.target(
        "clients of the sidecar that were not served",
        sum(each.failed for each in storms),
        at_most=0,
    )
    for of, beside, at_most in (
        ("ours", "websockets-plain", MAX_OF_WEBSOCKETS),
        ("ours-2", "ours", MAX_OF_ONE_WORKER),
    ):
        times = ([each.all for each in found[name]] for name in (of, beside))
        report.target(
            f"all served, {SERVERS[of][0]} : {SERVERS[beside][0]}",
            statistics.median(common.ratios(*times)),
            at_most=at_most,
        )
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--connections", type=common.whole(10, MAX_CLIENTS), default=10_000, help="(%(default)s)"
    )
    parser.add_argument("--rounds", type=common.whole(1, 100), default=3, help="(%(default)s)")
    common.main(run, parser)
