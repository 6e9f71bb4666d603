"""One change to 10,000 WebSockets: the sidecar beside websockets' ``broadcast``, Nchan and
flask-sock.

Needs nginx with Nchan (Debian: libnginx-mod-nchan).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench import common, peers
from tests.bench.clients import COMPRESSED
from tests.bench.crowd import MAX_CLIENTS, Crowd

MESSAGE_SECONDS = 60.0
HOLD_CHANGE_SECONDS = 20.0
MAX_OF_BROADCAST = 1.5
MAX_OF_NCHAN = 0.95
MAX_OF_NCHAN_WITH_TWO = 1.1
MAX_KIB = 32.0

SERVERS: Mapping[str, tuple[str, Callable[[Path], AbstractContextManager[peers.Peer]]]] = {
    "ours": ("the sidecar", peers.ours),
    "ours-plain": ("the sidecar, to clients that offer no compression", peers.ours),
    "ours-2": ("the sidecar, two workers", partial(peers.ours, workers=2)),
    "websockets": ("websockets, as it comes", peers.websockets),
    "websockets-plain": ("websockets without compression", peers.websockets_plain),
    "nchan": ("Nchan", peers.nchan),
    "nchan-2": ("Nchan, two workers", partial(peers.nchan, workers=2)),
    "flask-sock": ("flask-sock on gevent", peers.flask_sock),
}


class Taken(NamedTuple):
    """Milliseconds that one message took to half of the clients, to 99 of 100, and from the first
    to the last."""

    p50: float
    p99: float
    spread: float


class Subject:
    """A server with everyone connected to it."""

    def __init__(self, name: str, peer: peers.Peer, crowd: Crowd, clients: int) -> None:
        self.title = SERVERS[name][0]
        self._peer, self._crowd, self._clients = peer, crowd, clients
        self._before = peers.settled_memory(peer.pid)
        self.seconds = max(
            crowd.connect_all(
                peer.port, [peer.target] * clients, first=peer.first, deflates=name != "ours-plain"
            ).seconds
        )
        self.connected = self.kib()
        self._number = 0
        self._used = 0.0
        self.send()  # before the first message a server has not yet sent anything to anyone

    def send(self) -> Taken:
        """Send one message to all; it is an error if anyone does not get it, or not as it was
        sent."""
        before = common.used(self._peer.pid, children=True)
        began = self._peer.publish(self._number)
        arrivals = self._crowd.collect(self._clients, MESSAGE_SECONDS)
        self._used += common.used(self._peer.pid, children=True) - before
        numbers = set(arrivals.numbers)
        if len(set(arrivals.clients)) != self._clients or numbers not in (
            {self._number},
            {COMPRESSED},
        ):
            raise common.BenchmarkError(
                f"{self.title}: {len(arrivals.times)} messages came to {self._clients} clients;"
                f" lost: {dict(self._crowd.lost())}"
            )
        self._number += 1
        self.compresses = numbers == {COMPRESSED}
        taken = [(each - began) / 1e6 for each in arrivals.times]
        return Taken(
            common.percentile(taken, 50), common.percentile(taken, 99), max(taken) - min(taken)
        )

    def cost(self) -> float:
        """Return the microseconds of processor time that the server, with the kernel for it, took
        for each client of a message."""
        return self._used / self._number / self._clients * 1e6

    def kib(self) -> float:
        """Return the KiB of memory that each connection now costs the server."""
        return (peers.settled_memory(self._peer.pid) - self._before) / 1024 / self._clients


class Found(NamedTuple):
    """What one server did."""

    taken: list[Taken]
    cost: float  # microseconds of processor time for each client
    kib: float  # with all connected, or after the messages, whichever is more

    @property
    def p99(self) -> list[float]:
        return [each.p99 for each in self.taken]


def measure(
    options: argparse.Namespace, report: common.Report, names: Sequence[str]
) -> dict[str, Found]:
    """Run the servers side by side, all connected, and have them send in turns."""
    pause = random.Random(1)

    def send(subject: Subject) -> Taken:
        # So that changes come at any moment of the sidecar's waiting
        time.sleep(pause.uniform(0.1, 0.3))
        return subject.send()

    with ExitStack() as stack:
        subjects = {}
        for name in names:
            directory = stack.enter_context(common.work_dir())
            peer = stack.enter_context(SERVERS[name][1](directory))
            subjects[name] = Subject(name, peer, stack.enter_context(Crowd()), options.connections)
        taken = common.alternate(
            {name: partial(send, subject) for name, subject in subjects.items()}, options.rounds
        )
        print(
            f"{options.connections} connections that offer compression, {len(peers.message(1))}"
            " bytes to each"
        )
        found = {}
        for name, subject in subjects.items():
            print(subject.title + (", which compresses the messages" if subject.compresses else ""))
            for member, what in (
                ("p50", "50 of 100 within"),
                ("p99", "99 of 100 within"),
                ("spread", "from first client to last"),
            ):
                report.figure(what, [getattr(each, member) for each in taken[name]], "ms")
            report.figure("processor time of the server for each client", [subject.cost()], "µs")
            used = subject.kib()
            report.figure(
                "memory of the server, all connected", [subject.connected], "KiB a connection"
            )
            report.figure("memory of the server, after the messages", [used], "KiB a connection")
            report.figure("all connected, 200 at a time, within", [subject.seconds], "s")
            found[name] = Found(taken[name], subject.cost(), max(subject.connected, used))
    return found


def hold(report: common.Report, options: argparse.Namespace) -> None:
    """Keep everyone connected to the sidecar, with pings, and a change now and then; count who is
    lost."""
    lost, missed, worst, number = 0, 0, [0.0], 0
    with common.work_dir() as directory, peers.ours(directory) as peer, Crowd() as crowd:
        before = peers.settled_memory(peer.pid)
        crowd.connect_all(peer.port, [peer.target] * options.connections, first=peer.first)
        deadline = time.monotonic() + options.hold * 60
        while time.monotonic() < deadline:
            began = peer.publish(number)
            arrivals = crowd.collect(options.connections, MESSAGE_SECONDS)
            missed += options.connections - len(set(arrivals.clients))
            worst.append(max(arrivals.times, default=began) / 1e6 - began / 1e6)
            number += 1
            time.sleep(max(0.0, min(HOLD_CHANGE_SECONDS, deadline - time.monotonic())))
        kib = (peers.memory(peer.pid) - before) / 1024 / options.connections
        lost = crowd.lost().total()
    print(
        f"{options.connections} connections held for {options.hold} minutes, with {number} changes"
        " to all"
    )
    report.figure("memory at the end", [kib], "KiB a connection")
    report.figure("the last client has a change within", [max(worst)], "ms")
    report.target("connections lost", lost, at_most=0)
    report.target("messages missed", missed, at_most=0)


def judge(report: common.Report, found: Mapping[str, Found]) -> None:
    """Set the sidecar beside the others, round by round."""
    print("the sidecar's 99 of 100, beside that of the others in the same round")
    mine = found["ours"]
    ratio = {name: common.ratios(mine.p99, other.p99) for name, other in found.items()}
    for name in found:
        if name != "ours":
            report.figure(f": {SERVERS[name][0]}", ratio[name], "times")
    broadcasts = [statistics.median(ratio[name]) for name in found if name.startswith("websockets")]
    if broadcasts:
        report.target(
            "the sidecar : the faster of the websockets", max(broadcasts), at_most=MAX_OF_BROADCAST
        )
    if "nchan" in found:
        report.target(
            "the sidecar : Nchan", statistics.median(ratio["nchan"]), at_most=MAX_OF_NCHAN
        )
        report.target(
            "processor time a client, the sidecar : Nchan",
            mine.cost / found["nchan"].cost,
            at_most=1.0,
        )
    if "nchan-2" in found and "ours-2" in found:
        report.target(
            "two workers each, the sidecar : Nchan",
            statistics.median(common.ratios(found["ours-2"].p99, found["nchan-2"].p99)),
            at_most=MAX_OF_NCHAN_WITH_TWO,
        )
    report.target("KiB a connection", mine.kib, at_most=MAX_KIB)


def save(path: Path, options: argparse.Namespace, found: Mapping[str, Found]) -> None:
    """Write what ``tests.bench.plot`` draws."""
    servers = [
        {"name": SERVERS[name][0], "p99": each.p99, "kib": each.kib} for name, each in found.items()
    ]
    path.write_text(
        json.dumps({"connections": options.connections, "servers": servers}, indent=1) + "\n"
    )


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.connections, options.rounds, options.hold = 300, 2, min(options.hold, 0.1)
    unknown = set(options.servers) - set(SERVERS)
    if unknown:
        raise common.BenchmarkError(
            f"--servers takes {', '.join(SERVERS)}, not {', '.join(unknown)}"
        )
    report = common.Report("One change to all WebSockets", options.quick)
    if options.rounds:
        found = measure(
            options,
            report,
            ["ours", *(name for name in SERVERS if name in options.servers and name != "ours")],
        )
        judge(report, found)
        if options.save:
            save(options.save, options, found)
    if options.hold:
        hold(report, options)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--connections", type=common.whole(10, MAX_CLIENTS), default=10_000, help="(%(default)s)"
    )
    parser.add_argument(
        "--rounds",
        type=common.whole(0, 100),
        default=30,
        help="messages of each server (%(default)s)",
    )
    parser.add_argument(
        "--servers",
        nargs="+",
        metavar="NAME",
        default=list(SERVERS),
        help=f"of {', '.join(SERVERS)} (all)",
    )
    parser.add_argument(
        "--hold",
        type=float,
        metavar="MINUTES",
        default=0,
        help="keep the connections for so long, then (10)",
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="write the figures, for tests.bench.plot"
    )
    common.main(run, parser)
